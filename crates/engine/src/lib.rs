//! The pure machines that decide everything about a run.
//!
//! No clock, randomness, threads, I/O or unordered maps: time, actor and ids come in with the input. The shell loads a
//! [`Run`], calls [`decide()`], stores the [`Decision`]'s events and effects together, and folds the events with [`evolve`].

mod approval;
mod daytime;
mod decide;
mod effect;
mod event;
mod explain;
mod fold;
mod front;
mod hold;
mod input;
mod queue;
mod resolve;
mod roll_up;
mod run;
mod scope;
mod standing;
mod state;
mod subject;
mod windows;

pub use decide::{Decision, Rejection, TicketAnswer, decide, ticket_answer};
pub use effect::{Effect, EffectKey};
pub use event::{EVENT_VERSION, Event, Fact, Next};
pub use explain::{Progress, Why, explain};
pub use fold::{CorruptLog, evolve, replay};
pub use front::{Signature, approvers};
pub use hold::HoldState;
pub use input::{
    AdoptedNode, Adoption, CancelReason, Earlier, EffectResult, Envelope, Group, Input, Look, Origin,
    RunRequest, Seen, Verdict,
};
pub use queue::{Ahead, Candidate, Claim, ClaimId, ClaimState, InUse, LockKey, Share, launch_order, turns};
pub use resolve::{ResolveError, Resolved, ResolvedStep, resolve};
pub use run::{Run, RunPhase, Snapshot};
pub use standing::{Bypass, Person, Requester, Standing, Unnamed};
pub use state::{
    AdoptedFrom, Approval, ApprovalKind, AttemptPhase, Before, DeadlineReason, Ended, LiveAttempt, NodeState,
    OpenGate, Tries,
};
pub use windows::{WindowError, WindowState, window_state};

use subject::subject;
