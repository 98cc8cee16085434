//! The connection that the writer task writes with, and what each operation does there.

use std::fs::File;

use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    StoreError,
    job::Job,
    writer::{Blame, Transact},
};

use super::{deliveries, estates, failure, registry, runs};

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
}

impl Transact for Writer {
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
                failure::blame(error) == Blame::Operation
            }
        };
        if usable {
            self.connection = Some(connection);
        } else {
            let _broken_anyway = connection.close().await;
        }
        result
    }

    fn blame(error: &sqlx::Error) -> Blame {
        failure::blame(error)
    }

    fn to_store_error(error: &sqlx::Error) -> StoreError {
        failure::to_store_error(error)
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
            Job::Tidy(ask) => {
                let done = estates::tidy(connection, &ask.body).await?;
                ask.answer(done);
            }
            Job::Check(ask) => {
                probe(connection).await?;
                ask.answer(());
            }
            // Nobody asks: the file's own lock has one server. The last is taken out before.
            Job::Claim(_) | Job::Release(_) | Job::Close(_) => {}
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
