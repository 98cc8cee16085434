//! The one task that writes: it takes what is queued, applies it in one transaction, and answers after the commit.

use std::fs::File;

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::mpsc;

use super::{
    deliveries,
    failure::{Blame, blame, to_store_error},
    job::Job,
    registry, runs,
};

/// The most operations in one transaction.
pub(super) const BATCH: usize = 256;
/// How large they may be together: whoever comes next waits for all of them.
const BATCH_BYTES: usize = 4 << 20;

/// The writer's connection and the lock that makes it the only one.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    // Released when the task ends, after the connection.
    _exclusive: File,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection, exclusive: File) -> Self {
        Self {
            options,
            connection: Some(connection),
            _exclusive: exclusive,
        }
    }

    /// Writes until it is told to close or nobody is left who could ask.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut closing = Vec::new();
        let mut batch = Vec::with_capacity(BATCH);
        while jobs.recv_many(&mut batch, BATCH).await > 0 {
            gather(&mut jobs, &mut batch).await;
            closing.extend(batch.extract_if(.., |job| matches!(job, Job::Close(_))));
            if !closing.is_empty() {
                jobs.close();
            }
            if !batch.is_empty() {
                self.write(&mut batch).await;
            }
        }
        self.close().await;
        for mut job in closing {
            if let Job::Close(ask) = &mut job {
                ask.answer(());
            }
            job.send(None);
        }
    }

    /// Writes a batch as one, or one by one if one of them spoils it.
    async fn write(&mut self, batch: &mut Vec<Job>) {
        match self.transact(batch).await {
            Err(error) if batch.len() > 1 && blame(&error) == Blame::Operation => {
                for mut job in batch.drain(..) {
                    let failure = self.transact(std::slice::from_mut(&mut job)).await.err();
                    job.send(failure.as_ref().map(to_store_error).as_ref());
                }
            }
            result => {
                let failure = result.err().as_ref().map(to_store_error);
                if let Some(failure) = &failure {
                    tracing::warn!(operations = batch.len(), "a batch of writes failed: {failure}");
                }
                batch.drain(..).for_each(|job| job.send(failure.as_ref()));
            }
        }
    }

    async fn transact(&mut self, batch: &mut [Job]) -> Result<(), sqlx::Error> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let result = apply_all(&mut connection, batch).await;
        let usable = match &result {
            Ok(()) => true,
            // SQLite may have rolled back by itself; then this fails and does no harm.
            Err(error) => {
                let _ended_already = sqlx::query("ROLLBACK").execute(&mut connection).await;
                blame(error) == Blame::Operation
            }
        };
        if usable {
            self.connection = Some(connection);
        } else {
            let _broken_anyway = connection.close().await;
        }
        result
    }

    async fn close(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        // The log is emptied for tidiness alone: what is committed is safe in it.
        let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut connection)
            .await;
        if let Err(error) = emptied.and(connection.close().await) {
            tracing::warn!("the database was not closed in order: {error}");
        }
    }
}

/// Takes what comes within a turn of the runtime: callers that were answered just now may ask again at once, and the more
/// share one sync, the more are served.
async fn gather(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>) {
    let mut bytes: usize = batch.iter().map(Job::bytes).sum();
    loop {
        let held = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            bytes += job.bytes();
            batch.push(job);
        }
        if batch.len() == held {
            return;
        }
    }
}

async fn apply_all(connection: &mut SqliteConnection, batch: &mut [Job]) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut accepted = Vec::new();
    for job in batch {
        match job {
            Job::Accept(ask) => accepted.push(ask),
            Job::Refuse(ask) => {
                deliveries::refuse(connection, &ask.body).await?;
                ask.answer(());
            }
            Job::Settle(ask) => {
                deliveries::settle(connection, &ask.body).await?;
                ask.answer(());
            }
            Job::Reopen(ask) => {
                let reopened = deliveries::reopen(connection, ask.body).await?;
                ask.answer(reopened);
            }
            Job::Commit(ask) => ask.answer = Some(runs::commit_all(connection, &ask.body).await?),
            Job::SettleEffects(ask) => {
                runs::settle_effects(connection, &ask.body).await?;
                ask.answer(());
            }
            Job::Remember(ask) => {
                runs::remember(connection, &ask.body).await?;
                ask.answer(());
            }
            Job::Quarantine(ask) => {
                runs::quarantine(connection, &ask.body).await?;
                ask.answer(());
            }
            Job::Change(ask) => ask.answer = Some(registry::change(connection, &ask.body).await?),
            Job::Expire(ask) => {
                let removed = registry::expire(connection, ask.body).await?;
                ask.answer(removed);
            }
            Job::Check(ask) => {
                probe(connection).await?;
                ask.answer(());
            }
            // Taken out before.
            Job::Close(_) => {}
        }
    }
    deliveries::accept(connection, &mut accepted).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

async fn probe(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO probes (id, checks) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET checks = checks + 1",
    )
    .execute(connection)
    .await?;
    Ok(())
}
