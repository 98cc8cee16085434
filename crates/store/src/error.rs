//! How a store fails: whether to try again is in the type.

use thiserror::Error;

/// A store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// It may go better later: disk full, database busy or away.
    #[error("use the store: {reason}")]
    Unavailable {
        /// What the database said.
        reason: String,
    },
    /// What is stored cannot be read.
    #[error("read `{what}` from the store: {reason}")]
    Corrupt {
        /// Which thing.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store was closed.
    #[error("use the store: it is closed")]
    Closed,
    /// It was the holder of a lease that wrote, and another server has the lease now.
    #[error("use the store: another server performs now")]
    Fenced,
}

/// A commit was not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The run has moved on, or was to be made and it or a newer one is there.
    #[error("commit to run {run}: it no longer has {expected} events")]
    Conflict {
        /// The run.
        run: u64,
        /// What was expected.
        expected: u64,
    },
    /// The run ended: it takes no event and keeps its outcome.
    #[error("commit to run {run}: it has ended")]
    Finished {
        /// The run.
        run: u64,
    },
    /// The delivery has an outcome already, or there is none of this number.
    #[error("settle delivery {delivery}: it does not wait for an outcome")]
    NotPending {
        /// The delivery.
        delivery: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
