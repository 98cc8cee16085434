//! An attempt in a pod: its supervisor in one container, a runner in each container that steps run in.
//!
//! ```text
//! server ── exec `attach` ──▶ sock ◀─ supervisor ─▶ steps.sock ◀── runner (container 0) ── sh …
//!        ── exec `put`    ──▶ attempt/in/…      └──────────────▶ runner (container 1) ── sh …
//!        ◀─ exec `get`    ──  attempt/…          each runner gets the writing end of the log's pipe
//! ```
//! Nothing in a pod calls out: streams are opened into it. What a step runs, wherever its container is, writes to the
//! supervisor's own pipe, whose end was handed over once.

pub(crate) mod attach;
pub(crate) mod bulk;
pub(crate) mod crew;
pub(crate) mod empty;
pub(crate) mod hold;
mod lobby;
pub(crate) mod message;
mod own;
pub(crate) mod runner;

pub(crate) use lobby::{install, serve};
pub(crate) use message::StepEnd;

impl From<crate::spawn::SpawnError> for StepEnd {
    fn from(error: crate::spawn::SpawnError) -> Self {
        Self {
            code: Some(error.code()),
            signal: None,
            reason: Some(crate::error_text(&error)),
        }
    }
}
