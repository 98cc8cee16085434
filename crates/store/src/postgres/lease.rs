//! The lease as a row, and telling other servers what was stored.
//!
//! The row is a record that no kind of ours names: its version is the epoch, its time the last renewal, its body the holder.
//! It is written under the writing lock like everything else, so that between a look at the epoch and the commit that was
//! looked for nobody else can take the lease.

use async_trait::async_trait;
use pipekeeper_model::RunId;
use sqlx::{PgConnection, postgres::PgListener};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

use crate::{
    Accepted, Claim, Claimed, Epoch, Hint, Lease, Store, StoreError,
    job::Job,
    rows::{to_i64, to_u64},
};

use super::{
    PostgresStore,
    text::{from_column, to_column},
};

const CLAIM: &str = "WITH clock AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) \
    INSERT INTO records (kind, name, owner, version, author, changed_at, body) \
    SELECT 'lease', 'performer', '', 1, '{\"kind\":\"system\"}', now, $1 FROM clock \
    ON CONFLICT (kind, name) DO UPDATE SET changed_at = excluded.changed_at, body = excluded.body, \
    version = records.version + CASE WHEN records.version = $2 THEN 0 ELSE 1 END \
    WHERE records.version = $2 OR ($2 IS NULL AND abs(excluded.changed_at - records.changed_at) >= $3) \
    RETURNING version";
const HOLDER: &str = "SELECT body FROM records WHERE kind = 'lease' AND name = 'performer'";
const EPOCH: &str = "SELECT version FROM records WHERE kind = 'lease' AND name = 'performer'";
const RELEASE: &str =
    "UPDATE records SET changed_at = 0 WHERE kind = 'lease' AND name = 'performer' AND version = $1";

/// Where servers of a database hear of each other.
const CHANNEL: &str = "pipekeeper";
/// The longest text of a notification is 8,000 bytes.
const LONGEST: usize = 7_000;
/// How often a server that hears well looks at everything all the same.
const LOOK: Duration = Duration::from_secs(30);
/// The same for one that cannot listen, as behind a pool that shares sessions.
const LOOK_DEAF: Duration = Duration::from_secs(2);
/// Hints that wait; what is more becomes one look at everything.
const HINTS: usize = 1_024;

#[async_trait]
impl Lease for PostgresStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.ask(Job::Claim, claim).await
    }

    async fn release(&self, epoch: Epoch) -> Result<(), StoreError> {
        self.ask(Job::Release, epoch).await
    }

    fn fenced(&self, epoch: Epoch) -> Arc<dyn Store> {
        Arc::new(Self {
            epoch: Some(epoch),
            ..self.clone()
        })
    }

    fn hints(&self) -> mpsc::Receiver<Hint> {
        let (hints, told) = mpsc::channel(HINTS);
        let ears = Ears {
            store: self.clone(),
            hints,
            missed: false,
        };
        tokio::spawn(ears.listen());
        told
    }
}

pub(super) async fn claim(connection: &mut PgConnection, claim: &Claim) -> Result<Claimed, sqlx::Error> {
    let taken: Option<i64> = sqlx::query_scalar(CLAIM)
        .bind(to_column(&claim.holder))
        .bind(claim.held.map(|epoch| to_i64(epoch.0)))
        .bind(to_i64(claim.length.0))
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(epoch) = taken {
        return Ok(Claimed::Held(Epoch(to_u64(epoch))));
    }
    let holder: Option<String> = sqlx::query_scalar(HOLDER).fetch_optional(connection).await?;
    Ok(Claimed::Other {
        holder: from_column(&holder.unwrap_or_default()).into_owned(),
    })
}

pub(super) async fn release(connection: &mut PgConnection, epoch: Epoch) -> Result<(), sqlx::Error> {
    sqlx::query(RELEASE)
        .bind(to_i64(epoch.0))
        .execute(connection)
        .await
        .map(|_| ())
}

/// The present epoch, if anybody ever had the lease.
pub(super) async fn epoch(connection: &mut PgConnection) -> Result<Option<Epoch>, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar(EPOCH).fetch_optional(connection).await?;
    Ok(found.map(|epoch| Epoch(to_u64(epoch))))
}

/// Tells other servers what a batch stores, with its commit.
pub(super) async fn tell(
    connection: &mut PgConnection,
    origin: u64,
    batch: &[Job],
) -> Result<(), sqlx::Error> {
    let told = words(batch);
    if told.is_empty() {
        return Ok(());
    }
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(format!("{origin:x}{told}"))
        .execute(connection)
        .await
        .map(|_| ())
}

/// What a batch stores: ` r57:12:2` for a run that has 12 events now, 2 of them new, ` d` for deliveries.
fn words(batch: &[Job]) -> String {
    let mut words = String::new();
    let mut any_delivery = false;
    for job in batch {
        match job {
            Job::Commit(ask) if matches!(ask.answer, Some(Ok(()))) => {
                for commit in &ask.body {
                    let added = commit.version - commit.expected;
                    words.push_str(&format!(" r{}:{}:{added}", commit.summary.id.0, commit.version));
                }
            }
            Job::Accept(ask) => any_delivery |= matches!(ask.answer, Some(Ok(Accepted::New(_)))),
            Job::Reopen(ask) => any_delivery |= matches!(ask.answer, Some(Ok(true))),
            Job::Commit(_)
            | Job::Refuse(_)
            | Job::Settle(_)
            | Job::SettleEffects(_)
            | Job::Remember(_)
            | Job::Quarantine(_)
            | Job::Change(_)
            | Job::Expire(_)
            | Job::Tidy(_)
            | Job::Claim(_)
            | Job::Release(_)
            | Job::Check(_)
            | Job::Close(_) => {}
        }
    }
    if any_delivery {
        words.push_str(" d");
    }
    if words.len() > LONGEST {
        return " *".to_owned();
    }
    words
}

/// Reads what [`words`] wrote; what it cannot read, as of another release, may be anything.
fn read(words: &str) -> Vec<Hint> {
    let hint = |word: &str| match word {
        "d" => Some(Hint::Delivery),
        _ => {
            let mut numbers = word.strip_prefix('r')?.split(':').map(str::parse);
            Some(Hint::Run {
                run: RunId(numbers.next()?.ok()?),
                version: numbers.next()?.ok()?,
                added: numbers.next()?.ok()?,
            })
        }
    };
    let words = words.split(' ').filter(|word| !word.is_empty());
    words.map(|word| hint(word).unwrap_or(Hint::Missed)).collect()
}

/// One server's ears.
struct Ears {
    store: PostgresStore,
    hints: mpsc::Sender<Hint>,
    /// A hint found no place: whoever hears the next one looks at everything.
    missed: bool,
}

impl Ears {
    /// Listens as long as somebody wants to hear; while it cannot, it says that something may have been missed.
    async fn listen(mut self) {
        while !self.hints.is_closed() {
            if let Err(error) = self.hear().await {
                tracing::debug!("cannot listen to other servers: {error}");
            }
            self.pass(Hint::Missed);
            tokio::time::sleep(LOOK_DEAF).await;
        }
    }

    /// Hears until the connection breaks.
    async fn hear(&mut self) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.store.listening).await?;
        listener.listen(CHANNEL).await?;
        let mut look = tokio::time::interval(LOOK);
        while !self.hints.is_closed() {
            tokio::select! {
                _ = look.tick() => self.pass(Hint::Missed),
                heard = listener.try_recv() => match heard? {
                    Some(notification) => self.understand(notification.payload()),
                    None => return Ok(()),
                },
            }
        }
        Ok(())
    }

    fn understand(&mut self, payload: &str) {
        let (origin, words) = payload.split_once(' ').unwrap_or((payload, "*"));
        if origin != format!("{:x}", self.store.origin) {
            read(words).into_iter().for_each(|hint| self.pass(hint));
        }
    }

    fn pass(&mut self, hint: Hint) {
        if self.missed && self.hints.try_send(Hint::Missed).is_ok() {
            self.missed = false;
        }
        self.missed |= self.hints.try_send(hint).is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_may_be_anything() {
        let run = Hint::Run {
            run: RunId(57),
            version: 12,
            added: 2,
        };
        assert_eq!(read(" r57:12:2 d"), [run, Hint::Delivery]);
        assert_eq!(read("r57:12"), [Hint::Missed]);
        assert_eq!(read("r57:x:2 *"), [Hint::Missed, Hint::Missed]);
        assert_eq!(read(""), []);
    }
}
