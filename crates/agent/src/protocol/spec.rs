//! `spec.json`: everything a supervisor is told before it starts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{FileLimits, PROTOCOL_VERSION};

/// One attempt of an action, with every value resolved.
///
/// It holds no secret; those come with [`ToAgent::Go`](super::ToAgent::Go).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptSpec {
    /// The version it was written in.
    pub version: u32,
    /// The attempt's id, such as `r57-n3-a1`.
    pub attempt: String,
    /// What proves that an exit record belongs to this attempt.
    pub nonce: String,
    /// The steps, run one after the other.
    pub steps: Vec<StepSpec>,
    /// The variables of every step.
    pub env: BTreeMap<String, String>,
    /// The variables of every step that are paths of files below the folder of values.
    #[serde(default)]
    pub env_files: BTreeMap<String, String>,
    /// The files of that folder.
    #[serde(default)]
    pub values: Vec<ValueSpec>,
    /// How the workspace is filled.
    pub workspace: WorkspaceSpec,
    /// Artifacts of other actions to unpack into it.
    #[serde(default)]
    pub inputs: Vec<InputSpec>,
    /// Artifacts to keep.
    #[serde(default)]
    pub artifacts: Vec<ArtifactSpec>,
    /// Caches to restore and save.
    #[serde(default)]
    pub caches: Vec<CacheSpec>,
    /// Globs of test reports, copied whatever the outcome.
    #[serde(default)]
    pub reports: Vec<String>,
    /// How long it may run, counted from its start.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The time between TERM and KILL.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// Bytes of log that are kept; what comes after is read and dropped.
    #[serde(default = "default_log_limit")]
    pub log_limit: u64,
    /// How large what is kept of it may be.
    #[serde(default)]
    pub limits: FileLimits,
    /// The log file, appended to.
    pub log: PathBuf,
    /// When the workspace outlives the attempt.
    #[serde(default)]
    pub keep_workspace: KeepWorkspace,
    /// What happens without a controller.
    #[serde(default)]
    pub orphan: Orphan,
    /// The containers that its steps run in; without it they are processes beside the supervisor.
    #[serde(default)]
    pub pod: Option<PodSpec>,
}

/// How an attempt stands in a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// How many containers steps run in; each has a runner that checks in.
    pub containers: usize,
    /// Where the steps see the workspace.
    pub workspace: PathBuf,
    /// Where the steps see HOME.
    pub home: PathBuf,
    /// Where the steps see the folder of output and summary.
    pub out: PathBuf,
    /// Where the steps see the folder of tools.
    pub tools: PathBuf,
    /// Where the steps see the folder in memory that files of secrets are kept in; none if the attempt gets no such file.
    #[serde(default)]
    pub secrets: Option<PathBuf>,
    /// Whether the pod may serve a further attempt when this one has succeeded: then its runners stay.
    #[serde(default)]
    pub stays: bool,
    /// The temporary folders of the containers, which are emptied then.
    #[serde(default)]
    pub temporary: Vec<PathBuf>,
    /// Where volumes that outlive the pod are mounted in the containers of the steps.
    #[serde(default)]
    pub mounts: Vec<PathBuf>,
}

impl AttemptSpec {
    /// A spec with nothing in it but defaults.
    #[must_use]
    pub fn new(attempt: impl Into<String>, nonce: impl Into<String>, log: impl Into<PathBuf>) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            attempt: attempt.into(),
            nonce: nonce.into(),
            steps: Vec::new(),
            env: BTreeMap::new(),
            env_files: BTreeMap::new(),
            values: Vec::new(),
            workspace: WorkspaceSpec::Empty,
            inputs: Vec::new(),
            artifacts: Vec::new(),
            caches: Vec::new(),
            reports: Vec::new(),
            timeout_ms: None,
            grace_ms: default_grace_ms(),
            log_limit: default_log_limit(),
            limits: FileLimits::default(),
            log: log.into(),
            keep_workspace: KeepWorkspace::default(),
            orphan: Orphan::default(),
            pod: None,
        }
    }
}

fn default_grace_ms() -> u64 {
    10_000
}

fn default_log_limit() -> u64 {
    100 << 20
}

/// One command of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    /// A name for people.
    pub name: String,
    /// What is run.
    pub script: Script,
    /// Further variables, over the attempt's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Further variables that are paths of files below the folder of values.
    #[serde(default)]
    pub env_files: BTreeMap<String, String>,
    /// A limit of its own.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The folder below the workspace to run in.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// The index of the container it runs in, in a pod.
    #[serde(default)]
    pub container: usize,
}

/// An output of another action that steps find as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueSpec {
    /// The file.
    pub file: PathBuf,
    /// Where it goes below the folder of values.
    pub place: String,
    /// Its SHA-256 in hex; another content is an error.
    pub sha256: String,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Script {
    /// Text for a shell.
    Shell {
        /// Which shell.
        shell: Shell,
        /// The text.
        text: String,
        /// The line of the pipeline file that holds the text's first line.
        line: u32,
    },
    /// A program, executed without a shell.
    Command {
        /// The program and its arguments.
        argv: Vec<String>,
    },
}

/// The shell of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shell {
    /// `sh -eu`.
    Sh,
    /// `bash -euo pipefail`.
    Bash,
}

/// How the workspace is filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum WorkspaceSpec {
    /// It starts empty.
    Empty,
    /// A copy of a folder.
    CopyOf {
        /// The folder.
        path: PathBuf,
    },
    /// The content of a `.tar` or `.tar.zst` file.
    Archive {
        /// The file.
        path: PathBuf,
    },
}

/// An artifact that goes into the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSpec {
    /// The archive.
    pub archive: PathBuf,
    /// The folder below the workspace; empty for the workspace itself.
    pub into: String,
    /// The archive's SHA-256 in hex; another content is an error.
    pub sha256: String,
}

/// An artifact to keep, as `artifacts/NAME.tar.zst`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactSpec {
    /// Its name.
    pub name: String,
    /// Globs below the workspace; one that starts with `!` leaves files out.
    pub paths: Vec<String>,
    /// Whether it is kept after a failure too.
    #[serde(default)]
    pub always: bool,
}

/// An archive cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSpec {
    /// Its name.
    pub name: String,
    /// Its key, for people.
    pub key: String,
    /// Archives to try, best first; a missing or damaged one means the next.
    pub restore: Vec<CacheCandidate>,
    /// Folders or files: `~/…` below HOME, else below the workspace.
    pub paths: Vec<String>,
    /// Where it is saved after success, unless an exact candidate was restored; nowhere if none.
    pub save_to: Option<PathBuf>,
}

/// One archive that a cache may be restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCandidate {
    /// The archive.
    pub path: PathBuf,
    /// Whether its key is the cache's own, not merely a fallback.
    pub exact: bool,
}

/// When the workspace outlives the attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepWorkspace {
    /// Never.
    #[default]
    Never,
    /// Unless it succeeded.
    OnFailure,
    /// Always.
    Always,
}

/// What happens while no controller is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "orphan", rename_all = "snake_case")]
pub enum Orphan {
    /// The attempt works on; a later controller reads on.
    #[default]
    WorkOn,
    /// The attempt is stopped.
    StopAfter {
        /// After this long without a controller.
        ms: u64,
    },
}
