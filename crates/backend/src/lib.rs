//! The [`Backend`] trait: where attempts run, with its contract suite, the backends that need no cluster, and what
//! those that make pods share.
//!
//! A backend launches, observes and stops; which attempt runs when, and whether it may, is the engine's business.

mod artifacts;
mod cache_ref;
mod contract;
mod debug;
pub mod docker;
pub mod dummy;
mod junit;
mod lanes;
mod local;
pub mod pod;
mod processes;
mod record;
mod router;
mod spec;
#[cfg(any(test, feature = "contract"))]
pub mod suite;

pub use artifacts::{artifact_path, blob_path, renew};
pub use cache_ref::{CACHE_FILE, CACHE_REF, CacheRef, cache_ref_path};
pub use contract::{
    Backend, CacheMount, Capacity, InputArtifact, KeepWorkspace, Launch, LaunchError, LaunchScript,
    LaunchService, LaunchStep, Observation, Orphan, Placement, Scarce, SecretValue, SourceInput, Ticket,
    Tier, VolumeAccess, VolumeMount, What,
};
pub use debug::{DebugOrder, EnterOrder, Entered, TermName, Terminal, TerminalSize, TerminalStream, Told};
pub use dummy::DummyBackend;
pub use local::{AgentProgram, LocalBackend, LocalOptions, keep_apart, usual_attempts};
pub use pipekeeper_agent::protocol::{Pointed, Pointer};
pub use router::Router;
