//! Another master key, while the server runs: every data key is sealed with the new one, one by one, and nothing else changes.
//!
//! Whoever is interrupted has some sealed with the one and some with the other, and both keys in the file. The next call
//! finishes that, and draws no key.

use std::collections::BTreeSet;

use pipekeeper_model::Timestamp;
use pipekeeper_store::{AuditEntry, ChangeError, RecordKind};
use serde::Serialize;
use serde_json::json;

use super::{
    Entry, Kept, Vault, VaultError,
    envelope::{self, SealError},
    keys::{KeyFile, Ring},
    text_of,
};
use crate::{
    error::{ApiError, Problem},
    people::Caller,
};

/// The keys were changed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Rotated {
    /// The key that seals now.
    pub(crate) key: String,
    /// Whether it was drawn now, or an earlier change was finished.
    pub(crate) begun: Begun,
    /// How many secrets it took over.
    pub(crate) taken_over: usize,
}

/// Which call drew the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Begun {
    /// This one.
    Now,
    /// An earlier one, which this one finished; or somebody who wrote it into the file.
    Before,
}

impl Vault {
    /// Draws another master key and has it take over every secret, or finishes that.
    pub(crate) async fn rotate(&self, caller: &Caller, now: Timestamp) -> Result<Rotated, ApiError> {
        let (ring, begun) = {
            let _alone = self.with_keys(KeyFile::alone).await?;
            self.next_ring().await?
        };
        let Some(key) = ring.current().map(|key| key.id.clone()) else {
            return Err(ApiError::internal(&"a ring has no key"));
        };
        let entry = AuditEntry {
            after: Some(json!({ "key": key, "begun": begun }).to_string()),
            ..caller.audit("secret.rotate_key", "server/master-key".to_owned(), now)
        };
        self.registry.change(Vec::new(), vec![entry]).await?;
        let (mut taken_over, mut broken) = (0, Vec::new());
        for record in self.registry.records(RecordKind::Secret, None).await? {
            match self.take_over(&key, &record.name).await {
                Ok(count) => taken_over += count,
                Err(TakeOver::Broken) => broken.push(format!("`{}`", record.name)),
                Err(TakeOver::Failed(error)) => return Err(error),
            }
        }
        if broken.is_empty() {
            return Ok(Rotated {
                key,
                begun,
                taken_over,
            });
        }
        let detail = format!(
            "these cannot be opened: {}; the others are done",
            broken.join(", ")
        );
        Err(ApiError::new(Problem::Conflict, detail).with_hint("set them again, or remove them"))
    }

    /// The keys as they are to be: with a new one, unless an earlier one has not taken over everything.
    async fn next_ring(&self) -> Result<(Ring, Begun), ApiError> {
        let (ring, made) = self.ring_to_seal().await?;
        if made.is_some() {
            return Ok((ring, Begun::Now));
        }
        let mut used = BTreeSet::new();
        for record in self.registry.records(RecordKind::Secret, None).await? {
            used.insert(Kept::read(record)?.entry.sealed.key);
        }
        let current = ring.current().map(|key| key.id.clone());
        if used.iter().any(|key| Some(key) != current.as_ref()) {
            return Ok((ring, Begun::Before));
        }
        // What no secret uses goes now, and not at once: a backup of the database may still want the last one.
        used.extend(current);
        let ring = self.with_keys(move |keys| keys.renew(&ring, &used)).await?;
        Ok((ring, Begun::Now))
    }

    /// Has the key take over one secret, which others may change meanwhile; how many it took over.
    pub(super) async fn take_over(&self, key: &str, name: &str) -> Result<usize, TakeOver> {
        loop {
            let _steady = self.steady().await?;
            let ring = self.ring().await?;
            if ring.current().is_none_or(|current| current.id != key) {
                let error = ApiError::new(Problem::Conflict, "another key seals by now");
                let error = error.with_hint("`pipe secret rotate-key` once more finishes what is left");
                return Err(TakeOver::Failed(error));
            }
            let record = self.registry.record(RecordKind::Secret, name).await?;
            let Some(kept) = record.map(Kept::read).transpose()? else {
                return Ok(0);
            };
            let sealed = &kept.entry.sealed;
            if sealed.key == key {
                return Ok(0);
            }
            let (from, to) = (self.keys.find(&ring, &sealed.key), self.keys.find(&ring, key));
            let (from, to) = (from.map_err(VaultError::from)?, to.map_err(VaultError::from)?);
            let bindings = text_of(&kept.entry.bindings)?;
            let moved = envelope::rewrap(from, to, kept.label(&bindings), sealed);
            let entry = Entry {
                sealed: moved.map_err(VaultError::from)?,
                ..kept.entry.clone()
            };
            match self.registry.change(vec![kept.change(&entry)?], Vec::new()).await {
                Ok(()) => return Ok(1),
                Err(ChangeError::Conflict { .. }) => {}
                Err(ChangeError::Store(error)) => return Err(error.into()),
            }
        }
    }
}

/// Why a key did not take over a secret.
pub(super) enum TakeOver {
    /// It cannot be opened; others can.
    Broken,
    /// There is no going on.
    Failed(ApiError),
}

impl From<VaultError> for TakeOver {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Seal(SealError::Broken) => Self::Broken,
            VaultError::Key(_)
            | VaultError::Seal(SealError::Random(_))
            | VaultError::Entry(_)
            | VaultError::System => Self::Failed(error.into()),
        }
    }
}

impl From<pipekeeper_store::StoreError> for TakeOver {
    fn from(error: pipekeeper_store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}
