//! The [`Backend`] trait: where attempts run, with its contract suite and the backends that need no cluster.
//!
//! A backend launches, observes and stops; which attempt runs when, and whether it may, is the engine's business.

mod contract;

pub use contract::{
    Backend, CacheMount, InputArtifact, KeepWorkspace, Launch, LaunchError, LaunchStep, LaunchScript, Observation, Orphan,
    SecretValue, SourceInput, Ticket, What,
};
