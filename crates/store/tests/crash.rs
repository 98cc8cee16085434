//! The server is killed while it writes: what it acknowledged is there, and what is there is whole.
//!
//! The test runs itself as the server, reads what that acknowledged, and kills it at another point in every round.

#[path = "common/postgres.rs"]
mod database;

use std::{
    collections::BTreeSet,
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use database::TestDatabase;
use futures_util::future::try_join_all;
use pipekeeper_engine::{Effect, Event, Fact};
use pipekeeper_model::{Actor, AttemptId, NodeId, RunId, Timestamp};
use pipekeeper_store::{
    Accepted, Commit, DeliveryId, DeliveryOutcome, DeliverySettlement, NewDelivery, PostgresStore, RunFilter,
    RunSummary, SqliteStore, Store,
};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The path of an SQLite database, or the address of a Postgres one.
const DATABASE: &str = "PIPEKEEPER_CRASH_TEST_DATABASE";
const ROUNDS: usize = 20;
/// Fewer, since the database itself lives on.
const POSTGRES_ROUNDS: usize = 8;
const WRITERS: u64 = 8;

#[test]
fn every_acknowledged_write_survives_a_kill() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pipe.db");
    let path = path.to_str().ok_or("a path in UTF-8")?;
    for acknowledged in Rounds::new(path, ROUNDS) {
        runtime()?.block_on(async {
            let store = SqliteStore::open(path).await?;
            check(&store, &acknowledged?).await?;
            let mut connection = SqliteConnectOptions::new().filename(path).connect().await?;
            let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
                .fetch_one(&mut connection)
                .await?;
            assert_eq!(whole, "ok");
            Fallible::Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn every_write_that_postgres_acknowledged_survives_a_kill_of_the_writer() -> Fallible<()> {
    let Some(database) = runtime()?.block_on(TestDatabase::make()) else {
        return Ok(());
    };
    for acknowledged in Rounds::new(database.address(), POSTGRES_ROUNDS) {
        runtime()?.block_on(async {
            let store = PostgresStore::open(&database.address().parse()?).await?;
            check(&store, &acknowledged?).await
        })?;
    }
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Servers that are killed one after the other, each with what it acknowledged; the last with all that was acknowledged.
struct Rounds<'a> {
    database: &'a str,
    rounds: usize,
    round: usize,
    acknowledged: Vec<String>,
}

impl<'a> Rounds<'a> {
    fn new(database: &'a str, rounds: usize) -> Self {
        Self {
            database,
            rounds,
            round: 0,
            acknowledged: Vec::new(),
        }
    }
}

impl Iterator for Rounds<'_> {
    type Item = Fallible<Vec<String>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.round == self.rounds {
            return None;
        }
        // From "while it starts to write" to "after some hundred writes", at another place in a transaction each time.
        let written = write_until_killed(self.database, self.round * 17);
        self.round += 1;
        Some(written.map(|written| {
            assert!(!written.is_empty(), "round {} wrote nothing", self.round);
            self.acknowledged.extend(written.iter().cloned());
            if self.round == self.rounds {
                self.acknowledged.clone()
            } else {
                written
            }
        }))
    }
}

/// Runs a server on the database, kills it after this many acknowledgements, and returns all that it gave.
fn write_until_killed(database: &str, after: usize) -> Fallible<Vec<String>> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["--exact", "server_for_the_crash_test", "--nocapture"])
        .env(DATABASE, database)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = server.stdout.take().ok_or("it has an output")?;
    let mut lines = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        // The last line may be cut: a whole one ends in a dot.
        let Some(line) = line.strip_prefix("ack ").and_then(|line| line.strip_suffix('.')) else {
            continue;
        };
        lines.push(line.to_owned());
        if lines.len() == after + 1 {
            server.kill()?;
        }
    }
    server.wait()?;
    Ok(lines)
}

async fn check(store: &impl Store, acknowledged: &[String]) -> Fallible<()> {
    for line in acknowledged {
        let (kind, rest) = line.split_once(' ').ok_or("a kind")?;
        let (first, second) = rest.split_once(' ').ok_or("two words")?;
        if kind == "delivery" {
            let stored = store.delivery(DeliveryId(first.parse()?)).await?;
            let stored = stored.ok_or_else(|| format!("delivery {first} is lost"))?;
            assert_eq!(stored.received.forge_id, second);
            assert_eq!(stored.received.body.len(), 8_192);
        } else {
            let stored = store.load(RunId(first.parse()?)).await?;
            let stored = stored.ok_or_else(|| format!("run {first} is lost"))?;
            assert!(stored.version >= second.parse()?, "{line}: {}", stored.version);
        }
    }
    let effects = store.effects(None, u32::MAX).await?;
    let launched: BTreeSet<_> = effects.into_iter().map(|effect| effect.run).collect();
    for summary in store.runs(&RunFilter::default(), u32::MAX).await? {
        let stored = store.load(summary.id).await?.ok_or("a listed run is stored")?;
        assert_eq!(u64::try_from(stored.tail.len())?, stored.version);
        assert_eq!(stored.version % 2, 0, "a commit is whole or absent");
        let delivery = store.delivery(DeliveryId(summary.subject.parse()?)).await?;
        let outcome = delivery.and_then(|delivery| delivery.outcome);
        assert!(
            matches!(outcome, Some(DeliveryOutcome::Ran { .. })),
            "a run without its delivery"
        );
        assert!(launched.contains(&summary.id), "a run without its effect");
    }
    store.close().await;
    Ok(())
}

/// Not a test of its own: the process that the test kills.
#[tokio::test]
async fn server_for_the_crash_test() -> Fallible<()> {
    let Ok(database) = std::env::var(DATABASE) else {
        return Ok(());
    };
    match database.parse() {
        Ok(url) => write(&PostgresStore::open(&url).await?).await,
        Err(_) => write(&SqliteStore::open(database).await?).await,
    }
}

async fn write(store: &impl Store) -> Fallible<()> {
    let first = store.last_run().await?;
    let writers = (1..=WRITERS).map(|writer| write_forever(store, first, writer));
    try_join_all(writers).await?;
    Ok(())
}

async fn write_forever(store: &impl Store, first: u64, writer: u64) -> Fallible<()> {
    for number in 0.. {
        let run = first + writer + number * WRITERS;
        let received = NewDelivery {
            project: "mall".parse()?,
            forge_id: format!("{run}-{writer}"),
            event: "push".to_owned(),
            received_at: Timestamp(1),
            body: vec![b'x'; 8_192],
        };
        let forge_id = received.forge_id.clone();
        let (Accepted::New(delivery) | Accepted::Duplicate(delivery)) =
            store.accept_delivery(received).await?;
        acknowledge(&format!("delivery {} {forge_id}", delivery.0))?;
        store.commit(creation(run, delivery)?).await?;
        acknowledge(&format!("run {run} 2"))?;
        let mut more = creation(run, delivery)?;
        more.expected = 2;
        more.delivery = None;
        store.commit(more).await?;
        acknowledge(&format!("run {run} 4"))?;
    }
    Ok(())
}

fn acknowledge(what: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("ack {what}.\n").as_bytes())?;
    output.flush()
}

fn creation(run: u64, delivery: DeliveryId) -> Fallible<Commit> {
    let id = RunId(run);
    let node = NodeId(0);
    let event = Event {
        at: Timestamp(1),
        actor: Actor::System,
        fact: Fact::NodeReadied { node },
    };
    let attempt = AttemptId {
        run: id,
        node,
        number: 1,
    };
    Ok(Commit {
        summary: RunSummary {
            id,
            project: "mall".parse()?,
            pipeline: "web".parse()?,
            event: "push".to_owned(),
            git_ref: None,
            sha: None,
            subject: delivery.0.to_string(),
            actor: Actor::System,
            created_at: Timestamp(1),
            finished_at: None,
            outcome: None,
            phase: "running".to_owned(),
            needs_person: false,
            group: None,
            next_deadline: None,
        },
        expected: 0,
        events: vec![event.clone(), event],
        snapshot: None,
        effects: vec![Effect::LaunchAttempt { attempt }],
        settled: Vec::new(),
        delivery: Some(DeliverySettlement {
            delivery,
            outcome: DeliveryOutcome::Ran {
                runs: vec![id],
                notes: Vec::new(),
            },
            moved: None,
        }),
    })
}
