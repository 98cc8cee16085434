//! What an attempt left behind, as its supervisor recorded it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Digest, Millis, Name, Outcome, OutputValue, TestCounts, Timestamp};

/// The one supervisor process or pod that asks for an attempt's ticket; drawn by it, unguessable by another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Holder(pub String);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Every step's exit code was 0.
    Succeeded,
    /// A step said no.
    Failed,
    /// Its running time was over.
    TimedOut,
    /// It was stopped on request.
    Cancelled,
    /// Our side broke: no place on disk, no shell, a broken archive.
    Errored,
    /// Its pod, host or supervisor vanished.
    Lost,
}

impl AttemptOutcome {
    /// The node's outcome if no further attempt is made.
    pub fn to_outcome(self) -> Outcome {
        match self {
            Self::Succeeded => Outcome::Succeeded,
            Self::Failed => Outcome::Failed,
            Self::TimedOut => Outcome::TimedOut,
            Self::Cancelled => Outcome::Cancelled,
            Self::Errored => Outcome::Errored,
            Self::Lost => Outcome::Lost,
        }
    }
}

/// The record of one ended attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why, for people, unless it succeeded: `exit code 1`, `signal 9`, `no space left on device`.
    pub reason: Option<String>,
    /// The steps that ran.
    pub steps: Vec<StepResult>,
    /// The outputs it set.
    pub outputs: BTreeMap<String, OutputValue>,
    /// The artifacts it made.
    pub artifacts: Vec<ArtifactResult>,
    /// Bytes of log written.
    pub log_bytes: u64,
    /// Whether the log limit cut it.
    pub log_truncated: bool,
    /// What it wrote to `$PIPE_SUMMARY`.
    pub summary: Option<String>,
    /// What its test reports say, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestCounts>,
    /// When its first step started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

impl AttemptRecord {
    /// A record of an attempt that ended without one of its own.
    pub fn without_steps(outcome: AttemptOutcome, reason: impl Into<String>, at: Timestamp) -> Self {
        Self {
            outcome,
            reason: Some(reason.into()),
            steps: Vec::new(),
            outputs: BTreeMap::new(),
            artifacts: Vec::new(),
            log_bytes: 0,
            log_truncated: false,
            summary: None,
            tests: None,
            started_at: at,
            ended_at: at,
        }
    }

    /// How long it ran.
    pub fn duration(&self) -> Millis {
        self.ended_at.since(self.started_at)
    }
}

/// One step that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// The step's name.
    pub name: String,
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The line of the pipeline file whose command ran last.
    pub line: Option<u32>,
    /// Where its output starts in the attempt's log, in bytes.
    pub log_start: u64,
    /// Where its output ends.
    pub log_end: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// One artifact that an attempt made, kept under its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactResult {
    /// Its name.
    pub name: Name,
    /// The digest of its archive.
    pub digest: Digest,
    /// The archive's size in bytes.
    pub bytes: u64,
    /// How many files it holds.
    pub files: u64,
}
