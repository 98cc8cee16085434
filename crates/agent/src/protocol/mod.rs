//! What supervisor and controller agree on: files of an attempt's folder, messages and their frames.
//!
//! No behaviour beyond reading and writing them. Entry types: [`AttemptSpec`], [`AttemptDir`], [`ToAgent`],
//! [`FromAgent`] and [`ExitRecord`].

mod bulk;
mod dir;
mod frame;
mod limits;
mod message;
mod record;
mod spec;
mod transfer;

pub use crate::outputs::is_output_key;
pub use bulk::{Answer, Offer, Wanted};
pub use dir::{AttemptDir, FileError};
pub use frame::{
    FrameError, Incoming, MAX_FRAME, encode, encode_log, read_frame, try_decode, try_decode_incoming,
    write_frame,
};
pub use limits::{FileLimits, MAX_ALL_REPORTS, MAX_OUTPUT_BYTES, MAX_OUTPUTS, MAX_REPORT_BYTES, MAX_REPORTS};
pub use message::{FromAgent, Pointed, Pointer, SecretText, SecretValue, ToAgent};
pub use record::{ArtifactRecord, CacheRecord, ExitRecord, LargeOutput, RecordOutcome, StepRecord, Usage};
pub use spec::{
    ArtifactSpec, AttemptSpec, CacheCandidate, CacheSpec, InputSpec, KeepWorkspace, Orphan, PodSpec, Script,
    Shell, StepSpec, ValueSpec, WorkspaceSpec,
};
pub use transfer::{CacheUrls, FetchUrl, StoreAccess, Transfer, TransferOrder};

/// Why a step failed whose container ended under it; the container's host may know more.
pub const CONTAINER_ENDED: &str = "its container ended";

/// What a line of a container's own log begins with behind which a further attempt of its pod writes; its id follows.
pub const CONTAINER_MARK: &str = "pipekeeper: from here on this pod serves ";

/// The version of specs, records and messages that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
