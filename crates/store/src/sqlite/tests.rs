//! Tests of what only SQLite can get wrong; what every store promises is in the contract suite.

mod damage;
mod faults;
mod opening;

use std::path::Path;

use pipekeeper_engine::{Event, Fact};
use pipekeeper_model::{Actor, NodeId, Outcome, RunId, Timestamp};
use sqlx::{ConnectOptions as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{Commit, NewDelivery, RunSummary};

/// A connection past the store, as somebody with `sqlite3` has it.
async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

async fn execute(path: &Path, sql: &'static str) -> Result<(), String> {
    let result = sqlx::query(sql).execute(&mut raw(path).await).await;
    result.map(|_| ()).map_err(|error| error.to_string())
}

fn delivery(forge_id: &str, bytes: usize) -> NewDelivery {
    NewDelivery {
        project: "mall".parse().unwrap(),
        forge_id: forge_id.to_owned(),
        event: "push".to_owned(),
        received_at: Timestamp(1),
        body: vec![b'x'; bytes],
    }
}

fn commit(run: u64, expected: u64, events: u32) -> Commit {
    let event = |node| Event {
        at: Timestamp(1),
        actor: Actor::System,
        fact: Fact::NodeReadied { node: NodeId(node) },
    };
    Commit {
        summary: RunSummary {
            id: RunId(run),
            project: "mall".parse().unwrap(),
            pipeline: "web".parse().unwrap(),
            event: "push".to_owned(),
            git_ref: None,
            sha: None,
            subject: String::new(),
            actor: Actor::System,
            created_at: Timestamp(1),
            finished_at: None,
            outcome: None,
            phase: "running".to_owned(),
            needs_person: false,
            group: None,
            next_deadline: None,
        },
        expected,
        events: (0..events).map(event).collect(),
        snapshot: None,
        effects: Vec::new(),
        settled: Vec::new(),
        delivery: None,
    }
}

fn finish(run: u64, expected: u64) -> Commit {
    let mut commit = commit(run, expected, 1);
    commit.summary.outcome = Some(Outcome::Succeeded);
    commit
}
