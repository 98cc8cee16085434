//! Inputs: what was asked or observed. They may be illegal, stale or repeated; `decide` answers every one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{
    Actor, ArtifactResult, AttemptId, AttemptRecord, Digest, Holder, Name, NodeId, OutputValue, Plan,
    RunContext, RunId, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{EffectKey, Signature, Standing};

/// An input with the time it happened and the one who caused it.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<T> {
    /// When, as told by the shell.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What.
    pub body: T,
}

/// Something asked of a run or observed about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Make this run.
    RunRequested(Arc<RunRequest>),
    /// The run's concurrency group has a place for it.
    TurnGiven,
    /// It is the turn of a hold to have its locks.
    LocksGiven {
        /// The hold, by its first node.
        hold: NodeId,
    },
    /// A person starts a `start: manual` or `start: confirm` node.
    StartPressed {
        /// The node.
        node: NodeId,
        /// Which of the two looks of `start: confirm` this is.
        look: Look,
        /// Who the person is.
        standing: Standing,
    },
    /// An attempt's inputs were looked at, and what succeeded with the same ones before was looked for (`reuse:`).
    EarlierSought {
        /// The attempt.
        attempt: AttemptId,
        /// The digest of its inputs; none if nothing can be said of them.
        inputs: Option<Digest>,
        /// The earlier success.
        found: Option<Box<AdoptedNode>>,
    },
    /// An attempt cannot be launched now: there is no room for it, or its place cannot be reached. It is tried again.
    LaunchHeldUp {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A supervisor checked in and asks whether it may start user code.
    TicketAsked {
        /// The attempt it works for.
        attempt: AttemptId,
        /// Who asks.
        holder: Holder,
        /// Where those stand now whose approvals let it get so far (see [`crate::approvers()`]); none for who is gone.
        standings: BTreeMap<Signature, Option<Standing>>,
    },
    /// The backend saw something happen to an attempt.
    AttemptObserved {
        /// The attempt.
        attempt: AttemptId,
        /// What was seen.
        seen: Seen,
    },
    /// A person decided on a gate.
    GateDecided {
        /// The gate's node.
        node: NodeId,
        /// The decision.
        verdict: Verdict,
        /// What the person saw and decided on.
        subject: Digest,
        /// Why, in the person's words.
        comment: Option<String>,
        /// The values that the gate asks for, as text.
        params: BTreeMap<Name, String>,
        /// Who the person is.
        standing: Standing,
    },
    /// Somebody or something wants the run to end.
    CancelRequested(CancelReason),
    /// The clock reached [`crate::Run::next_deadline`]; whatever is due at the envelope's time is done.
    DeadlineReached,
    /// An effect was performed, or given up.
    EffectSettled {
        /// Which.
        key: EffectKey,
        /// How it went.
        result: EffectResult,
    },
}

/// What a run is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The project it belongs to.
    pub project: Name,
    /// What is executed.
    pub plan: Plan,
    /// What started it.
    pub context: RunContext,
    /// The concurrency group that applies, by the pipeline file or by default.
    pub group: Option<Group>,
    /// Where succeeded nodes are adopted from (`pipe retry`).
    pub adopted: Option<Adoption>,
    /// Whether earlier successes may stand in for its actions (`reuse:`).
    #[serde(default)]
    pub earlier: Earlier,
    /// Where its files come from.
    #[serde(default)]
    pub origin: Origin,
    /// Who asked for the runs that this one does again: they approve it as little as whoever asked for this one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub asked_before: BTreeSet<Actor>,
}

/// Where the files of a run come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// From a commit of the project's repository.
    #[default]
    Repository,
    /// From somebody's working tree, which nobody reviewed: it is trusted least, whatever it says about itself.
    WorkingTree {
        /// The cluster that every action runs on.
        cluster: Name,
    },
}

/// What a run does with earlier successes of actions with `reuse:`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Earlier {
    /// They are adopted.
    #[default]
    Adopt,
    /// Everything runs (`--no-reuse`); what succeeds is there for later runs.
    Ignore,
}

/// The concurrency group of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its key, unique over the server: scope and name.
    pub key: String,
    /// What this run does to older ones of the group.
    pub on_new: pipekeeper_model::plan::OnNew,
}

/// The results that a retried run takes over. Decisions on gates are not among them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The earlier run.
    pub from: RunId,
    /// Its succeeded work nodes.
    #[serde(with = "pairs")]
    pub nodes: BTreeMap<NodeId, AdoptedNode>,
}

/// The results of one adopted node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedNode {
    /// The attempt that made them.
    pub attempt: AttemptId,
    /// Its outputs.
    pub outputs: BTreeMap<String, OutputValue>,
    /// Its artifacts.
    pub artifacts: Vec<ArtifactResult>,
}

impl AdoptedNode {
    /// The digests of the files that it names: artifacts, and outputs that are files.
    pub fn files(&self) -> impl Iterator<Item = &Digest> {
        let artifacts = self.artifacts.iter().map(|artifact| &artifact.digest);
        let outputs = self.outputs.values().filter_map(|value| match value {
            OutputValue::Text(_) => None,
            OutputValue::File { digest, .. } => Some(digest),
        });
        artifacts.chain(outputs)
    }
}

/// The two looks of `start: confirm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// "I want this": enough for `start: manual`.
    First,
    /// "I saw what will happen": needed by `start: confirm`.
    Second,
}

/// What a backend saw of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// It ended, as its supervisor recorded.
    Finished {
        /// The supervisor.
        holder: Holder,
        /// The record.
        record: Box<AttemptRecord>,
    },
    /// Nothing of it is left, and no record.
    Gone {
        /// Why, as far as known.
        reason: String,
    },
    /// It never started and never will, nor would another try.
    Hopeless {
        /// What is wrong.
        reason: String,
    },
}

/// A person's answer at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Go on.
    Approve,
    /// Do not.
    Reject,
    /// Go on, whatever the gate's rule says.
    Bypass,
}

/// Why a run is to end before its time, mildest first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum CancelReason {
    /// A newer run took its place. Refused past the first gate.
    Superseded {
        /// The newer run.
        by: RunId,
    },
    /// A newer run reached the gate that this one waits at.
    SupersededAtGate {
        /// The newer run.
        by: RunId,
        /// The gate's name.
        gate: String,
    },
    /// Somebody asked.
    Asked,
    /// The run's own deadline of 35 days.
    Expired,
    /// The server gave it up: its data made the engine fail, or its backend cannot do what it asks.
    GivenUp {
        /// Why.
        reason: String,
    },
}

/// How an effect went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EffectResult {
    /// It was performed.
    Done,
    /// It will not be tried again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A map as a list of pairs: JSON has no numbers as keys, and events are read through a tag, which loses the conversion.
mod pairs {
    use std::collections::BTreeMap;

    use pipekeeper_model::NodeId;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::AdoptedNode;

    pub(super) fn serialize<S: Serializer>(
        nodes: &BTreeMap<NodeId, AdoptedNode>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(nodes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<NodeId, AdoptedNode>, D::Error> {
        let pairs = Vec::<(NodeId, AdoptedNode)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}
