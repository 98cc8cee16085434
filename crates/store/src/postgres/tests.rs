//! Tests of what only Postgres can get wrong; what every store promises is in the contract suite.

#[path = "../../tests/common/postgres.rs"]
mod database;
mod faults;
mod giving_up;
mod guards;
mod leases;
mod opening;
mod order;

use database::TestDatabase;
use pipekeeper_engine::{Effect, Event, Fact};
use pipekeeper_model::{Actor, AttemptId, NodeId, Outcome, RunId, Timestamp};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions};

use super::{PostgresStore, PostgresUrl};
use crate::{Commit, NewDelivery, RunSummary};

impl TestDatabase {
    fn url(&self) -> PostgresUrl {
        self.address().parse().unwrap()
    }

    async fn store(&self) -> PostgresStore {
        PostgresStore::open(&self.url()).await.unwrap()
    }

    /// A connection past the store, as somebody with `psql` has it.
    async fn raw(&self) -> PgConnection {
        let options: PgConnectOptions = self.address().parse().unwrap();
        options.connect().await.unwrap()
    }

    async fn execute(&self, sql: &str) -> Result<(), String> {
        let result = self.raw().await.execute(AssertSqlSafe(sql.to_owned())).await;
        result.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&mut self.raw().await)
            .await
            .unwrap()
    }

    /// Ends every other connection to it and waits until they have ended.
    async fn cut_all(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    }
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

/// A commit of this many events, with an effect of its own.
fn commit(run: u64, expected: u64, events: u32) -> Commit {
    let event = |node| Event {
        at: Timestamp(1),
        actor: Actor::System,
        fact: Fact::NodeReadied { node: NodeId(node) },
    };
    let attempt = AttemptId {
        run: RunId(run),
        node: NodeId(0),
        number: u32::try_from(expected).unwrap() + 1,
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
        effects: vec![Effect::LaunchAttempt { attempt }],
        settled: Vec::new(),
        delivery: None,
    }
}

fn finish(run: u64, expected: u64) -> Commit {
    let mut commit = commit(run, expected, 1);
    commit.summary.outcome = Some(Outcome::Succeeded);
    commit
}
