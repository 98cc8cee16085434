//! The written contract between the controller and whatever runs attempts.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::PathBuf,
};

use async_trait::async_trait;
use pipekeeper_agent::protocol::Pointer;
use pipekeeper_model::{
    AttemptId, AttemptRecord, Digest, Holder, Millis, Name, OutputFile, Timestamp,
    plan::{Artifact, Feature, PodFields, Reports, Resources, SecretTarget, Shell},
};
use thiserror::Error;

use crate::{DebugOrder, EnterOrder, Entered, Terminal};

/// Runs attempts.
///
/// - Every call may be repeated: a second `launch` of an attempt adopts the first; a second ticket changes nothing.
/// - User code starts only after [`Ticket::Go`], at most once per attempt, whatever dies.
/// - Observations go to the channel that the backend was made with; they are level-triggered: [`Backend::observe`] makes
///   the backend tell an attempt's present state again.
/// - Attempts outlive the server: after a restart, `list` and `observe` find them.
#[async_trait]
pub trait Backend: Send + Sync {
    /// What plans of this project may ask of it.
    fn supports(&self, project: &Name) -> &BTreeSet<Feature>;

    /// The clusters that runs may name, with what plans may ask of each.
    fn clusters(&self) -> BTreeMap<Name, &BTreeSet<Feature>> {
        BTreeMap::new()
    }

    /// How much room there is where attempts of this project run, or those that name a cluster; none if there is no end to it.
    fn capacity(&self, _project: &Name, _cluster: Option<&Name>) -> Option<Capacity> {
        None
    }

    /// Whether anything of the attempt is kept here; quick, and no question to anybody else.
    fn knows(&self, attempt: AttemptId) -> bool;

    /// Creates the attempt's process or pod, or adopts it if it exists. Returns when it is sure to exist; check-in is observed.
    async fn launch(&self, launch: Launch) -> Result<(), LaunchError>;

    /// Answers a check-in of this holder.
    async fn answer(&self, attempt: AttemptId, holder: &Holder, ticket: Ticket) -> Result<(), LaunchError>;

    /// Stops the attempt: polite signal, `grace`, final signal, to everything it started. Unknown attempts count as stopped:
    /// they are observed as [`What::Gone`].
    async fn stop(&self, attempt: AttemptId, grace: Millis) -> Result<(), LaunchError>;

    /// Makes the backend tell the present state of an attempt; one it does not know is [`What::Gone`].
    async fn observe(&self, attempt: AttemptId) -> Result<(), LaunchError>;

    /// What runs in an attempt now: one process a line, for people, with no secret in it.
    async fn processes(&self, attempt: AttemptId) -> Result<String, LaunchError>;

    /// Opens a shell where a step of an ended attempt began, in containers of its own that are made like the attempt's.
    /// They are never [`Backend::list`]ed, nor observed by anybody else, as long as the terminal is there.
    async fn debug(&self, _order: DebugOrder) -> Result<Terminal, LaunchError> {
        Err(LaunchError::Terminal {
            reason: "no shell can be opened here: it ran in no container".to_owned(),
        })
    }

    /// Opens a shell in the very containers of an ended attempt, as its failing step left them, if they are held.
    async fn enter(&self, _order: EnterOrder) -> Result<Entered, LaunchError> {
        Ok(Entered::NeverHeld)
    }

    /// Lets the held containers of an ended attempt go before their time; false if there are none.
    async fn release(&self, _attempt: AttemptId) -> Result<bool, LaunchError> {
        Ok(false)
    }

    /// Removes what the backend keeps of an ended attempt: its record is stored. The log stays, and so do containers that
    /// are held or stand by for other attempts.
    async fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError>;

    /// Every attempt that it knows, ended ones included.
    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError>;
}

/// What a launch may have to wait for until others end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scarce {
    /// The quota of its namespace.
    Quota,
    /// A volume that one action at a time has.
    Volume,
}

/// How many attempts may be at work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Where, if there are several places.
    pub place: usize,
    /// How many.
    pub attempts: NonZeroUsize,
}

/// A call that did not work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// It may go better later.
    #[error("{reason}")]
    Transient {
        /// What is in the way.
        reason: String,
    },
    /// Others have what it needs; it goes better once one of them has ended.
    #[error("{reason}")]
    Occupied {
        /// What it is.
        of: Scarce,
        /// What they have, and who.
        reason: String,
    },
    /// It never will.
    #[error("{reason}")]
    Terminal {
        /// What is wrong.
        reason: String,
    },
}

/// Everything that an attempt needs, resolved: no templates, no names to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its steps.
    pub steps: Vec<LaunchStep>,
    /// The variables of every step.
    pub env: BTreeMap<String, String>,
    /// The variables of every step that are paths of outputs kept as files.
    pub env_files: BTreeMap<String, OutputFile>,
    /// What the workspace starts with.
    pub source: SourceInput,
    /// Artifacts of earlier actions to unpack.
    pub inputs: Vec<InputArtifact>,
    /// Artifacts to keep.
    pub artifacts: BTreeMap<Name, Artifact>,
    /// Archive caches to restore and save.
    pub caches: Vec<CacheMount>,
    /// Test reports to collect.
    pub reports: Reports,
    /// The limit of its running time.
    pub timeout: Millis,
    /// From the polite signal to the final one.
    pub grace: Millis,
    /// Bytes of log it may write.
    pub log_limit: u64,
    /// Where the log's bytes go.
    pub log: PathBuf,
    /// What happens to the workspace afterwards.
    pub keep_workspace: KeepWorkspace,
    /// What the attempt does without a controller.
    pub orphan: Orphan,
    /// Where it belongs, for backends that make containers.
    pub placement: Placement,
    /// The containers beside its steps.
    pub services: Vec<LaunchService>,
    /// What it asks of its host.
    pub resources: Resources,
    /// What it asks of its pod.
    pub pod: PodFields,
    /// The volumes that are its caches.
    pub volumes: Vec<VolumeMount>,
    /// Whether any of the secrets that its ticket brings is a file.
    pub has_secret_files: bool,
    /// Whether what it runs in may serve other attempts after it: it holds no secret, waited for nobody's consent and is
    /// no stranger's.
    pub may_share: bool,
}

impl Launch {
    /// Every output that it gets as a file, by the place it goes to.
    pub fn output_files(&self) -> BTreeMap<&str, &Digest> {
        let steps = self.steps.iter().flat_map(|step| step.env_files.values());
        let all = self.env_files.values().chain(steps);
        all.map(|file| (file.place.as_str(), &file.digest)).collect()
    }
}

/// Where an attempt belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Its project.
    pub project: Name,
    /// Its pipeline.
    pub pipeline: Name,
    /// Its node's name, for people.
    pub action: String,
    /// How far its code is trusted.
    pub tier: Tier,
    /// The cluster that its file names.
    pub cluster: Option<Name>,
}

/// How far the code of a run is trusted; what a lower tier writes, a higher one never reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Protected branches and tags.
    Protected,
    /// Other refs of the repository.
    Branches,
    /// Refs of other people's copies, and working trees sent by hand.
    Forks,
    /// A working tree on its owner's machine.
    Local,
}

impl Tier {
    /// Its name, in folders and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Branches => "branches",
            Self::Forks => "forks",
            Self::Local => "local",
        }
    }
}

/// A container beside the steps, there from before the first until after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchService {
    /// Its name, under which the steps reach it.
    pub name: Name,
    /// Its image.
    pub image: String,
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// The command in it that succeeds when it is ready; without it, it is ready when it runs.
    pub ready: Option<String>,
}

/// A cache that is a volume, mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// The cache's name.
    pub cache: Name,
    /// The volume's name, as the cluster's owner gave it.
    pub volume: Name,
    /// The paths that lie in it.
    pub paths: Vec<String>,
    /// Who may have it meanwhile.
    pub access: VolumeAccess,
}

/// Who may have a volume at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeAccess {
    /// Everybody.
    Many,
    /// Nobody else who wants it for itself.
    One,
}

/// One step, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchStep {
    /// Its name.
    pub name: String,
    /// The image it wants.
    pub image: Option<String>,
    /// What is run.
    pub script: LaunchScript,
    /// Further variables.
    pub env: BTreeMap<String, String>,
    /// Further variables that are paths of outputs kept as files.
    pub env_files: BTreeMap<String, OutputFile>,
    /// A limit of its own.
    pub timeout: Option<Millis>,
    /// A folder below the workspace.
    pub working_dir: Option<String>,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchScript {
    /// Text for a shell.
    Shell {
        /// Which.
        shell: Shell,
        /// The text.
        text: String,
        /// The line of the pipeline file that holds the text's first line.
        line: u32,
    },
    /// A program and its arguments.
    Command(Vec<String>),
}

/// What a workspace starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceInput {
    /// Nothing.
    Empty,
    /// A copy of this folder.
    Folder(PathBuf),
    /// The contents of this tar archive.
    Archive(PathBuf),
}

/// An artifact of an earlier action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputArtifact {
    /// The archive's digest: it is found in the artifact folder under it, and checked.
    pub digest: Digest,
    /// The folder below the workspace.
    pub into: String,
}

/// An archive cache, its key computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Its name.
    pub name: Name,
    /// The folders it holds.
    pub paths: Vec<String>,
    /// The file of the exact key.
    pub exact: PathBuf,
    /// Files to fall back on, best first.
    pub fallbacks: Vec<PathBuf>,
    /// Where a new one is saved; none if this attempt may only read.
    pub save_to: Option<PathBuf>,
}

/// What happens to a workspace after its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepWorkspace {
    /// It goes.
    Never,
    /// It stays if the attempt did not succeed.
    OnFailure,
    /// It stays.
    Always,
}

/// What an attempt does when no controller is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphan {
    /// It works on.
    WorkOn,
    /// It stops itself after this long.
    StopAfter(Millis),
}

/// The answer to a check-in.
#[derive(Clone, PartialEq, Eq)]
pub enum Ticket {
    /// Start.
    Go {
        /// The secrets, for memory only.
        secrets: Vec<SecretValue>,
    },
    /// Another has the ticket, or nobody may: exit without running anything.
    Exit,
}

/// A secret on its way into an attempt's memory; it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue {
    /// Where it goes; none masks it only.
    pub target: Option<SecretTarget>,
    /// The variable that says where its file is.
    pub pointer: Option<Pointer>,
    /// The value.
    pub value: String,
}

/// Something seen of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The attempt.
    pub attempt: AttemptId,
    /// What.
    pub what: What,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Something keeps it from starting; people see it.
    Waiting {
        /// What.
        reason: String,
    },
    /// A supervisor is there and asks for the ticket.
    CheckedIn {
        /// Which.
        holder: Holder,
    },
    /// A step began.
    StepStarted {
        /// Its index.
        step: usize,
    },
    /// The log has so many bytes now.
    LogGrew {
        /// How many.
        bytes: u64,
    },
    /// It has been silent.
    Silent {
        /// For how many seconds.
        seconds: u64,
        /// Its processes, for people.
        processes: String,
    },
    /// It ended; artifacts and log are in place.
    Finished {
        /// The supervisor that had the ticket.
        holder: Holder,
        /// The record.
        record: Box<AttemptRecord>,
    },
    /// After its end: its containers are held for people who look into them, until then; none: not any more.
    Held {
        /// When they go.
        until: Option<Timestamp>,
    },
    /// It never started, nothing of it is left, and another try would end like this one.
    Hopeless {
        /// What is wrong.
        reason: String,
    },
    /// Nothing of it is left, and no record.
    Gone {
        /// Why, as far as known.
        reason: String,
    },
}
