//! The server is killed while it writes: what it acknowledged is there, and what is there is whole.
//!
//! The test runs itself as the server, reads what that acknowledged, and kills it at another point in every round.

use std::{
    collections::BTreeSet,
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use futures_util::future::try_join_all;
use pipekeeper_engine::{Effect, Event, Fact};
use pipekeeper_model::{Actor, AttemptId, NodeId, RunId, Timestamp};
use pipekeeper_store::{
    Accepted, Commit, DeliveryId, DeliveryOutcome, DeliverySettlement, NewDelivery, RunFilter, RunSummary,
    SqliteStore, Store,
};
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};

type Fallible<T> = Result<T, Box<dyn Error>>;

const DATABASE: &str = "PIPEKEEPER_CRASH_TEST_DATABASE";
const ROUNDS: usize = 20;
const WRITERS: u64 = 8;

#[test]
fn every_acknowledged_write_survives_a_kill() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pipe.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        // From "while it starts to write" to "after some hundred writes", at another place in a transaction each time.
        let before = acknowledged.len();
        acknowledged.extend(write_until_killed(&path, round * 17)?);
        assert!(acknowledged.len() > before, "round {round} wrote nothing");
        runtime.block_on(check(&path, &acknowledged))?;
    }
    Ok(())
}

/// Runs a server on the database, kills it after this many acknowledgements, and returns all that it gave.
fn write_until_killed(path: &Path, after: usize) -> Fallible<Vec<String>> {
    let mut server = Command::new(std::env::current_exe()?)
        .args(["--exact", "server_for_the_crash_test", "--nocapture"])
        .env(DATABASE, path)
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

async fn check(path: &Path, acknowledged: &[String]) -> Fallible<()> {
    let store = SqliteStore::open(path).await?;
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
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await?;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await?;
    assert_eq!(whole, "ok");
    Ok(())
}

/// Not a test of its own: the process that the test kills.
#[tokio::test]
async fn server_for_the_crash_test() -> Fallible<()> {
    let Some(path) = std::env::var_os(DATABASE) else {
        return Ok(());
    };
    let store = SqliteStore::open(path).await?;
    let first = store.last_run().await?;
    let writers = (1..=WRITERS).map(|writer| write_forever(&store, first, writer));
    try_join_all(writers).await?;
    Ok(())
}

async fn write_forever(store: &SqliteStore, first: u64, writer: u64) -> Fallible<()> {
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
