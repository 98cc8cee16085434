//! What ended runs leave behind, and what of it is gone. Only the server that performs asks for more than one of them.

use std::collections::BTreeSet;

use async_trait::async_trait;
use pipekeeper_model::{Bytes, Digest, Millis, Name, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{RunSummary, StoreError};

/// What ended runs leave behind. The durability contract is that of [`crate::Store`].
#[async_trait]
pub trait Estates: Send + Sync {
    /// The runs that have not ended, those set aside too.
    async fn unfinished(&self) -> Result<Vec<RunId>, StoreError>;

    /// Ended runs without an estate, the oldest first, after the given one.
    async fn without_estate(&self, after: Option<RunId>, limit: u32) -> Result<Vec<RunId>, StoreError>;

    /// Keeps the estates of ended runs; one that is kept already stands.
    async fn keep_estates(&self, estates: Vec<Estate>) -> Result<(), StoreError>;

    /// Estates with their runs, the newest first, before the given one.
    async fn estates(&self, before: Option<RunId>, limit: u32) -> Result<Vec<StoredEstate>, StoreError>;

    /// The estate of one run.
    async fn estate(&self, run: RunId) -> Result<Option<StoredEstate>, StoreError>;

    /// Notes what is gone; the first word about a part stands. With a run's artifacts go the successes that name them
    /// ([`crate::Store::recall`]).
    async fn give_up(&self, losses: Vec<Loss>) -> Result<(), StoreError>;

    /// Removes ended runs with everything that belongs to them; how many went. The newest run of all stays, since numbers
    /// are counted from it, as does one of which an effect waits.
    async fn remove_runs(&self, runs: Vec<RunId>) -> Result<u64, StoreError>;

    /// Removes a project's settled deliveries that came before this, the oldest first; how many went. One that made the last
    /// known move of a ref stays: the ledger needs it.
    async fn remove_deliveries(
        &self,
        project: &Name,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError>;
}

/// What an ended run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estate {
    /// The run.
    pub run: RunId,
    /// What.
    pub left: Left,
}

/// What a run left, as far as it never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The bytes of its logs.
    pub log_bytes: u64,
    /// Its artifacts, and what else is kept by its digest beside them.
    pub files: Vec<LeftFile>,
    /// The runs whose results it adopted.
    pub adopts: BTreeSet<RunId>,
    /// Whether a release of it was promoted.
    pub promoted: bool,
}

/// A file that is kept by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftFile {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// An estate as stored, with the run that left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEstate {
    /// The run as lists show it.
    pub run: RunSummary,
    /// What it left.
    pub left: Left,
    /// When and why its logs went, if they did.
    pub logs_gone: Option<Gone>,
    /// When and why its artifacts went, if they did.
    pub artifacts_gone: Option<Gone>,
}

/// A part of an estate that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The run.
    pub run: RunId,
    /// The part.
    pub part: Part,
    /// When and why.
    pub gone: Gone,
}

/// A part of an estate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The logs.
    Logs,
    /// The artifacts, and what else is kept by its digest.
    Artifacts,
}

/// When and why something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: GoneWhy,
}

/// Why something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum GoneWhy {
    /// It is kept for so long.
    Age {
        /// How long.
        after: Millis,
    },
    /// All of a project's may take so much.
    Room {
        /// How much.
        most: Bytes,
    },
}
