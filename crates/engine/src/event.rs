//! Events: recorded facts, past tense. A run is the fold of its events; a stored event is never renamed or changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{
    Actor, AttemptId, AttemptRecord, Digest, Holder, Name, NodeId, Outcome, ParamValue, SkipReason, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{AdoptedNode, Before, CancelReason, RunRequest};

/// The version written beside every stored event.
pub const EVENT_VERSION: u32 = 1;

/// A fact with its time and its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// What happened.
    pub fact: Fact,
}

/// What an ended attempt means for its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "next", rename_all = "snake_case")]
pub enum Next {
    /// The node ends with it.
    Settled {
        /// How.
        outcome: Outcome,
    },
    /// Another attempt is made.
    Retried {
        /// Not before.
        until: Timestamp,
        /// Whether the ended one counts against `retry`.
        paid: bool,
    },
    /// A gate in front of it is open again: the node waits for that.
    Withdrawn,
}

/// What happened to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Fact {
    /// The run came to be.
    RunCreated {
        /// What it is made of.
        request: Arc<RunRequest>,
    },
    /// It waits for its turn in its concurrency group.
    TurnAwaited,
    /// Its turn came.
    TurnCame,
    /// A node's needs are settled and its conditions hold; it waits for a place.
    NodeReadied {
        /// The node.
        node: NodeId,
    },
    /// A node will never run.
    NodeSkipped {
        /// The node.
        node: NodeId,
        /// Why.
        reason: SkipReason,
        /// Whether what needs it may go on as if it had succeeded.
        passes: bool,
    },
    /// A node took over the result of an earlier run.
    NodeAdopted {
        /// The node.
        node: NodeId,
    },
    /// A node waits for a person to start it.
    StartAwaited {
        /// The node.
        node: NodeId,
        /// Until when.
        expires: Timestamp,
    },
    /// A person took the first of two looks.
    StartLooked {
        /// The node.
        node: NodeId,
    },
    /// A person started a node.
    StartGiven {
        /// The node.
        node: NodeId,
    },
    /// A node waits for a time.
    WaitBegan {
        /// The node.
        node: NodeId,
        /// What follows.
        before: Before,
        /// Until when.
        until: Timestamp,
    },
    /// A gate asks for a decision.
    GateOpened {
        /// The node.
        node: NodeId,
        /// What a decision binds to.
        subject: Digest,
        /// When it gives up.
        expires: Timestamp,
    },
    /// A person approved.
    GateApproved {
        /// The node.
        node: NodeId,
        /// What was approved.
        subject: Digest,
        /// In the person's words.
        comment: Option<String>,
        /// Which person that is; none where people are not known.
        #[serde(default)]
        person: Option<Name>,
        /// How many approvals it takes.
        #[serde(default)]
        needed: u32,
        /// The values that were approved.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        params: BTreeMap<Name, ParamValue>,
    },
    /// A person went past a gate's rule.
    GateBypassed {
        /// The node.
        node: NodeId,
        /// What was let through.
        subject: Digest,
        /// Why, in the person's words.
        comment: Option<String>,
        /// Which person that is; none where people are not known.
        person: Option<Name>,
        /// The values that were let through.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        params: BTreeMap<Name, ParamValue>,
    },
    /// Not enough of the approvals counted any more when user code was about to start: the gate is open again.
    GateVoided {
        /// The node.
        node: NodeId,
        /// What a decision binds to.
        subject: Digest,
        /// Whose approvals do not count any more.
        lost: BTreeSet<Name>,
        /// How many approvals it takes.
        needed: u32,
        /// When it gives up.
        expires: Timestamp,
    },
    /// A person rejected.
    GateRejected {
        /// The node.
        node: NodeId,
        /// In the person's words.
        comment: Option<String>,
        /// Which person that is; none where people are not known.
        #[serde(default)]
        person: Option<Name>,
    },
    /// An attempt is to be launched.
    AttemptScheduled {
        /// The attempt.
        attempt: AttemptId,
        /// When it must have checked in.
        check_in_by: Timestamp,
    },
    /// Before an attempt is launched, an earlier success with the same inputs is looked for.
    SearchBegan {
        /// The attempt.
        attempt: AttemptId,
    },
    /// There is none: the attempt is to be launched.
    InputsKnown {
        /// The attempt.
        attempt: AttemptId,
        /// The digest of its inputs; none if nothing can be said of them.
        inputs: Option<Digest>,
        /// When it must have checked in.
        check_in_by: Timestamp,
    },
    /// There is no room for an attempt now, or its place cannot be reached.
    LaunchHeldUp {
        /// The attempt.
        attempt: AttemptId,
        /// When that has lasted too long.
        expires: Timestamp,
    },
    /// It was launched after all.
    LaunchWentOn {
        /// The attempt.
        attempt: AttemptId,
        /// When it must have checked in.
        check_in_by: Timestamp,
    },
    /// There is one: the attempt is not launched, and its node ends with that result.
    NodeReused {
        /// The attempt.
        attempt: AttemptId,
        /// The digest of the inputs.
        inputs: Digest,
        /// What is adopted.
        result: Box<AdoptedNode>,
    },
    /// An attempt may start user code.
    TicketGranted {
        /// The attempt.
        attempt: AttemptId,
        /// The one supervisor that has it.
        holder: Holder,
        /// When the engine itself stops it, should its supervisor not.
        deadline: Timestamp,
    },
    /// An attempt is being stopped.
    StopAsked {
        /// The attempt.
        attempt: AttemptId,
        /// The outcome it gets if it does not end otherwise.
        outcome: Outcome,
        /// When it counts as stopped whatever is seen.
        deadline: Timestamp,
    },
    /// An attempt ended.
    AttemptFinished {
        /// The attempt.
        attempt: AttemptId,
        /// Its record.
        record: Box<AttemptRecord>,
        /// What follows for its node.
        next: Next,
    },
    /// A node without attempts, or between two, ended.
    NodeFinished {
        /// The node.
        node: NodeId,
        /// How.
        outcome: Outcome,
        /// Why, for people, where the outcome alone does not say it.
        reason: Option<String>,
    },
    /// The first failure stopped what had not started.
    RunHalted {
        /// The node that failed.
        node: NodeId,
    },
    /// A hold waits for its locks.
    LocksAwaited {
        /// The hold, by its first node.
        hold: NodeId,
        /// When that has lasted too long.
        expires: Timestamp,
    },
    /// It has them, all at once.
    LocksTaken {
        /// The hold.
        hold: NodeId,
    },
    /// It gave them back, or does not want them any more.
    LocksReleased {
        /// The hold.
        hold: NodeId,
    },
    /// The run is being stopped.
    CancelBegan {
        /// Why.
        reason: CancelReason,
    },
    /// The `finally` entries may run.
    FinallyBegan {
        /// When they are stopped.
        deadline: Timestamp,
    },
    /// The `finally` entries are being stopped.
    FinallyStopped,
    /// The run ended.
    RunFinished {
        /// How.
        outcome: Outcome,
    },
}

impl Fact {
    /// The node it is about.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::NodeReadied { node }
            | Self::NodeSkipped { node, .. }
            | Self::NodeAdopted { node }
            | Self::StartAwaited { node, .. }
            | Self::StartLooked { node }
            | Self::StartGiven { node }
            | Self::WaitBegan { node, .. }
            | Self::GateOpened { node, .. }
            | Self::GateApproved { node, .. }
            | Self::GateBypassed { node, .. }
            | Self::GateVoided { node, .. }
            | Self::GateRejected { node, .. }
            | Self::NodeFinished { node, .. }
            | Self::RunHalted { node }
            | Self::LocksAwaited { hold: node, .. }
            | Self::LocksTaken { hold: node }
            | Self::LocksReleased { hold: node } => Some(*node),
            Self::AttemptScheduled { attempt, .. }
            | Self::SearchBegan { attempt }
            | Self::InputsKnown { attempt, .. }
            | Self::LaunchHeldUp { attempt, .. }
            | Self::LaunchWentOn { attempt, .. }
            | Self::NodeReused { attempt, .. }
            | Self::TicketGranted { attempt, .. }
            | Self::StopAsked { attempt, .. }
            | Self::AttemptFinished { attempt, .. } => Some(attempt.node),
            Self::RunCreated { .. }
            | Self::TurnAwaited
            | Self::TurnCame
            | Self::CancelBegan { .. }
            | Self::FinallyBegan { .. }
            | Self::FinallyStopped
            | Self::RunFinished { .. } => None,
        }
    }
}
