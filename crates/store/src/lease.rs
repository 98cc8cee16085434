//! Who performs, where several servers share a database.
//!
//! Any server decides about runs, for a commit compares what it was decided on. What has effects outside is one server's at a
//! time: that of the lease. Each holder has an **epoch**, greater than all before it, and what it writes as the holder is
//! refused once there is a greater one. So a server that slept through the loss of its lease changes nothing when it wakes.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use pipekeeper_model::{Millis, RunId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{Store, StoreError};

/// Counts the holders of a database's lease, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A server that wants to perform, or to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What the server is called, for people.
    pub holder: String,
    /// The epoch that it has, to renew the lease; none to take it once nobody else has it.
    pub held: Option<Epoch>,
    /// How long a lease lasts that is not renewed, by the database's clock.
    pub length: Millis,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The lease is the claimant's.
    Held(Epoch),
    /// It is not: a server that asked to renew has lost it.
    Other {
        /// What the holder is called.
        holder: String,
    },
}

/// What another server of the same database stored. Only a hint: some may be missing, and none is told twice on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A run has new events.
    Run {
        /// The run.
        run: RunId,
        /// How many events it has.
        version: u64,
        /// How many of them are new.
        added: u64,
    },
    /// A delivery waits.
    Delivery,
    /// Something may have been missed: look at everything.
    Missed,
}

/// A database that several servers share.
#[async_trait]
pub trait Lease: Send + Sync {
    /// Takes or renews the lease.
    ///
    /// # Errors
    /// If the database cannot say: a lease that was held may still be.
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError>;

    /// Gives the lease up, if this is still its epoch; the next claim has it.
    ///
    /// # Errors
    /// If it cannot be written; the lease runs out by itself.
    async fn release(&self, epoch: Epoch) -> Result<(), StoreError>;

    /// The same store for the holder of this epoch: whatever it writes fails with [`StoreError::Fenced`] once there is a
    /// greater one.
    fn fenced(&self, epoch: Epoch) -> Arc<dyn Store>;

    /// What other servers store from now on; the last to ask hears it.
    fn hints(&self) -> mpsc::Receiver<Hint>;
}
