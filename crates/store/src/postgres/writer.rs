//! The connections that the writer task writes with, and what each operation does there.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection, PgPool};

use crate::{
    StoreError,
    job::Job,
    writer::{Blame, Transact},
};

use super::{
    deliveries, estates, failure, lease,
    pool::{PATIENCE, bounded},
    registry, runs,
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
    /// Tells this server's notifications from others'.
    origin: u64,
}

impl Writer {
    pub(super) fn new(pool: PgPool, origin: u64) -> Self {
        Self { pool, origin }
    }

    async fn attempt(&self, batch: &mut [Job]) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let result = bounded(PATIENCE, self.apply(&mut connection, batch)).await;
        let usable = match &result {
            Ok(()) => true,
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

    async fn apply(&self, connection: &mut PgConnection, batch: &mut [Job]) -> Result<(), sqlx::Error> {
        begin(connection).await?;
        fence(connection, batch).await?;
        apply_all(connection, batch).await?;
        lease::tell(connection, self.origin, batch).await?;
        connection.execute("COMMIT").await?;
        Ok(())
    }
}

/// Refuses what an earlier holder of the lease writes. No other claim comes between this look and the commit: it would wait
/// for the writing lock.
async fn fence(connection: &mut PgConnection, batch: &mut [Job]) -> Result<(), sqlx::Error> {
    batch.iter_mut().for_each(Job::forget_answer);
    if batch.iter().all(|job| job.epoch().is_none()) {
        return Ok(());
    }
    let present = lease::epoch(connection).await?;
    for job in batch {
        if job.epoch().is_some_and(|epoch| Some(epoch) != present) {
            job.refuse(StoreError::Fenced);
        }
    }
    Ok(())
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
                result => return result,
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
        if job.is_refused() {
            continue;
        }
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
            Job::Claim(ask) => {
                let claimed = lease::claim(connection, &ask.body).await?;
                ask.answer(claimed);
            }
            Job::Release(ask) => {
                lease::release(connection, ask.body).await?;
                ask.answer(());
            }
            Job::Check(ask) => {
                probe(connection).await?;
                ask.answer(());
            }
            // Taken out before.
            Job::Close(_) => {}
        }
    }
    deliveries::accept(connection, &mut accepted).await
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
