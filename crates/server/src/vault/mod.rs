//! Secrets that the server keeps: sealed in its records, with keys that are outside the database.
//!
//! A secret is a document, which says where it may be used, and a record with its sealed value, which is bound to just that.
//! `manage` changes them for people, `release` hands them to attempts. Entry type: [`Vault`].

mod envelope;
mod keys;
mod manage;
mod release;
mod rotate;
#[cfg(test)]
mod tests;

use std::{fs::File, path::PathBuf, sync::Arc};

use pipekeeper_controller::Clock;
use pipekeeper_model::{Actor, Millis, Name, Timestamp};
use pipekeeper_spec::document::Secret;
use pipekeeper_store::{Change, Expected, NewRecord, Record, RecordKind, Registry};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

pub use self::release::unlent;
use self::{
    envelope::{Label, SealError, Sealed},
    keys::{KeyError, KeyFile, Ring},
};
pub(crate) use self::{
    manage::{SecretSet, SecretView, SecretWish, knows},
    rotate::Rotated,
};
use crate::error::{ApiError, Problem};

/// Uses are noted so often at the most.
const USE_NOTED: Millis = Millis::hours(1);

/// The secrets of a server.
pub struct Vault {
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    keys: KeyFile,
}

/// The lock of those who seal, where it can be kept.
pub(crate) struct Steady(#[expect(dead_code, reason = "it is there to be dropped")] Option<File>);

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Where it may be used.
    bindings: Secret,
    /// Which value this is, from 1.
    version: u64,
    sealed: Sealed,
    /// Who set the value.
    by: Actor,
    /// When.
    set: Timestamp,
    /// When an attempt got it last, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Timestamp>,
}

/// A record that was read.
struct Kept {
    name: String,
    record: Record,
    entry: Entry,
}

/// A secret cannot be sealed or opened.
#[derive(Debug, Error)]
pub(crate) enum VaultError {
    /// The keys cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is stored, or the system, does not allow it.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The record says something else.
    #[error("read what is stored of a secret: {0}")]
    Entry(serde_json::Error),
    /// The work was broken off.
    #[error("use the master keys: the work was broken off")]
    System,
}

impl Vault {
    /// The secrets of a registry, with the master keys in this file, which is made when it is first needed.
    pub fn new(registry: Arc<dyn Registry>, clock: Arc<dyn Clock>, key_file: PathBuf) -> Self {
        Self {
            registry,
            clock,
            keys: KeyFile::new(key_file),
        }
    }

    /// As long as somebody has it, no key that seals is taken away, by whatever server.
    pub(crate) async fn steady(&self) -> Result<Steady, VaultError> {
        self.with_keys(KeyFile::steady).await.map(Steady)
    }

    async fn ring(&self) -> Result<Ring, VaultError> {
        self.with_keys(KeyFile::read).await
    }

    async fn with_keys<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KeyFile) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let keys = self.keys.clone();
        let done = spawn_blocking(move || work(&keys)).await;
        Ok(done.map_err(|_| VaultError::System)??)
    }

    async fn open(&self, kept: &Kept) -> Result<Zeroizing<String>, VaultError> {
        let ring = self.ring().await?;
        let master = self.keys.find(&ring, &kept.entry.sealed.key)?;
        let bindings = text_of(&kept.entry.bindings)?;
        Ok(envelope::open(master, kept.label(&bindings), &kept.entry.sealed)?)
    }

    /// Notes that a secret was used, now and then; that it cannot be noted keeps nobody from it.
    async fn note_use(&self, kept: &Kept) {
        let now = self.clock.now();
        if kept.entry.used.is_some_and(|used| now.since(used) < USE_NOTED) {
            return;
        }
        let entry = Entry {
            used: Some(now),
            ..kept.entry.clone()
        };
        let Ok(change) = kept.change(&entry) else {
            return;
        };
        if let Err(error) = self.registry.change(vec![change], Vec::new()).await {
            tracing::debug!("a secret's use was not noted: {error}");
        }
    }
}

impl Kept {
    fn read(record: Record) -> Result<Self, VaultError> {
        Ok(Self {
            name: record.name.clone(),
            entry: serde_json::from_str(&record.body).map_err(VaultError::Entry)?,
            record,
        })
    }

    /// What pipelines call it, as it was sealed.
    fn known_as(&self) -> &str {
        let known_as = self.entry.bindings.known_as.as_ref();
        known_as.map_or(self.name.as_str(), Name::as_str)
    }

    fn label<'a>(&'a self, bindings: &'a str) -> Label<'a> {
        Label {
            name: &self.name,
            bindings,
            version: self.entry.version,
        }
    }

    /// What makes the record say something else, as its author's: neither use nor another key is a change of the secret.
    fn change(&self, entry: &Entry) -> Result<Change, VaultError> {
        Ok(Change {
            kind: RecordKind::Secret,
            name: self.name.clone(),
            expected: Expected::Version(self.record.version),
            to: Some(NewRecord {
                owner: self.record.owner.clone(),
                body: serde_json::to_string(entry).map_err(VaultError::Entry)?,
                expires: None,
            }),
            author: self.record.author.clone(),
            at: self.record.at,
        })
    }
}

/// Bindings in the one form that values are sealed with.
fn text_of(bindings: &Secret) -> Result<String, VaultError> {
    serde_json::to_string(bindings).map_err(VaultError::Entry)
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        tracing::error!("secrets cannot be used: failed to {error}");
        // Whoever may change secrets is told which file and which key, so that they can put it right.
        Self::new(Problem::Unavailable, format!("failed to {error}"))
            .with_hint("secrets that are sealed with other keys, and everything else, go on")
    }
}
