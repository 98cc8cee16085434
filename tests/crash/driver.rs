//! Everybody else: the forge that sends until it is answered, the person who approves or cancels.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    client::Client,
    place::{Place, Scenario},
    server::Server,
};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the others have got done; it outlives servers.
pub(crate) struct Driver<'a> {
    place: &'a Place,
    acknowledged: usize,
}

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Underway,
    Ended,
}

impl<'a> Driver<'a> {
    pub(crate) fn new(place: &'a Place) -> Self {
        Self {
            place,
            acknowledged: 0,
        }
    }

    /// Goes on until the server dies by this signal; at `kill_at` it is killed.
    pub(crate) fn until_death(
        &mut self,
        mut server: Server,
        kill_at: Option<Instant>,
        signal: i32,
    ) -> Result<(), String> {
        let client = server.client();
        let mut status = None;
        wait_until("the server dies", || {
            if kill_at.is_some_and(|at| at <= Instant::now()) {
                server.kill();
            }
            // Whatever goes wrong now goes wrong because it dies, or shows in the end.
            let _ = self.go_on(&client);
            status = server.ended();
            Ok(status.is_some())
        })?;
        match status.and_then(|status| status.signal()) {
            Some(found) if found == signal => Ok(()),
            _ => Err(format!("the server ended otherwise: {status:?}")),
        }
    }

    /// Goes on until the run has ended.
    pub(crate) fn until_end(&mut self, server: &mut Server) -> Result<(), String> {
        let client = server.client();
        let mut last = String::new();
        wait_until("the run ends", || {
            match self.go_on(&client) {
                Ok(Progress::Ended) => return Ok(true),
                Ok(Progress::Underway) => last.clear(),
                Err(error) => last = error.to_string(),
            }
            match server.ended() {
                Some(status) => Err(format!("the server died by itself: {status}")),
                None => Ok(false),
            }
        })
        .map_err(|error| {
            let why = client.get_json("/runs/1/why").unwrap_or_default();
            format!("{error}; last trouble: `{last}`; {why}")
        })
    }

    /// Does what there is to do now.
    fn go_on(&mut self, client: &Client) -> io::Result<Progress> {
        for delivery in self.place.deliveries().iter().skip(self.acknowledged) {
            let answer = client.deliver(delivery)?;
            if answer.status != 202 {
                return Err(io::Error::other(format!(
                    "a delivery is answered with {}",
                    answer.status
                )));
            }
            self.acknowledged += 1;
        }
        let run = client.get_json("/runs/1")?;
        match run["phase"].as_str() {
            Some("finished") => return Ok(Progress::Ended),
            Some("running") if self.place.scenario == Scenario::Cancel => cancel(client)?,
            _ => {}
        }
        if let Some(subject) = open_gate(&run) {
            client.post("/runs/1/nodes/gate/approve", &json!({ "subject": subject }))?;
        }
        Ok(Progress::Underway)
    }
}

/// Cancels once both first actions are at work.
fn cancel(client: &Client) -> io::Result<()> {
    for name in ["chatter", "maker"] {
        let log = client.get(&format!("/runs/1/nodes/{name}/log"))?;
        if !String::from_utf8_lossy(&log).contains("\nworking\n") {
            return Ok(());
        }
    }
    client.post("/runs/1/cancel", &json!({})).map(drop)
}

fn open_gate(run: &Value) -> Option<&str> {
    let nodes = run["nodes"].as_array()?;
    let gate = nodes.iter().find(|node| node["name"] == "gate")?;
    gate["gate"]["subject"].as_str()
}

/// Looks again and again, ever more rarely.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    while !is_so()? {
        if deadline <= Instant::now() {
            return Err(format!("`{what}` did not come"));
        }
        thread::sleep(pause);
        pause = Duration::from_millis(20).min(pause * 2);
    }
    Ok(())
}
