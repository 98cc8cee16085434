//! What supervisor and controller agree on: files of an attempt's folder, messages and their frames.
//!
//! No behaviour beyond reading and writing them. Entry types: [`AttemptSpec`], [`AttemptDir`], [`ToAgent`],
//! [`FromAgent`] and [`ExitRecord`].

mod dir;
mod frame;
mod message;
mod record;
mod spec;

pub use dir::{AttemptDir, FileError};
pub use frame::{FrameError, MAX_FRAME, encode, read_frame, try_decode, write_frame};
pub use message::{FromAgent, SecretText, SecretValue, ToAgent};
pub use record::{ArtifactRecord, CacheRecord, ExitRecord, RecordOutcome, StepRecord, Usage};
pub use spec::{
    ArtifactSpec, AttemptSpec, CacheCandidate, CacheSpec, InputSpec, KeepWorkspace, Orphan, Script, Shell,
    StepSpec, WorkspaceSpec,
};

/// The version of specs, records and messages that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
