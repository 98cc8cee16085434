//! The connections that the writer task writes with, and what each operation does there.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection, PgPool};

use crate::{
    StoreError,
    job::Job,
    writer::{Blame, Transact},
};

use super::{
    deliveries, failure,
    pool::{PATIENCE, bounded},
    registry, runs,
    tenure::Tenure,
};

/// How often a transaction that met another one is tried again.
const RETRIES: u32 = 5;
/// The longest first pause before that; it doubles.
const PAUSE_MS: u64 = 4;

/// Begins and takes the writing lock, which ends with the transaction; see [`super`] for what it is good for.
const BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(8100128985698362736)";

/// Begins a transaction that writes; it waits for those of other servers.
pub(crate) async fn begin(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection.execute(BEGIN).await.map(|_| ())
}

/// Writes with connections of a pool.
#[derive(Debug)]
pub(super) struct Writer {
    pool: PgPool,
    /// Of whoever is to be the only one.
    tenure: Option<Tenure>,
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Done,
    /// Nothing was written: the database may be another server's.
    NotOurs,
}

impl Writer {
    pub(super) fn new(pool: PgPool, tenure: Option<Tenure>) -> Self {
        Self { pool, tenure }
    }

    async fn attempt(&self, batch: &mut [Job]) -> Result<Tried, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let result = bounded(PATIENCE, self.apply(&mut connection, batch)).await;
        let usable = match &result {
            Ok(Tried::Done) => true,
            Ok(Tried::NotOurs) => bounded(PATIENCE, connection.execute("ROLLBACK")).await.is_ok(),
            Err(error) if failure::blame(error) == Blame::Operation => {
                bounded(PATIENCE, connection.execute("ROLLBACK")).await.is_ok()
            }
            Err(_) => false,
        };
        if !usable {
            // It never goes back to the pool; the server rolls back what it does not see committed.
            drop(connection.detach());
        }
        result
    }

    async fn apply(&self, connection: &mut PgConnection, batch: &mut [Job]) -> Result<Tried, sqlx::Error> {
        begin(connection).await?;
        if let Some(tenure) = &self.tenure
            && !tenure.holds(connection).await?
        {
            return Ok(Tried::NotOurs);
        }
        apply_all(connection, batch).await?;
        Ok(Tried::Done)
    }

    /// Takes the database again, if nobody else has or had it.
    async fn regain(&mut self) -> Result<(), sqlx::Error> {
        if let Some(tenure) = &mut self.tenure
            && !bounded(PATIENCE, tenure.regain()).await?
        {
            return Err(lost());
        }
        Ok(())
    }
}

fn lost() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(
        "another server has the database; this one is to be started again",
    ))
}

impl Transact for Writer {
    async fn transact(&mut self, batch: &mut [Job]) -> Result<(), sqlx::Error> {
        let mut retries = 0;
        loop {
            match self.attempt(batch).await {
                Err(error) if retries < RETRIES && failure::is_passing(&error) => {
                    tokio::time::sleep(pause(retries)).await;
                    retries += 1;
                }
                Ok(Tried::NotOurs) if retries < RETRIES => {
                    self.regain().await?;
                    retries += 1;
                }
                Ok(Tried::NotOurs) => return Err(lost()),
                Ok(Tried::Done) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn blame(error: &sqlx::Error) -> Blame {
        failure::blame(error)
    }

    fn to_store_error(error: &sqlx::Error) -> StoreError {
        failure::to_store_error(error)
    }

    async fn close(&mut self) {
        if let Some(tenure) = self.tenure.take()
            && let Err(error) = bounded(PATIENCE, tenure.end()).await
        {
            tracing::debug!("the database is free once it notices that this server has gone: {error}");
        }
        self.pool.close().await;
    }
}

/// A random pause, so that those who met do not meet again.
fn pause(retries: u32) -> Duration {
    let longest = PAUSE_MS << retries;
    // Without randomness the longest does as well.
    let pause = getrandom::u64().map_or(longest, |random| random % longest + 1);
    Duration::from_millis(pause)
}

async fn apply_all(connection: &mut PgConnection, batch: &mut [Job]) -> Result<(), sqlx::Error> {
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
    connection.execute("COMMIT").await?;
    Ok(())
}

async fn probe(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO probes (id, checks) VALUES (1, 1) \
         ON CONFLICT (id) DO UPDATE SET checks = probes.checks + 1",
    )
    .execute(connection)
    .await?;
    Ok(())
}
