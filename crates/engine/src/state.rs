//! The state of one node: each variant carries exactly the data that is valid in it.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{
    Actor, ArtifactResult, AttemptId, AttemptRecord, Digest, Holder, Name, NodeId, Outcome, OutputValue,
    ParamValue, RunId, SkipReason, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum NodeState {
    /// Something it needs is not settled.
    Waiting,
    /// A person is to start it.
    AwaitingStart {
        /// Since when.
        since: Timestamp,
        /// Until when.
        expires: Timestamp,
        /// Who took the first of two looks.
        looked: Option<Actor>,
    },
    /// It waits for a time.
    AwaitingTime {
        /// What follows.
        before: Before,
        /// Since when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// Its gate is open.
    Deciding(OpenGate),
    /// It may run as soon as there is a place, and its locks are taken.
    Ready {
        /// Since when.
        since: Timestamp,
        /// The attempts before.
        tries: Tries,
    },
    /// An attempt is on its way.
    Running(LiveAttempt),
    /// It waits before its next attempt.
    Backoff {
        /// The attempts before.
        tries: Tries,
        /// How the last one ended.
        last: Outcome,
        /// Until when.
        until: Timestamp,
    },
    /// It ended.
    Done(Box<Ended>),
    /// It never ran.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// Whether what needs it may go on as if it had succeeded.
        passes: bool,
    },
}

/// A gate that waits for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGate {
    /// What a decision binds to.
    pub subject: Digest,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// Who approved so far.
    pub approvals: Vec<Approval>,
    /// How many it takes, as was seen last; 0 before the first approval.
    #[serde(default)]
    pub needed: u32,
    /// Whose approvals did not count any more when it was opened again.
    #[serde(default)]
    pub lost: BTreeSet<Name>,
}

/// One recorded approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// In the person's words.
    pub comment: Option<String>,
    /// Which person that is; none where people are not known.
    #[serde(default)]
    pub person: Option<Name>,
    /// Whether the rule was kept.
    #[serde(default)]
    pub kind: ApprovalKind,
    /// The values that it is about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<Name, ParamValue>,
}

/// Whether an approval keeps to the gate's rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalKind {
    /// It does.
    #[default]
    Ruled,
    /// It goes past the rule, by somebody who may do that.
    Bypass,
}

/// The ended attempts of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Those that had a ticket: they count against `retry`.
    pub paid: u32,
    /// Those that ended before their ticket: they are tried again free, up to a limit.
    pub free: u32,
    /// Those that were refused their ticket, as a gate in front had opened again.
    #[serde(default)]
    pub withdrawn: u32,
}

impl Tries {
    /// All of them.
    pub fn made(self) -> u32 {
        self.begun().saturating_add(self.withdrawn)
    }

    /// Those that were not taken back before their ticket.
    pub fn begun(self) -> u32 {
        self.paid.saturating_add(self.free)
    }
}

/// An attempt that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAttempt {
    /// Which.
    pub attempt: AttemptId,
    /// The attempts before it.
    pub tries: Tries,
    /// The digest of its inputs, where that is asked for and known (`reuse:`).
    #[serde(default)]
    pub inputs: Option<Digest>,
    /// How far it is.
    pub phase: AttemptPhase,
}

/// What a time is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// The node may start then.
    Start,
    /// The windows of its environment open then.
    Window,
    /// The wait is what the node does, and it is over then.
    End,
}

/// How far a live attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum AttemptPhase {
    /// An earlier success with the same inputs is looked for; nothing is launched before the answer.
    Seeking {
        /// Since when.
        since: Timestamp,
        /// When it must have checked in, whatever is found.
        check_in_by: Timestamp,
    },
    /// There is no room for it, or its place cannot be reached: it is launched as soon as that has changed.
    Queued {
        /// Since when.
        since: Timestamp,
        /// When that has lasted too long.
        expires: Timestamp,
    },
    /// Launched, not checked in.
    Launching {
        /// Since when.
        since: Timestamp,
        /// When it must have checked in.
        check_in_by: Timestamp,
    },
    /// It has its ticket: user code may run.
    Ticketed {
        /// Who has the ticket.
        holder: Holder,
        /// Since when.
        since: Timestamp,
        /// When the engine stops it.
        deadline: Timestamp,
    },
    /// It was told to stop.
    Stopping {
        /// Who has the ticket.
        holder: Holder,
        /// The outcome it gets if it does not end otherwise.
        outcome: Outcome,
        /// When it counts as stopped.
        deadline: Timestamp,
    },
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The outcome.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// Why, for people, where neither outcome nor record says it.
    pub reason: Option<String>,
    /// The number of attempts made; 0 for nodes without attempts.
    pub attempts: u32,
    /// The record of the last attempt.
    pub record: Option<Box<AttemptRecord>>,
    /// The run it was adopted from.
    pub adopted: Option<AdoptedFrom>,
    /// For a gate, who decided.
    pub decisions: Vec<Approval>,
    /// For a gate, the values that were approved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, OutputValue>,
}

/// Where an adopted result came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedFrom {
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: AttemptId,
    /// Its outputs.
    pub outputs: BTreeMap<String, OutputValue>,
    /// Its artifacts.
    pub artifacts: Vec<ArtifactResult>,
}

impl NodeState {
    /// Whether the node will not change any more.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Done(_) | Self::Skipped { .. } => true,
            Self::Waiting
            | Self::AwaitingStart { .. }
            | Self::AwaitingTime { .. }
            | Self::Deciding(_)
            | Self::Ready { .. }
            | Self::Running(_)
            | Self::Backoff { .. } => false,
        }
    }

    /// When the clock next has a say in it.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::AwaitingStart { expires, .. } => Some(*expires),
            Self::AwaitingTime { until, .. } | Self::Backoff { until, .. } => Some(*until),
            Self::Deciding(gate) => Some(gate.expires),
            Self::Running(live) => Some(live.phase.deadline()),
            Self::Waiting | Self::Ready { .. } | Self::Done(_) | Self::Skipped { .. } => None,
        }
    }

    /// How it ended, if it ran or was decided.
    pub fn ended(&self) -> Option<&Ended> {
        match self {
            Self::Done(ended) => Some(ended),
            Self::Waiting
            | Self::AwaitingStart { .. }
            | Self::AwaitingTime { .. }
            | Self::Deciding(_)
            | Self::Ready { .. }
            | Self::Running(_)
            | Self::Backoff { .. }
            | Self::Skipped { .. } => None,
        }
    }

    /// The outcome of a settled node.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Done(ended) => Some(ended.outcome),
            Self::Skipped { .. } => Some(Outcome::Skipped),
            Self::Waiting
            | Self::AwaitingStart { .. }
            | Self::AwaitingTime { .. }
            | Self::Deciding(_)
            | Self::Ready { .. }
            | Self::Running(_)
            | Self::Backoff { .. } => None,
        }
    }

    /// A word for APIs and pages.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::AwaitingStart { .. } => "awaiting start",
            Self::AwaitingTime {
                before: Before::Window,
                ..
            } => "awaiting window",
            Self::AwaitingTime {
                before: Before::Start | Before::End,
                ..
            } => "awaiting time",
            Self::Deciding(_) => "awaiting approval",
            Self::Ready { .. } => "ready",
            Self::Running(live) => match live.phase {
                AttemptPhase::Queued { .. } => "queued",
                AttemptPhase::Seeking { .. } | AttemptPhase::Launching { .. } => "launching",
                AttemptPhase::Ticketed { .. } => "running",
                AttemptPhase::Stopping { .. } => "stopping",
            },
            Self::Backoff { .. } => "waiting to retry",
            Self::Done(ended) if ended.bypass().is_some() => "bypassed",
            Self::Done(ended) => ended.outcome.word(),
            Self::Skipped { .. } => Outcome::Skipped.word(),
        }
    }
}

impl Before {
    /// What is waited for, for people.
    pub fn awaited(self) -> &'static str {
        match self {
            Self::Start | Self::End => "its time",
            Self::Window => "the window of its environment",
        }
    }
}

impl AttemptPhase {
    /// When the clock has a say in it.
    pub fn deadline(&self) -> Timestamp {
        match self {
            Self::Seeking { check_in_by, .. } | Self::Launching { check_in_by, .. } => *check_in_by,
            Self::Queued { expires, .. } => *expires,
            Self::Ticketed { deadline, .. } | Self::Stopping { deadline, .. } => *deadline,
        }
    }

    /// Who has the ticket.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Seeking { .. } | Self::Queued { .. } | Self::Launching { .. } => None,
            Self::Ticketed { holder, .. } | Self::Stopping { holder, .. } => Some(holder),
        }
    }
}

impl Ended {
    /// How a gate's rule was gone past, if it was.
    pub fn bypass(&self) -> Option<&Approval> {
        let mut given = self.decisions.iter();
        given.find(|approval| approval.kind == ApprovalKind::Bypass)
    }

    /// The outputs of a work node, or the values that a gate asked for.
    pub fn outputs(&self) -> impl Iterator<Item = (&str, &OutputValue)> {
        let own = self.record.iter().flat_map(|record| &record.outputs);
        let adopted = self.adopted.iter().flat_map(|from| &from.outputs);
        own.chain(adopted)
            .chain(&self.values)
            .map(|(key, value)| (key.as_str(), value))
    }

    /// The artifacts of a work node.
    pub fn artifacts(&self) -> impl Iterator<Item = &ArtifactResult> {
        let own = self.record.iter().flat_map(|record| &record.artifacts);
        own.chain(self.adopted.iter().flat_map(|from| &from.artifacts))
    }
}

/// What the clock decides next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineReason {
    /// A node's own deadline.
    Node(NodeId),
    /// Locks have been waited for too long.
    Locks,
    /// The `finally` entries'.
    Finally,
    /// The run's.
    Run,
}
