//! Nodes: the vertices of a plan, their edges, conditions and ways to start.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Work;
use crate::{Approver, Millis, Name, NodeId, Outcome, Param};

/// A place in a pipeline file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// One vertex of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The full name, unique in the plan: `lint`, `test[db=sqlite]`.
    pub name: String,
    /// The action it belongs to: the name without the cell.
    pub action: Name,
    /// The matrix values of this cell; empty for a node without a matrix.
    pub cell: BTreeMap<Name, String>,
    /// The labels of the groups around it, outermost first, for display.
    pub groups: Vec<String>,
    /// What must settle before it is this node's turn, gates in front included; sorted, without repeats.
    pub needs: Vec<NodeId>,
    /// The conditions of the groups around it and its own: all must hold.
    pub conditions: Vec<Condition>,
    /// What sets it going once its needs are settled.
    pub start: Start,
    /// Main or `finally`.
    pub section: Section,
    /// Whether its failure leaves the run green.
    pub allow_failure: bool,
    /// The limit of an attempt's running time, or how long a gate stays open.
    pub timeout: Millis,
    /// When another attempt is made.
    pub retry: Retry,
    /// The locks it takes, its groups' included.
    pub locks: Vec<Lock>,
    /// The first of the nodes that hold their locks together with it: those of the outermost entry around it that has locks.
    /// Left out where there is none, so that older plans keep their digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<NodeId>,
    /// Where its entry starts in the file.
    pub place: Place,
    /// What it does.
    pub body: Body,
}

/// An `if:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The expression's text.
    pub expression: String,
    /// Whether it names an outcome: then it is judged whatever the outcomes of the needs; else it implies that all succeeded.
    pub judges_outcomes: bool,
}

/// `start:` of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Start {
    /// As soon as its needs are settled.
    Auto,
    /// When a person says so.
    Manual,
    /// When a person says so twice, the second time having seen what will happen.
    Confirm {
        /// Whether the second look must be another person's.
        by_other: bool,
    },
    /// When the clock says so.
    Timed(WaitFor),
}

/// A time that is waited for. Times of day are `HH:MM` in the zone; the controller turns them into instants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "until", rename_all = "snake_case")]
pub enum WaitFor {
    /// A length of time from the moment the node is ready.
    Elapsed {
        /// How long.
        length: Millis,
    },
    /// The next occurrence of a time of day (`at`, `until`).
    At {
        /// `HH:MM`.
        time: String,
        /// IANA name.
        timezone: String,
    },
    /// Any moment from this time of day until midnight (`after`).
    After {
        /// `HH:MM`.
        time: String,
        /// IANA name.
        timezone: String,
    },
    /// Any moment between two times of day; may span midnight.
    Between {
        /// `HH:MM`.
        from: String,
        /// `HH:MM`.
        to: String,
        /// IANA name.
        timezone: String,
    },
}

/// Where in the pipeline a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Under `actions:`.
    Main,
    /// Under `finally:`: runs after success, failure and cancel.
    Finally,
}

/// What one failure does to nodes that have not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// They are skipped.
    Stop,
    /// Those that do not need the failed node go on.
    Continue,
}

/// When another attempt is made after the ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// All tries together, at least 1.
    pub attempts: u32,
    /// The outcomes that are tried again.
    pub on: BTreeSet<Outcome>,
    /// The pause before the next try; doubled for each further one.
    pub backoff: Millis,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            on: BTreeSet::new(),
            backoff: Millis(0),
        }
    }
}

/// One lock taken by a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The lock's name.
    pub name: Name,
    /// How many may hold it at once.
    pub slots: u32,
    /// Whether the newest waiting one goes first.
    pub newest_first: bool,
    /// Whether it is given back while nothing but gates waits.
    pub yields_at_gate: bool,
    /// Who shares it.
    #[serde(default, skip_serializing_if = "LockScope::is_project")]
    pub scope: LockScope,
}

/// `scope:` of a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockScope {
    /// The runs of the project.
    #[default]
    Project,
    /// Every run of the server.
    Server,
}

impl LockScope {
    /// Whether other projects' locks of this name are others.
    pub fn is_project(&self) -> bool {
        *self == Self::Project
    }
}

/// What a node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// Runs steps.
    Work(Box<Work>),
    /// Waits for a decision by people.
    Approve(Gate),
    /// Waits for a time.
    Wait(Wait),
    /// Makes an environment run what this run built.
    Promote(Promotion),
    /// Makes a cluster match git.
    Sync(Sync),
    /// Runs another pipeline.
    Call(SubPipeline),
}

/// `approve:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// What is asked.
    pub text: String,
    /// Who may answer; empty means anyone with the right to approve.
    pub by: Vec<Approver>,
    /// How many distinct approvals are needed.
    pub count: u32,
    /// Whether whoever asked for the run may approve.
    #[serde(default, skip_serializing_if = "SelfApproval::is_refused")]
    pub self_approval: SelfApproval,
    /// The typed values asked for, by name; what comes after reads them as the gate's outputs.
    pub params: BTreeMap<Name, Param>,
    /// Whether an older waiting run stays when a newer one reaches this gate (`keep: all`).
    pub keep_all: bool,
}

/// `self:` of an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfApproval {
    /// Somebody else is to approve.
    #[default]
    Refused,
    /// Whoever asked for the run may.
    Allowed,
}

impl SelfApproval {
    /// Whether somebody else is to approve.
    pub fn is_refused(&self) -> bool {
        *self == Self::Refused
    }
}

/// `wait:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What is waited for.
    pub wait_for: WaitFor,
}

/// `promote:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// The environment's name.
    pub environment: Name,
    /// The images, as templates; empty means all that this run built.
    pub images: Vec<String>,
    /// Whether it ends when the tag has moved (`wait: tag`).
    pub tag_only: bool,
}

/// `sync:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Sync {
    /// A named App.
    App {
        /// Its name.
        app: Name,
    },
    /// An inline source.
    Inline {
        /// The folder in this repository.
        path: String,
        /// The environment.
        environment: Name,
        /// Image overrides, as templates.
        images: Vec<String>,
    },
}

/// `call:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubPipeline {
    /// The other pipeline's name.
    pub pipeline: Name,
    /// Its parameters, as templates.
    pub with: BTreeMap<Name, String>,
}
