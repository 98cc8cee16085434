//! Ten thousand clients, most of which hang up somewhere in the middle: what was acknowledged is there, and the server serves on.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Mutex,
    thread,
    time::Duration,
};

use pipekeeper_store::{PostgresStore, SqliteStore, Store, StoreError};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::{
    client::Client,
    database::TestDatabase,
    driver::wait_until,
    place::{Delivery, Place, Scenario},
    server::Server,
    verify::equal,
};

const CLIENTS: u32 = 10_000;
/// Clients at the same time.
const AT_ONCE: u32 = 32;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client does.
#[derive(Clone, Copy)]
enum Manner {
    /// Hangs up in the middle of its request.
    CutShort,
    /// Hangs up once its request is sent.
    Gone,
    /// Looks at a page, and not to its end.
    Glance,
    /// Waits for the answer.
    Patient,
}

fn manner() -> Manner {
    match random() % 10 {
        0..=3 => Manner::CutShort,
        4..=5 => Manner::Gone,
        6 => Manner::Glance,
        _ => Manner::Patient,
    }
}

fn random() -> usize {
    usize::try_from(getrandom::u32().unwrap()).unwrap()
}

#[test]
fn slow_clients_that_hang_up_take_nothing_with_them() {
    let place = Place::make(Scenario::Finish);
    let server = Server::start(&place, None).unwrap();
    let acknowledged = storm(&place, &server.client());
    serves_on(&place, &server.client()).unwrap();
    server.stop().unwrap();
    let kept = in_runtime(async {
        let store = SqliteStore::open(place.data().join("pipekeeper.db"))
            .await
            .unwrap();
        let kept = kept(&store).await.unwrap();
        store.close().await;
        kept
    });
    compare(&acknowledged, &kept);
}

#[test]
fn slow_clients_that_hang_up_take_nothing_with_them_from_postgres() {
    let Some(database) = in_runtime(TestDatabase::make()) else {
        return;
    };
    let place = Place::make(Scenario::Finish);
    place.use_database(database.address());
    let server = Server::start(&place, None).unwrap();
    let acknowledged = storm(&place, &server.client());
    serves_on(&place, &server.client()).unwrap();
    wait_until("no connection stays in a transaction", || {
        Ok(in_runtime(in_transactions(database.address())) == 0)
    })
    .unwrap();
    server.stop().unwrap();
    let kept = in_runtime(async {
        let store = PostgresStore::open(&database.address().parse().unwrap())
            .await
            .unwrap();
        let kept = kept(&store).await.unwrap();
        store.close().await;
        kept
    });
    compare(&acknowledged, &kept);
}

/// Lets all clients come; answers whose deliveries were acknowledged, by their forge ids.
fn storm(place: &Place, client: &Client) -> BTreeSet<String> {
    let acknowledged = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let acknowledged = &acknowledged;
            scope.spawn(move || {
                for number in (first..CLIENTS).step_by(usize::try_from(AT_ONCE).unwrap()) {
                    let delivery = place.end_of(&format!("branch-{number}"));
                    if visit(client, &delivery) == Some(202) {
                        acknowledged.lock().unwrap().insert(id_of(&delivery));
                    }
                }
            });
        }
    });
    acknowledged.into_inner().unwrap()
}

/// The status that a client saw, if it stayed for it.
fn visit(client: &Client, delivery: &Delivery) -> Option<u16> {
    let manner = manner();
    let request = match manner {
        Manner::Glance => client.request("GET", "/", &[], &[]),
        Manner::CutShort | Manner::Gone | Manner::Patient => {
            client.request("POST", &client.hook, &delivery.headers, &delivery.body)
        }
    };
    let mut stream = TcpStream::connect(&client.address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let sent = match manner {
        Manner::CutShort => random() % request.len(),
        Manner::Gone | Manner::Glance | Manner::Patient => request.len(),
    };
    stream.write_all(&request[..sent]).ok()?;
    match manner {
        Manner::CutShort | Manner::Gone => None,
        Manner::Glance => {
            let _ = stream.read(&mut [0; 64]);
            None
        }
        Manner::Patient => {
            let mut head = [0; 12];
            stream.read_exact(&mut head).ok()?;
            String::from_utf8_lossy(&head).split(' ').nth(1)?.parse().ok()
        }
    }
}

/// As many as the server serves at once are answered, and everything that came has its outcome.
fn serves_on(place: &Place, client: &Client) -> Result<(), String> {
    let answered = thread::scope(|scope| {
        let asking: Vec<_> = (0..64)
            .map(|number| {
                let delivery = place.end_of(&format!("late-{number}"));
                scope.spawn(move || client.deliver(&delivery).map(|answer| answer.status))
            })
            .collect();
        let answers = asking
            .into_iter()
            .map(|one| one.join().unwrap().unwrap_or_default());
        answers.filter(|status| *status == 202).count()
    });
    equal("deliveries that are taken afterwards", &answered, &64)?;
    wait_until("every delivery has its outcome", || {
        Ok(all_settled(client).unwrap_or(false))
    })
}

/// Whether no delivery waits, on any page.
fn all_settled(client: &Client) -> std::io::Result<bool> {
    let mut path = "/deliveries?limit=100".to_owned();
    loop {
        let page = client.get_json(&path)?;
        let deliveries = page["deliveries"].as_array().cloned().unwrap_or_default();
        let Some(last) = deliveries.last() else {
            return Ok(true);
        };
        if deliveries
            .iter()
            .any(|delivery| delivery["outcome"]["what"] == "waiting")
        {
            return Ok(false);
        }
        path = format!("/deliveries?limit=100&before={}", last["id"]);
    }
}

fn id_of(delivery: &Delivery) -> String {
    let header = delivery
        .headers
        .iter()
        .find(|(name, _)| name.ends_with("-delivery"));
    header.unwrap().1.clone()
}

/// The forge ids of all deliveries, each of which must have its outcome.
async fn kept(store: &impl Store) -> Result<BTreeSet<String>, StoreError> {
    let mut kept = BTreeSet::new();
    let mut before = None;
    loop {
        let page = store.deliveries(None, before, 1_000).await?;
        let Some(last) = page.last() else { return Ok(kept) };
        before = Some(last.id);
        for delivery in page {
            assert!(delivery.outcome.is_some(), "delivery {} waits", delivery.id.0);
            kept.insert(delivery.received.forge_id);
        }
    }
}

fn compare(acknowledged: &BTreeSet<String>, kept: &BTreeSet<String>) {
    let lost: Vec<&String> = acknowledged.difference(kept).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let some = usize::try_from(CLIENTS / 5).unwrap();
    assert!(
        acknowledged.len() > some,
        "only {} were acknowledged",
        acknowledged.len()
    );
}

/// Connections that hold a transaction open for longer than a write takes.
async fn in_transactions(address: &str) -> i64 {
    let options: PgConnectOptions = address.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND state LIKE 'idle in transaction%' AND state_change < now() - interval '2 seconds'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap()
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(work)
}
