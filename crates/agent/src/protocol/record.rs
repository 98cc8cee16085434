//! `exit.json`: what became of an attempt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The truth about a finished attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The version it was written in.
    pub version: u32,
    /// The attempt's id.
    pub attempt: String,
    /// The nonce of its spec.
    pub nonce: String,
    /// The supervisor that wrote it.
    pub holder: String,
    /// How it ended.
    pub outcome: RecordOutcome,
    /// The steps that were started.
    pub steps: Vec<StepRecord>,
    /// The named values it put out.
    pub outputs: BTreeMap<String, String>,
    /// The values that are too large to stand here, as files below `outputs`.
    #[serde(default)]
    pub large_outputs: BTreeMap<String, LargeOutput>,
    /// The artifacts it kept.
    pub artifacts: Vec<ArtifactRecord>,
    /// What its caches did.
    #[serde(default)]
    pub caches: Vec<CacheRecord>,
    /// The test reports it kept, as paths below `reports`.
    #[serde(default)]
    pub reports: Vec<String>,
    /// The size of the log.
    pub log_bytes: u64,
    /// Whether output was dropped at the limit or because the disk was full.
    pub log_truncated: bool,
    /// Whether `summary.md` holds something.
    pub summary: bool,
    /// When the ticket was taken, in ms since the epoch; none if it never was.
    pub started_ms: Option<u64>,
    /// When the record was written, in ms since the epoch.
    pub ended_ms: u64,
    /// What the steps used.
    #[serde(default)]
    pub usage: Usage,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RecordOutcome {
    /// Every step exited with 0.
    Succeeded,
    /// The user's side said no.
    Failed {
        /// Index of the step.
        step: usize,
        /// Its exit code.
        code: Option<i32>,
        /// Or the signal that ended it.
        signal: Option<i32>,
        /// What else was wrong, such as a malformed output; it stands in the log too.
        reason: Option<String>,
    },
    /// A limit of time was reached.
    TimedOut {
        /// Index of the step that ran; none while files were unpacked or packed.
        step: Option<usize>,
    },
    /// It was told to stop.
    Cancelled,
    /// Our side broke.
    Errored {
        /// Why.
        reason: String,
    },
    /// The ticket was another's; nothing was started.
    Refused,
}

/// One step that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name.
    pub name: String,
    /// When it started, in ms since the epoch.
    pub started_ms: u64,
    /// When it ended; 0 while it runs.
    pub ended_ms: u64,
    /// The log offset of its first byte.
    pub log_start: u64,
    /// The log offset after its last byte.
    pub log_end: u64,
    /// Its exit code.
    pub code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<i32>,
    /// The line in the pipeline file of the last command that was echoed.
    pub last_line: Option<u32>,
}

/// One artifact that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of the archive in hex.
    pub sha256: String,
    /// Size of the archive.
    pub bytes: u64,
    /// Number of files and links in it.
    pub files: u64,
}

/// A value that is kept as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeOutput {
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What one cache did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// Its name.
    pub name: String,
    /// Whether the candidate restored was exact; none if none was restored.
    pub restored_exact: Option<bool>,
    /// Size of the archive saved; none if none was.
    pub saved_bytes: Option<u64>,
    /// The SHA-256 of what was saved, without its own trailer, in hex.
    #[serde(default)]
    pub digest: Option<String>,
    /// Whether that is in the object store already, and no file of the attempt's.
    #[serde(default)]
    pub in_store: bool,
}

/// What the steps used, as far as the kernel told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time of every process that ended.
    pub cpu_ms: u64,
}
