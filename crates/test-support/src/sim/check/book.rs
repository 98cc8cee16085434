//! What the checker writes down of one run: a naive model, beside the run that it folds for comparison.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_engine::{Event, Run, RunRequest};
use pipekeeper_model::{
    Actor, AttemptId, Digest, Holder, Name, NodeId, Outcome, RunId, Timestamp, plan::Node,
};

/// One run.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) run: Run,
    pub(crate) events: Vec<Event>,
    pub(crate) request: Option<Arc<RunRequest>>,
    pub(crate) plan_digest: Option<Digest>,
    pub(crate) created_at: Timestamp,
    pub(crate) nodes: Vec<NodeBook>,
    pub(crate) pending: bool,
    pub(crate) cancels: Vec<Outcome>,
    pub(crate) finally: Finally,
    pub(crate) tickets: BTreeMap<AttemptId, Holder>,
    pub(crate) finished: Option<Outcome>,
}

/// How far `finally` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finally {
    Before,
    Open { deadline: Timestamp },
    Stopped,
}

/// One node.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeBook {
    pub(crate) settled: Option<Settled>,
    pub(crate) live: Option<AttemptId>,
    pub(crate) scheduled_at: Option<Timestamp>,
    /// Whether a gate in front of it opened again.
    pub(crate) waits_again: bool,
    /// Of a gate, whether it opened again.
    pub(crate) voided: bool,
    pub(crate) seeks: bool,
    pub(crate) inputs: Option<Digest>,
    pub(crate) stopping: Option<Outcome>,
    pub(crate) ready: bool,
    pub(crate) attempts: u32,
    pub(crate) paid: u32,
    pub(crate) free: u32,
    pub(crate) gate: Option<GateBook>,
    pub(crate) start_expires: Option<Timestamp>,
    pub(crate) looked: Option<Actor>,
    pub(crate) started_by_hand: bool,
    pub(crate) wait_until: Option<Timestamp>,
    /// Whether waiting is what it does, and it has begun.
    pub(crate) passes_time: bool,
    /// Until when it waits for its window.
    pub(crate) window_until: Option<Timestamp>,
}

/// How a node settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    pub(crate) passes: bool,
    pub(crate) adopted: bool,
}

/// An open gate.
#[derive(Clone, Debug)]
pub(crate) struct GateBook {
    pub(crate) subject: Digest,
    pub(crate) expires: Timestamp,
    pub(crate) approved_by: BTreeSet<Name>,
    pub(crate) bypassed_by: Option<Name>,
    pub(crate) rejected: bool,
}

impl Book {
    pub(crate) fn new(id: RunId) -> Self {
        Self {
            run: Run::new(id),
            events: Vec::new(),
            request: None,
            plan_digest: None,
            created_at: Timestamp(0),
            nodes: Vec::new(),
            pending: false,
            cancels: Vec::new(),
            finally: Finally::Before,
            tickets: BTreeMap::new(),
            finished: None,
        }
    }

    /// The plan's nodes; empty before the run exists.
    pub(crate) fn plan_nodes(&self) -> &[Node] {
        self.request.as_ref().map_or(&[], |request| &request.plan.nodes)
    }

    pub(crate) fn plan_node(&self, id: NodeId) -> Option<&Node> {
        self.plan_nodes().get(id.index())
    }

    pub(crate) fn node(&self, id: NodeId) -> Option<&NodeBook> {
        self.nodes.get(id.index())
    }

    pub(crate) fn settled(&self, id: NodeId) -> Option<Settled> {
        self.node(id)?.settled
    }

    /// The run with its nodes' states, for people.
    pub(crate) fn words(&self) -> String {
        let states: Vec<&str> = self.run.nodes().iter().map(|state| state.word()).collect();
        format!(
            "r{} {:?} [{}]",
            self.run.id(),
            self.run.phase(),
            states.join(", ")
        )
    }

    /// Who asked for it.
    pub(crate) fn requester(&self) -> Actor {
        let first = self.events.first();
        first.map_or(Actor::System, |event| event.actor.clone())
    }

    pub(crate) fn live(&self) -> usize {
        self.nodes.iter().filter(|node| node.live.is_some()).count()
    }
}
