//! A run: the fold of its events, with an index that keeps every decision cheap.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{Actor, AttemptId, Name, NodeId, Outcome, Plan, RunId, Timestamp, plan::Section};
use serde::{Deserialize, Serialize};

use crate::{
    CancelReason, RunRequest,
    front::{dependents, gates_in_front},
    hold::{Holds, Party, awaited, parties},
    state::{DeadlineReason, LiveAttempt, NodeState, Tries},
};

/// One execution of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub(crate) id: RunId,
    pub(crate) body: Option<Body>,
}

/// A run that came to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredBody", into = "StoredBody")]
pub(crate) struct Body {
    pub(crate) request: Arc<RunRequest>,
    pub(crate) actor: Actor,
    pub(crate) created_at: Timestamp,
    pub(crate) phase: RunPhase,
    pub(crate) halted_by: Option<NodeId>,
    pub(crate) finally: FinallyPhase,
    pub(crate) tickets: Tickets,
    pub(crate) again: Again,
    pub(crate) holds: Holds,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) index: Index,
}

/// What is remembered of gates that opened again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Again {
    /// The gates.
    pub(crate) gates: BTreeSet<NodeId>,
    /// The attempts of nodes that wait again behind them.
    pub(crate) tries: Vec<(NodeId, Tries)>,
}

impl Again {
    pub(crate) fn tries_of(&self, node: NodeId) -> Tries {
        let mut kept = self.tries.iter();
        kept.find(|(id, _)| *id == node)
            .map_or(Tries::default(), |(_, tries)| *tries)
    }

    pub(crate) fn keep(&mut self, node: NodeId, tries: Tries) {
        self.tries.retain(|(id, _)| *id != node);
        self.tries.push((node, tries));
    }
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum RunPhase {
    /// It waits for its turn in its concurrency group.
    Pending,
    /// It runs.
    Running,
    /// It is being stopped.
    Stopping {
        /// Why.
        reason: CancelReason,
    },
    /// It ended.
    Finished {
        /// How.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
}

/// How far the `finally` entries are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finally", rename_all = "snake_case")]
pub(crate) enum FinallyPhase {
    /// The main entries are not settled.
    Before,
    /// They may run until the deadline.
    Open { deadline: Timestamp },
    /// They are being stopped.
    Stopped,
}

/// Whether anything of a run ever started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tickets {
    /// No ticket was granted: there is nothing that `finally` could tidy up.
    None,
    /// At least one was.
    Some,
}

/// What can be derived from plan and node states, kept so that no decision walks the whole plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Index {
    pub(crate) dependents: Arc<Vec<Vec<NodeId>>>,
    pub(crate) actions: Arc<BTreeMap<Name, Vec<NodeId>>>,
    /// For each node the gates in front of it, near or far; empty if the plan has none.
    pub(crate) gates: Arc<Vec<Arc<BTreeSet<NodeId>>>>,
    pub(crate) parties: Arc<BTreeMap<NodeId, Party>>,
    /// The holds that come after a node of another one, by that node.
    pub(crate) awaited: Arc<BTreeMap<NodeId, Vec<NodeId>>>,
    pub(crate) unsettled_needs: Vec<u32>,
    /// The nodes that are ready and lack no lock.
    pub(crate) ready: BTreeSet<NodeId>,
    pub(crate) deadlines: BTreeSet<(Timestamp, NodeId)>,
    pub(crate) running: u32,
    pub(crate) open_main: u32,
    pub(crate) open_finally: u32,
}

impl Run {
    /// A run that does not exist yet: only `RunRequested` is legal.
    pub fn new(id: RunId) -> Self {
        Self { id, body: None }
    }

    /// The id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// What the run is made of, once it exists.
    pub fn request(&self) -> Option<&Arc<RunRequest>> {
        self.body.as_ref().map(|body| &body.request)
    }

    /// Its plan, once it exists.
    pub fn plan(&self) -> Option<&Plan> {
        self.body.as_ref().map(|body| &body.request.plan)
    }

    /// How far it is, once it exists.
    pub fn phase(&self) -> Option<&RunPhase> {
        self.body.as_ref().map(|body| &body.phase)
    }

    /// Who asked for it, and then who asked for the runs that it does again.
    pub fn requesters(&self) -> Vec<Actor> {
        let own = self.requested_by().map(|(actor, _)| actor.clone());
        let before = self
            .request()
            .into_iter()
            .flat_map(|request| request.asked_before.iter().cloned());
        own.into_iter().chain(before).collect()
    }

    /// Who asked for it and when, once it exists.
    pub fn requested_by(&self) -> Option<(&Actor, Timestamp)> {
        self.body.as_ref().map(|body| (&body.actor, body.created_at))
    }

    /// The states of its nodes, by node id; empty before it exists.
    pub fn nodes(&self) -> &[NodeState] {
        self.body.as_ref().map_or(&[], |body| &body.nodes)
    }

    /// The state of one node.
    pub fn node(&self, id: NodeId) -> Option<&NodeState> {
        self.nodes().get(id.index())
    }

    /// An attempt that has not ended, as far as the run knows.
    pub fn live(&self, attempt: AttemptId) -> Option<&LiveAttempt> {
        match self.node(attempt.node) {
            Some(NodeState::Running(live)) if live.attempt == attempt => Some(live),
            Some(_) | None => None,
        }
    }

    /// How it ended, if it did.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase()? {
            RunPhase::Finished { outcome, .. } => Some(*outcome),
            RunPhase::Pending | RunPhase::Running | RunPhase::Stopping { .. } => None,
        }
    }

    /// Whether it ended.
    pub fn is_finished(&self) -> bool {
        self.outcome().is_some()
    }

    /// Whether nothing moves before a person or the clock acts: such a run may leave memory.
    pub fn is_parked(&self) -> bool {
        self.body
            .as_ref()
            .is_some_and(|body| body.index.running == 0 && body.index.ready.is_empty())
    }

    /// When the clock next has a say, and why.
    pub fn next_deadline(&self) -> Option<(Timestamp, DeadlineReason)> {
        let body = self.body.as_ref()?;
        let run = match body.phase {
            RunPhase::Finished { .. } => return None,
            RunPhase::Pending | RunPhase::Running => Some((
                body.created_at + pipekeeper_model::plan::defaults::RUN,
                DeadlineReason::Run,
            )),
            RunPhase::Stopping { .. } => None,
        };
        let finally = match body.finally {
            FinallyPhase::Open { deadline } => Some((deadline, DeadlineReason::Finally)),
            FinallyPhase::Before | FinallyPhase::Stopped => None,
        };
        let locks = body.holds.deadline().map(|at| (at, DeadlineReason::Locks));
        let node = body
            .index
            .deadlines
            .first()
            .map(|(at, node)| (*at, DeadlineReason::Node(*node)));
        [run, finally, locks, node]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}

impl Body {
    /// Whether a node lacks no lock that it takes.
    pub(crate) fn may_run(&self, id: NodeId) -> bool {
        let node = self.request.plan.node(id);
        node.is_none_or(|node| self.holds.let_run(node))
    }
}

/// The stored form: the index is derived again.
#[derive(Serialize, Deserialize)]
struct StoredBody {
    request: Arc<RunRequest>,
    actor: Actor,
    created_at: Timestamp,
    phase: RunPhase,
    halted_by: Option<NodeId>,
    finally: FinallyPhase,
    tickets: Tickets,
    #[serde(default)]
    again: Again,
    #[serde(default)]
    holds: Holds,
    nodes: Vec<NodeState>,
}

impl From<StoredBody> for Body {
    fn from(stored: StoredBody) -> Self {
        let index = Index::of(&stored.request.plan, &stored.nodes, &stored.holds);
        Self {
            request: stored.request,
            actor: stored.actor,
            created_at: stored.created_at,
            phase: stored.phase,
            halted_by: stored.halted_by,
            finally: stored.finally,
            tickets: stored.tickets,
            again: stored.again,
            holds: stored.holds,
            nodes: stored.nodes,
            index,
        }
    }
}

impl From<Body> for StoredBody {
    fn from(body: Body) -> Self {
        Self {
            request: body.request,
            actor: body.actor,
            created_at: body.created_at,
            phase: body.phase,
            halted_by: body.halted_by,
            finally: body.finally,
            tickets: body.tickets,
            again: body.again,
            holds: body.holds,
            nodes: body.nodes,
        }
    }
}

/// A run's snapshot: everything but what the index derives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    id: RunId,
    body: Option<Body>,
}

impl From<&Run> for Snapshot {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id,
            body: run.body.clone(),
        }
    }
}

impl From<Snapshot> for Run {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id,
            body: snapshot.body,
        }
    }
}

impl Index {
    pub(crate) fn of(plan: &Plan, states: &[NodeState], holds: &Holds) -> Self {
        let dependents = dependents(plan);
        let mut actions: BTreeMap<Name, Vec<NodeId>> = BTreeMap::new();
        for (id, node) in plan.ids().zip(&plan.nodes) {
            actions.entry(node.action.clone()).or_default().push(id);
        }
        let settled = |id: &NodeId| states.get(id.index()).is_none_or(NodeState::is_settled);
        let unsettled_needs = plan
            .nodes
            .iter()
            .map(|node| {
                u32::try_from(node.needs.iter().filter(|id| !settled(id)).count()).unwrap_or(u32::MAX)
            })
            .collect();
        let parties = parties(plan, &dependents);
        let mut index = Self {
            gates: Arc::new(gates_in_front(plan, &dependents)),
            awaited: Arc::new(awaited(&parties)),
            parties: Arc::new(parties),
            dependents: Arc::new(dependents),
            actions: Arc::new(actions),
            unsettled_needs,
            ..Self::default()
        };
        for ((id, node), state) in plan.ids().zip(&plan.nodes).zip(states) {
            index.enter(id, node.section, state);
            index.look(id, state, holds.let_run(node));
        }
        index
    }

    /// Keeps those that are ready and lack no lock.
    pub(crate) fn look(&mut self, id: NodeId, state: &NodeState, may_run: bool) {
        if may_run && matches!(state, NodeState::Ready { .. }) {
            self.ready.insert(id);
        } else {
            self.ready.remove(&id);
        }
    }

    /// The gates in front of a node, near or far.
    pub(crate) fn gates_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let gates = self.gates.get(node.index());
        gates.into_iter().flat_map(|gates| gates.iter().copied())
    }

    /// Counts a node's state.
    pub(crate) fn enter(&mut self, id: NodeId, section: Section, state: &NodeState) {
        if let Some(at) = state.deadline() {
            self.deadlines.insert((at, id));
        }
        match state {
            NodeState::Running(_) => self.running += 1,
            NodeState::Ready { .. }
            | NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Deciding(_)
            | NodeState::Backoff { .. }
            | NodeState::Done(_)
            | NodeState::Skipped { .. } => {}
        }
        if !state.is_settled() {
            match section {
                Section::Main => self.open_main += 1,
                Section::Finally => self.open_finally += 1,
            }
        }
    }

    /// Takes a node's state out of the count.
    pub(crate) fn leave(&mut self, id: NodeId, section: Section, state: &NodeState) {
        if let Some(at) = state.deadline() {
            self.deadlines.remove(&(at, id));
        }
        match state {
            NodeState::Running(_) => self.running = self.running.saturating_sub(1),
            NodeState::Ready { .. }
            | NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Deciding(_)
            | NodeState::Backoff { .. }
            | NodeState::Done(_)
            | NodeState::Skipped { .. } => {}
        }
        if !state.is_settled() {
            match section {
                Section::Main => self.open_main = self.open_main.saturating_sub(1),
                Section::Finally => self.open_finally = self.open_finally.saturating_sub(1),
            }
        }
    }
}
