//! What an action's pod or process group is to do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Credential, PodFields};
use crate::{Millis, Name, NodeId};

/// The steps of one action with all they use.
///
/// Texts that the file may fill with `${{ }}` are templates; the engine resolves them when an attempt is scheduled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The steps, run one after the other over one workspace.
    pub steps: Vec<Step>,
    /// The variables of every step, outermost merged under innermost; templates.
    pub env: BTreeMap<String, String>,
    /// Whether and how the source is put into the workspace.
    pub checkout: Checkout,
    /// The artifacts it gets.
    pub uses: Vec<UseArtifact>,
    /// The artifacts it makes.
    pub artifacts: BTreeMap<Name, Artifact>,
    /// The caches it uses, by the plan's names.
    pub caches: Vec<Name>,
    /// The secrets it gets.
    pub secrets: Vec<Secret>,
    /// The services beside it.
    pub services: BTreeMap<Name, Service>,
    /// Test reports to collect.
    pub reports: Reports,
    /// What it asks of its host.
    pub resources: Option<Resources>,
    /// What it asks of its pod.
    #[serde(default, skip_serializing_if = "PodFields::is_empty")]
    pub pod: PodFields,
    /// The environment whose variables, secrets and gates it uses.
    pub environment: Option<Name>,
    /// The cluster it runs in.
    pub cluster: Option<Name>,
    /// The rights that it borrows.
    pub credentials: Vec<Credential>,
    /// Bytes of log it may write.
    pub log_limit: u64,
    /// When an earlier success stands in for it. Left out where there is none, so that older plans keep their digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
}

/// `reuse:`, what its result depends on beside what the file says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    /// Globs over the paths of the source; `!` excludes.
    pub inputs: Vec<String>,
    /// Names of variables whose values count.
    pub env: Vec<String>,
}

/// One command of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// A name for people: given, or `step 2`.
    pub name: String,
    /// The image it wants; none means whatever the backend has.
    pub image: Option<String>,
    /// What is run.
    pub script: Script,
    /// Further variables; templates.
    pub env: BTreeMap<String, String>,
    /// A limit of its own.
    pub timeout: Option<Millis>,
    /// A folder below the workspace to run in.
    pub working_dir: Option<String>,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Script {
    /// `run:`, text for a shell. Never a template.
    Shell {
        /// Which shell.
        shell: Shell,
        /// The text.
        text: String,
        /// The line of the file that holds the text's first line.
        line: u32,
    },
    /// `command:`, executed without a shell.
    Command {
        /// The program and its arguments, each a template.
        argv: Vec<String>,
    },
    /// `build:`, an image build.
    Build(Box<Build>),
}

/// `shell:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shell {
    /// `sh -eu`.
    Sh,
    /// `bash -euo pipefail`.
    Bash,
}

/// `build:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The context folder.
    pub context: String,
    /// The container file.
    pub file: String,
    /// Where the image goes.
    pub repository: String,
    /// Build arguments, templates.
    pub args: BTreeMap<String, String>,
    /// Platforms such as `linux/amd64`.
    pub platforms: Vec<String>,
    /// Whether it pushes on refs that no environment admits (`push: always`).
    pub push_always: bool,
}

/// `checkout:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "checkout", rename_all = "snake_case")]
pub enum Checkout {
    /// The workspace starts empty.
    None,
    /// The files of the run's revision.
    Files,
    /// The files with git history or more.
    Extended {
        /// Commits of history.
        depth: Option<u32>,
        /// Whether submodules are fetched.
        submodules: bool,
        /// Whether LFS objects are fetched.
        lfs: bool,
    },
}

/// `use: [binary.web]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseArtifact {
    /// The node that makes it.
    pub from: NodeId,
    /// The artifact's name.
    pub artifact: Name,
    /// The folder below the workspace it unpacks into; empty for the workspace itself, `NAME/CELL` for a matrix.
    pub into: String,
}

/// `artifacts: { web: target/release/web }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Globs below the workspace.
    pub paths: Vec<String>,
    /// Whether it is kept after a failure too.
    pub always: bool,
}

/// A cache definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Folders: `~/…` below the step's HOME, else below the workspace.
    pub paths: Vec<String>,
    /// What its key is made of.
    pub key: CacheKey,
    /// Key prefixes to fall back on, in order.
    pub restore: Vec<String>,
    /// Archive or volume.
    pub mode: CacheMode,
}

/// `key:` of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheKey {
    /// Globs whose files' contents are part of the key.
    pub files: Vec<String>,
    /// Further text, a template.
    pub text: Option<String>,
}

/// `mode:` of a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum CacheMode {
    /// Keyed archives.
    Archive,
    /// A shared volume of the cluster.
    Volume {
        /// The volume's name in the Cluster document.
        volume: Name,
        /// Whether one action at a time has it.
        exclusive: bool,
    },
}

/// One secret of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The secret's name.
    pub name: String,
    /// Where its value goes.
    pub target: SecretTarget,
}

/// Where a secret's value goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", content = "name", rename_all = "snake_case")]
pub enum SecretTarget {
    /// A variable.
    Env(String),
    /// A file; `~/…` is below HOME.
    File(String),
}

/// A service beside an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its image.
    pub image: String,
    /// Its variables, templates.
    pub env: BTreeMap<String, String>,
    /// The command that succeeds when it is ready.
    pub ready: Option<String>,
    /// Its condition.
    pub condition: Option<String>,
}

/// `reports:`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reports {
    /// Globs of JUnit XML files.
    pub junit: Vec<String>,
}

/// `resources:`, as the file writes quantities.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// CPUs, such as `2` or `500m`.
    pub cpu: Option<String>,
    /// Memory, such as `4Gi`.
    pub memory: Option<String>,
}
