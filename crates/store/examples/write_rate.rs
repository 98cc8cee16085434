//! How many deliveries a second the store accepts from 32 callers, beside a bare loop that commits the same rows in groups;
//! and how many commits a second 32 runs make.
//!
//! `cargo run --release -p pipekeeper-store --example write_rate [FOLDER]`; rounds of both take turns, so that a busy machine
//! slows both.

use std::{
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use pipekeeper_engine::{Effect, Event, Fact};
use pipekeeper_model::{Actor, AttemptId, NodeId, RunId, Timestamp};
use pipekeeper_store::{Accepted, Commit, NewDelivery, RunSummary, SqliteStore, Store};
use sqlx::{
    ConnectOptions as _, QueryBuilder, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

const CALLERS: usize = 32;
const ROUNDS: usize = 5;
const EACH: usize = 300;
const BODY: usize = 8 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(parent)?;
    let store = SqliteStore::open(folder.path().join("pipe.db")).await?;
    let mut bare = open_bare(&folder.path().join("bare.db")).await?;
    let mut output = std::io::stdout();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let floor = rate(run_bare(&mut bare, round).await?);
        let ours = rate(run_store(&store, round).await?);
        ratios.push(ours / floor);
        writeln!(
            output,
            "bare {floor:>7.0}/s   store {ours:>7.0}/s   ratio {:.2}",
            ours / floor
        )?;
    }
    writeln!(
        output,
        "commits of two events and an effect: {:.0}/s",
        rate(run_commits(&store).await?)
    )?;
    let pending = store.pending_deliveries(None, u32::MAX).await?.len();
    store.close().await;
    ratios.sort_by(f64::total_cmp);
    let median = ratios.get(ROUNDS / 2).copied().unwrap_or(0.0);
    let sent = ROUNDS * CALLERS * EACH;
    writeln!(output, "median ratio {median:.2}; {pending} of {sent} stored")?;
    if pending == sent {
        Ok(())
    } else {
        Err("deliveries were lost".into())
    }
}

fn rate(took: Duration) -> f64 {
    let sent = u32::try_from(CALLERS * EACH).unwrap_or(u32::MAX);
    f64::from(sent) / took.as_secs_f64()
}

async fn run_store(store: &SqliteStore, round: usize) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    let callers = (0..CALLERS).map(|caller| async move {
        for number in 0..EACH {
            let delivery = delivery(round, caller, number)?;
            match store.accept_delivery(delivery).await? {
                Accepted::New(_) => {}
                Accepted::Duplicate(id) => return Err(format!("{} came twice", id.0).into()),
            }
        }
        Ok::<(), Box<dyn Error>>(())
    });
    for caller in join_all(callers).await {
        caller?;
    }
    Ok(started.elapsed())
}

async fn run_commits(store: &SqliteStore) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    let runs = (1..).take(CALLERS).map(|run| async move {
        for number in 0..u32::try_from(EACH)? {
            store.commit(commit(RunId(run), number)?).await?;
        }
        Ok::<(), Box<dyn Error>>(())
    });
    for run in join_all(runs).await {
        run?;
    }
    Ok(started.elapsed())
}

fn commit(run: RunId, number: u32) -> Result<Commit, Box<dyn Error>> {
    let attempt = AttemptId {
        run,
        node: NodeId(number),
        number: 1,
    };
    let event = Event {
        at: Timestamp(1_700_000_000_000),
        actor: Actor::System,
        fact: Fact::NodeReadied { node: NodeId(number) },
    };
    Ok(Commit {
        summary: RunSummary {
            id: run,
            project: "mall".parse()?,
            pipeline: "web".parse()?,
            event: "push".to_owned(),
            git_ref: None,
            sha: None,
            subject: "Teach the cart to count".to_owned(),
            actor: Actor::System,
            created_at: Timestamp(1_700_000_000_000),
            finished_at: None,
            outcome: None,
            phase: "running".to_owned(),
            needs_person: false,
            group: None,
            next_deadline: None,
        },
        expected: 2 * u64::from(number),
        events: vec![event.clone(), event],
        snapshot: None,
        effects: vec![Effect::LaunchAttempt { attempt }],
        settled: vec![Effect::LaunchAttempt { attempt }.key()],
        delivery: None,
    })
}

fn delivery(round: usize, caller: usize, number: usize) -> Result<NewDelivery, Box<dyn Error>> {
    Ok(NewDelivery {
        project: "mall".parse()?,
        forge_id: format!("{number:08x}-{round:04x}-{caller:04x}-9b7c-0123456789ab"),
        event: "push".to_owned(),
        received_at: Timestamp(1_700_000_000_000),
        body: vec![b'x'; BODY],
    })
}

async fn open_bare(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await?;
    sqlx::query("CREATE TABLE rows (id INTEGER PRIMARY KEY, project, forge_id, event, received_at, body)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// The floor: nobody asks and nobody is answered, every transaction has as many rows as there are callers, in one statement.
async fn run_bare(connection: &mut SqliteConnection, round: usize) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    for number in 0..EACH {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let rows = (0..CALLERS).map(|caller| delivery(round, caller, number));
        let mut insert =
            QueryBuilder::<Sqlite>::new("INSERT INTO rows (project, forge_id, event, received_at, body) ");
        insert.push_values(rows.collect::<Result<Vec<_>, _>>()?, |mut values, row| {
            values
                .push_bind(row.project.as_str().to_owned())
                .push_bind(row.forge_id)
                .push_bind(row.event)
                .push_bind(row.received_at.0)
                .push_bind(row.body);
        });
        insert.build().execute(&mut *connection).await?;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
    }
    Ok(started.elapsed())
}
