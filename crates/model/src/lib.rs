//! Value types shared by every Pipekeeper crate: ids, time, revisions, actors, outcomes, triggers and the compiled plan.
//!
//! Nothing here does I/O, reads a clock or decides anything about a run; rules live in `engine`.

mod actor;
mod approver;
mod attempt;
mod bytes;
mod digest;
mod git;
mod id;
mod millis;
mod outcome;
mod output;
mod param;
mod patterns;
pub mod plan;
mod tests_result;
mod trigger;
mod window;

pub use actor::Actor;
pub use approver::{Approver, ParseApproverError};
pub use attempt::{ArtifactResult, AttemptOutcome, AttemptRecord, Holder, StepResult};
pub use bytes::{Bytes, ParseBytesError};
pub use digest::{Digest, ParseDigestError};
pub use git::{GitRef, ParseShaError, RefNameError, Revision, Sha};
pub use id::{AttemptId, Name, NameError, NodeId, ParseAttemptIdError, RunId};
pub use millis::{Millis, ParseMillisError, Timestamp};
pub use outcome::{Outcome, ParseOutcomeError, SkipReason};
pub use output::{OutputFile, OutputValue};
pub use param::{MAX_PARAM, Param, ParamKind, ParamValue, param_values};
pub use patterns::{Patterns, check_glob};
pub use plan::Plan;
pub use tests_result::{TestCase, TestCounts, TestDetails, TestTime};
pub use trigger::{ChangedAnswer, EventKind, RunContext, TriggerEvent};
pub use window::{ParseWeekSpanError, TimeOfDay, WeekSpan, Weekday, Window, WindowRule};
