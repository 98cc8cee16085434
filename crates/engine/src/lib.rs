//! The pure machines that decide everything about a run.
//!
//! No clock, randomness, threads, I/O or unordered maps: time, actor and ids come in with the input. The shell loads a
//! [`Run`], calls [`decide`], stores the [`Decision`]'s events and effects together, and folds the events with [`evolve`].

mod effect;
mod event;
mod input;
mod run;
mod state;

pub use effect::{Effect, EffectKey};
pub use event::{EVENT_VERSION, Event, Fact};
pub use input::{
    AdoptedNode, Adoption, CancelReason, EffectResult, Envelope, Group, Input, Look, RunRequest, Seen,
    Verdict,
};
pub use run::{Run, RunPhase, Snapshot};
pub use state::{
    AdoptedFrom, Approval, AttemptPhase, DeadlineReason, Ended, LiveAttempt, NodeState, OpenGate,
};
