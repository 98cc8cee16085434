//! The [`Backend`] trait: where attempts run, with its contract suite and the backends that need no cluster.
//!
//! A backend launches, observes and stops; which attempt runs when, and whether it may, is the engine's business.

mod contract;
pub mod dummy;
mod local;
#[cfg(any(test, feature = "contract"))]
pub mod suite;

pub use contract::{
    Backend, CacheMount, InputArtifact, KeepWorkspace, Launch, LaunchError, LaunchScript, LaunchStep,
    Observation, Orphan, SecretValue, SourceInput, Ticket, What,
};
pub use dummy::DummyBackend;
pub use local::{AgentProgram, LocalBackend, LocalOptions, artifact_path, keep_apart};
