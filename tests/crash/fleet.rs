//! Several servers of one database and one data folder, and what they are given to do.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::{
    client::Client,
    database::TestDatabase,
    driver::wait_until,
    place::{Delivery, Place, Scenario},
    server::Server,
    verify::{equal, tickets},
};

/// The actions of each run.
const ACTIONS: [&str; 4] = ["one", "two", "three", "last"];

/// The servers. Those that were killed leave an empty place.
pub(crate) struct Fleet {
    servers: Vec<Option<Server>>,
    pub(crate) place: Place,
    /// Dropped last, when nobody uses it any more.
    _database: TestDatabase,
}

impl Fleet {
    /// Starts so many servers; none if there is no Postgres server to test with.
    pub(crate) fn start(count: usize) -> Option<Self> {
        Self::of(count, include_str!("fleet.yaml"))
    }

    /// The same with this pipeline.
    pub(crate) fn of(count: usize, pipeline: &str) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let database = runtime.unwrap().block_on(TestDatabase::make())?;
        let place = Place::with(Scenario::Finish, pipeline, |_| "trusted = true\n".to_owned());
        place.use_database(database.address());
        let servers = (0..count).map(|_| Some(Server::start(&place, None).unwrap()));
        Some(Self {
            servers: servers.collect(),
            place,
            _database: database,
        })
    }

    pub(crate) fn server(&mut self, place: usize) -> &mut Server {
        self.servers[place].as_mut().unwrap()
    }

    /// A server in this place again.
    pub(crate) fn start_again(&mut self, place: usize) {
        self.servers[place] = None;
        self.servers[place] = Some(Server::start(&self.place, None).unwrap());
    }

    /// Ends the server of this place in order.
    pub(crate) fn stop(&mut self, place: usize) -> Result<(), String> {
        self.servers[place].take().unwrap().stop()
    }

    /// Kills the server of this place.
    pub(crate) fn kill(&mut self, place: usize) {
        self.servers[place] = None;
    }

    pub(crate) fn signal(&mut self, place: usize, signal: Signal) {
        kill_process(self.server(place).pid(), signal).unwrap();
    }

    /// The clients of those who live.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.servers.iter().flatten().map(Server::client_now).collect()
    }

    /// The place of the server that performs, once one of these does.
    pub(crate) fn performer(&self, among: &[usize]) -> Result<usize, String> {
        let mut found = None;
        wait_until("somebody performs", || {
            found = among.iter().copied().find(|place| {
                let server = self.servers[*place].as_ref();
                server.is_some_and(|server| duty(&server.client()).is_ok_and(|duty| duty == "performing"))
            });
            Ok(found.is_some())
        })?;
        found.ok_or_else(|| "nobody performs".to_owned())
    }

    /// How long these take until one of them performs.
    pub(crate) fn take_over(&self, among: &[usize], since: Instant) -> Result<Duration, String> {
        self.performer(among).map(|_| since.elapsed())
    }

    /// Delivers pushes to branches of these numbers, to whoever takes them.
    pub(crate) fn deliver(&self, numbers: std::ops::Range<usize>) -> Result<(), String> {
        let clients = self.clients();
        for number in numbers {
            let delivery = self.place.push_to(&format!("branch-{number}"));
            deliver(&clients, number, &delivery)?;
        }
        Ok(())
    }

    /// Waits until there are so many runs and all have ended, then compares: each action had one ticket, and its user code ran
    /// once.
    pub(crate) fn settle(&self, runs: usize) -> Result<(), String> {
        let clients = self.clients();
        let client = clients.first().ok_or("nobody lives")?;
        let mut seen = Value::Null;
        wait_until("all runs end", || {
            seen = client.get_json("/runs?limit=100").unwrap_or_default();
            let all = seen["runs"].as_array().cloned().unwrap_or_default();
            Ok(all.len() == runs && all.iter().all(|run| !run["outcome"].is_null()))
        })
        .map_err(|error| format!("{error}: {seen}"))?;
        let mut wanted = Vec::new();
        for run in seen["runs"].as_array().into_iter().flatten() {
            let number = run["id"].as_u64().unwrap_or_default();
            equal(
                &format!("run {number}"),
                &run["outcome"],
                &Value::from("succeeded"),
            )?;
            let history = client
                .get_json(&format!("/runs/{number}/events?limit=500"))
                .map_err(|error| error.to_string())?;
            for action in ACTIONS {
                equal(
                    &format!("tickets of {action} of run {number}"),
                    &tickets(&history, action),
                    &1,
                )?;
                wanted.push(format!("{number} {action}"));
            }
        }
        wanted.sort();
        equal("what ran", &self.place.effects(), &wanted)?;
        self.deliveries(client, runs)
    }

    /// Each delivery made one run, or is known as the copy of one that did.
    fn deliveries(&self, client: &Client, runs: usize) -> Result<(), String> {
        let told = client
            .get_json("/deliveries?limit=100")
            .map_err(|error| error.to_string())?;
        let mut outcomes = BTreeMap::<String, usize>::new();
        for delivery in told["deliveries"].as_array().into_iter().flatten() {
            let what = delivery["outcome"]["what"].as_str().unwrap_or_default();
            *outcomes.entry(what.to_owned()).or_default() += 1;
        }
        outcomes.remove("duplicate_of");
        equal(
            "deliveries",
            &outcomes,
            &BTreeMap::from([("ran".to_owned(), runs)]),
        )
    }
}

/// What a server does at present.
pub(crate) fn duty(client: &Client) -> io::Result<String> {
    let answer = client.get_raw("/readyz")?;
    Ok(answer["duty"].as_str().unwrap_or_default().to_owned())
}

/// Delivers as a forge does that tries again, by turns.
fn deliver(clients: &[Client], first: usize, delivery: &Delivery) -> Result<(), String> {
    let mut turns = clients.iter().cycle().skip(first);
    wait_until("a delivery is taken", || {
        let client = turns.next().ok_or("nobody lives")?;
        Ok(client.deliver(delivery).is_ok_and(|answer| answer.status == 202))
    })
}
