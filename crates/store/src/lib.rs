//! The [`Store`] trait and its databases: what `pipe` acknowledged is in here.
//!
//! A store keeps and returns; it decides nothing. Log bytes and artifacts are files, not rows.

mod backup;
mod copy;
mod error;
mod estates;
mod job;
mod lease;
mod memory;
mod postgres;
mod records;
mod registry;
mod rows;
mod sqlite;
mod writer;

use async_trait::async_trait;
use pipekeeper_engine::{AdoptedNode, EffectKey, Event};
use pipekeeper_model::{Digest, Name, RunId};

pub use backup::{BackupError, back_up_sqlite, restore_sqlite};
pub use copy::{Copied, CopyError, copy};
pub use error::{CommitError, StoreError};
pub use estates::{Estate, Estates, Gone, GoneWhy, Left, LeftFile, Loss, Part, StoredEstate};
pub use lease::{Claim, Claimed, Epoch, Hint, Lease};
pub use memory::MemoryStore;
pub use postgres::{ConnectError, PostgresStore, PostgresUrl, UrlError, is_empty};
pub use records::{
    Accepted, Commit, Delivery, DeliveryId, DeliveryOutcome, DeliverySettlement, NewDelivery, RefMove,
    Refusal, RunFilter, RunStamp, RunSummary, StoredEffect, StoredRun,
};
pub use registry::{
    AuditEntry, AuditFilter, Change, ChangeError, Expected, NewRecord, Record, RecordKind, RecordVersion,
    Registry, StoredAudit,
};
pub use sqlite::{OpenError, SqliteStore};

/// The durability contract: when a method that writes returns `Ok`, a crash of the process or the machine does not undo
/// it; when it returns an error, it either happened whole or not at all, and repeating it is safe.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores a delivery, once per project and forge id.
    async fn accept_delivery(&self, delivery: NewDelivery) -> Result<Accepted, StoreError>;

    /// Notes a refused request; the newest 20 of each project are kept.
    async fn note_refusal(&self, refusal: Refusal) -> Result<(), StoreError>;

    /// The refused requests of a project, newest first.
    async fn refusals(&self, project: &Name) -> Result<Vec<Refusal>, StoreError>;

    /// Deliveries without an outcome, oldest first, after the given one; bodies are left empty.
    async fn pending_deliveries(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// One delivery.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// A project's deliveries, or everyone's, newest first, before the given one; bodies are left empty.
    async fn deliveries(
        &self,
        project: Option<&Name>,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// Settles a delivery that makes no run; the first settlement stands, a later one changes nothing, nor does one of
    /// an unknown delivery.
    async fn settle_delivery(&self, settlement: DeliverySettlement) -> Result<(), StoreError>;

    /// Takes a delivery's outcome back so that it is handled again (`pipe hooks replay`), its ledger entries too; tells
    /// whether there was one to take back.
    async fn reopen_delivery(&self, id: DeliveryId) -> Result<bool, StoreError>;

    /// The delivery that already made this very move of a ref.
    ///
    /// The rule: a move from `before` to `after` is a duplicate of the newest ledger entry with the same two ends, unless
    /// an entry written after that one took the ref back to `before`: then the ref may well have moved again (a force-push
    /// back and forth, a branch deleted and made anew). So a copy of an old push that arrives late, or under another
    /// delivery id, is a duplicate; an older push that was never seen is not, whatever was seen since. A move back that was
    /// never seen itself hides the one after it until a poll writes where the ref really is.
    async fn find_move(&self, moved: &RefMove) -> Result<Option<DeliveryId>, StoreError>;

    /// The greatest run number so far; 0 if there is none.
    async fn last_run(&self) -> Result<u64, StoreError>;

    /// Appends events and everything that belongs to them, if the run still has `expected` events. A new run, of which 0 are
    /// expected, comes after all others: who is older than another is never found out later.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] if it has not (or, for `expected` 0, it or a newer run exists), [`CommitError::Finished`] if it ended and
    /// would go on, [`CommitError::NotPending`] if its delivery is settled already: then nothing was written.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;

    /// Commits to several runs, each of them once, all or none: for a delivery that makes more than one run.
    ///
    /// # Errors
    /// As [`Store::commit`], for the first commit that cannot be made: then none was.
    async fn commit_all(&self, commits: Vec<Commit>) -> Result<(), CommitError>;

    /// A run's snapshot and tail.
    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError>;

    /// What tells whether a loaded run is still the newest.
    async fn stamp(&self, run: RunId) -> Result<Option<RunStamp>, StoreError>;

    /// A run's events with their numbers (from 1), after the given number.
    async fn events(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Event)>, StoreError>;

    /// One run as lists show it.
    async fn summary(&self, run: RunId) -> Result<Option<RunSummary>, StoreError>;

    /// The active runs with the number of their events, the oldest first.
    async fn active(&self) -> Result<Vec<(RunId, u64)>, StoreError>;

    /// Runs, newest first.
    async fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunSummary>, StoreError>;

    /// Effects that wait to be performed, in the order they were stored, after the given sequence number; quarantined
    /// runs' are left out. An effect whose key waits already is not stored a second time.
    async fn effects(&self, after: Option<u64>, limit: u32) -> Result<Vec<StoredEffect>, StoreError>;

    /// Removes performed effects without touching their run.
    async fn settle_effects(&self, keys: Vec<EffectKey>) -> Result<(), StoreError>;

    /// Keeps the result of an attempt that succeeded with these inputs (`reuse:`); that of the newest run stands.
    async fn remember(&self, inputs: Digest, result: AdoptedNode) -> Result<(), StoreError>;

    /// The result kept for these inputs.
    async fn recall(&self, inputs: &Digest) -> Result<Option<AdoptedNode>, StoreError>;

    /// Sets a run aside: it is neither loaded for work nor are its effects performed. The first reason stands.
    async fn quarantine(&self, run: RunId, reason: String) -> Result<(), StoreError>;

    /// Whether the store can write: a real, tiny write.
    async fn check(&self) -> Result<(), StoreError>;

    /// Ends all writing in order; later calls fail.
    async fn close(&self);
}
