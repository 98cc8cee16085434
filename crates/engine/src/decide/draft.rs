//! A draft of what a run will be: the run itself with what this decision changes laid over it.
//!
//! Rules read and write the draft; nothing is cloned but the nodes that change.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{
    Actor, NodeId, Plan, RunId, Timestamp,
    plan::{Node, Section},
};

use super::Decision;
use crate::{
    Effect, Event, Fact, HoldState, RunPhase, RunRequest,
    fold::{self, Fold},
    hold::Holds,
    run::{Again, Body, FinallyPhase, Tickets},
    state::{NodeState, Tries},
};

pub(super) struct Draft<'a> {
    run: RunId,
    body: &'a Body,
    at: Timestamp,
    actor: &'a Actor,
    states: BTreeMap<NodeId, NodeState>,
    unsettled: BTreeMap<NodeId, u32>,
    phase: Option<RunPhase>,
    halted: Option<NodeId>,
    finally: FinallyPhase,
    tickets: Tickets,
    again: Cow<'a, Again>,
    holds: Cow<'a, Holds>,
    running: u32,
    open_main: u32,
    open_finally: u32,
    ready: BTreeSet<NodeId>,
    /// Nodes that settled in this decision and whose consequences are not drawn yet.
    pub(super) settled: BTreeSet<NodeId>,
    /// Nodes whose needs are all settled and that were not looked at yet.
    pub(super) arrivals: BTreeSet<NodeId>,
    /// Holds whose locks may be wanted now, or not any more.
    pub(super) touched: BTreeSet<NodeId>,
    events: Vec<Event>,
    effects: Vec<Effect>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(run: RunId, body: &'a Body, at: Timestamp, actor: &'a Actor) -> Self {
        Self {
            run,
            body,
            at,
            actor,
            states: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            phase: None,
            halted: body.halted_by,
            finally: body.finally,
            tickets: body.tickets,
            again: Cow::Borrowed(&body.again),
            holds: Cow::Borrowed(&body.holds),
            running: body.index.running,
            open_main: body.index.open_main,
            open_finally: body.index.open_finally,
            ready: BTreeSet::new(),
            settled: BTreeSet::new(),
            arrivals: BTreeSet::new(),
            touched: BTreeSet::new(),
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// Puts the run's creation in front; it is part of the run below the draft already.
    pub(super) fn begin_with(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn into_decision(self) -> Decision {
        Decision {
            events: self.events,
            effects: self.effects,
        }
    }

    /// Records a fact and lays what it changes over the run.
    pub(super) fn record(&mut self, fact: Fact) {
        let event = Event {
            at: self.at,
            actor: self.actor.clone(),
            fact,
        };
        fold::fold(self, &event);
        self.events.push(event);
    }

    pub(super) fn perform(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn run(&self) -> RunId {
        self.run
    }

    pub(super) fn at(&self) -> Timestamp {
        self.at
    }

    pub(super) fn actor(&self) -> &Actor {
        self.actor
    }

    pub(super) fn body(&self) -> &'a Body {
        self.body
    }

    pub(super) fn plan(&self) -> &'a Plan {
        &self.body.request.plan
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&'a Node> {
        self.plan().node(id)
    }

    pub(super) fn name(&self, id: NodeId) -> String {
        self.node(id).map(|node| node.name.clone()).unwrap_or_default()
    }

    pub(super) fn phase(&self) -> &RunPhase {
        self.phase.as_ref().unwrap_or(&self.body.phase)
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.phase(), RunPhase::Finished { .. })
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase(), RunPhase::Stopping { .. })
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.phase(), RunPhase::Pending)
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted.is_some()
    }

    /// The node whose failure stopped the rest.
    pub(super) fn halted_by(&self) -> Option<NodeId> {
        self.halted
    }

    /// The gates in front of a node, near or far.
    pub(super) fn gates_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + use<'a> {
        self.body.index.gates_of(node)
    }

    /// Whether a gate was opened again after it had been approved.
    pub(super) fn was_voided(&self, gate: NodeId) -> bool {
        self.again.gates.contains(&gate)
    }

    pub(super) fn any_voided(&self) -> bool {
        !self.again.gates.is_empty()
    }

    pub(super) fn finally(&self) -> FinallyPhase {
        self.finally
    }

    pub(super) fn any_ticket(&self) -> bool {
        self.tickets == Tickets::Some
    }

    pub(super) fn running(&self) -> u32 {
        self.running
    }

    pub(super) fn open_main(&self) -> u32 {
        self.open_main
    }

    pub(super) fn open_finally(&self) -> u32 {
        self.open_finally
    }

    pub(super) fn has_finally(&self) -> bool {
        self.plan()
            .nodes
            .iter()
            .any(|node| node.section == Section::Finally)
    }

    pub(super) fn unsettled(&self, id: NodeId) -> u32 {
        let below = || {
            self.body
                .index
                .unsettled_needs
                .get(id.index())
                .copied()
                .unwrap_or(0)
        };
        self.unsettled.get(&id).copied().unwrap_or_else(below)
    }

    /// The nodes of an action.
    pub(super) fn cells(&self, action: &str) -> impl Iterator<Item = NodeId> {
        let actions = &self.body.index.actions;
        let found = action.parse().ok().and_then(|name| actions.get(&name));
        found.into_iter().flatten().copied()
    }

    /// How a hold stands, if it waits or has its locks.
    pub(super) fn hold(&self, hold: NodeId) -> Option<HoldState> {
        self.holds.get(hold)
    }

    /// The holds that have waited too long for their locks.
    pub(super) fn holds_due(&self) -> Vec<NodeId> {
        self.holds.due(self.at)
    }

    /// Whether a node lacks no lock that it takes.
    pub(super) fn may_run(&self, node: &Node) -> bool {
        self.holds.let_run(node)
    }

    /// The nodes of a hold.
    pub(super) fn members(&self, hold: NodeId) -> &'a [NodeId] {
        let party = self.body.index.parties.get(&hold);
        party.map_or(&[], |party| &party.members)
    }

    /// A node comes into another state: that may say something to its hold, to those that come after it, and an open gate to
    /// all that have their locks.
    fn touch(&mut self, id: NodeId, state: &NodeState) {
        self.touched.extend(self.node(id).and_then(|node| node.hold));
        if state.is_settled() {
            let after = self.body.index.awaited.get(&id);
            self.touched.extend(after.into_iter().flatten());
        }
        if matches!(state, NodeState::Deciding(_)) {
            let holds = self.holds.iter().map(|(hold, _)| hold);
            self.touched.extend(holds);
        }
    }

    /// The node that comes first in the plan of those that are ready and lack no lock.
    pub(super) fn first_ready(&self) -> Option<NodeId> {
        let has_locks = |id: &NodeId| self.node(*id).is_none_or(|node| self.may_run(node));
        let below = self
            .body
            .index
            .ready
            .iter()
            .find(|id| !self.states.contains_key(id) && has_locks(id))
            .copied();
        let above = self.ready.iter().find(|id| has_locks(id)).copied();
        [below, above].into_iter().flatten().min()
    }

    /// The nodes whose own deadline has come.
    pub(super) fn due(&self) -> Vec<NodeId> {
        let at = self.at;
        self.body
            .index
            .deadlines
            .iter()
            .take_while(|(due, _)| *due <= at)
            .map(|(_, node)| *node)
            .collect()
    }

    /// Every node that is not settled, of one section.
    pub(super) fn open_nodes(&self, section: Section) -> Vec<NodeId> {
        let plan = self.plan();
        let open = |id: &NodeId| self.state(*id).is_some_and(|state| !state.is_settled());
        plan.ids()
            .zip(&plan.nodes)
            .filter(|(id, node)| node.section == section && open(id))
            .map(|(id, _)| id)
            .collect()
    }
}

impl Fold for Draft<'_> {
    fn request(&self) -> &Arc<RunRequest> {
        &self.body.request
    }

    fn state(&self, node: NodeId) -> Option<&NodeState> {
        self.states
            .get(&node)
            .or_else(|| self.body.nodes.get(node.index()))
    }

    fn set_state(&mut self, id: NodeId, state: NodeState) {
        let Some(before) = self.state(id) else { return };
        let (was_settled, was_running) = (before.is_settled(), matches!(before, NodeState::Running(_)));
        let (is_settled, is_running) = (state.is_settled(), matches!(state, NodeState::Running(_)));
        let may_run = self.node(id).is_some_and(|node| self.may_run(node));
        if may_run && matches!(state, NodeState::Ready { .. }) {
            self.ready.insert(id);
        } else {
            self.ready.remove(&id);
        }
        self.touch(id, &state);
        self.running = self.running.saturating_sub(u32::from(was_running)) + u32::from(is_running);
        self.states.insert(id, state);
        if is_settled && !was_settled {
            match self.node(id).map_or(Section::Main, |node| node.section) {
                Section::Main => self.open_main = self.open_main.saturating_sub(1),
                Section::Finally => self.open_finally = self.open_finally.saturating_sub(1),
            }
            self.settled.insert(id);
            let dependents = Arc::clone(&self.body.index.dependents);
            for dependent in dependents.get(id.index()).into_iter().flatten() {
                let left = self.unsettled(*dependent).saturating_sub(1);
                self.unsettled.insert(*dependent, left);
                if left == 0 {
                    self.arrivals.insert(*dependent);
                }
            }
        }
        if was_settled && !is_settled {
            match self.node(id).map_or(Section::Main, |node| node.section) {
                Section::Main => self.open_main = self.open_main.saturating_add(1),
                Section::Finally => self.open_finally = self.open_finally.saturating_add(1),
            }
            let dependents = Arc::clone(&self.body.index.dependents);
            for dependent in dependents.get(id.index()).into_iter().flatten() {
                let left = self.unsettled(*dependent).saturating_add(1);
                self.unsettled.insert(*dependent, left);
            }
        }
    }

    fn set_phase(&mut self, phase: RunPhase) {
        self.phase = Some(phase);
    }

    fn set_halted(&mut self, by: NodeId) {
        self.halted = Some(by);
    }

    fn set_finally(&mut self, phase: FinallyPhase) {
        self.finally = phase;
    }

    fn set_ticketed(&mut self) {
        self.tickets = Tickets::Some;
    }

    fn set_voided(&mut self, gate: NodeId) {
        self.again.to_mut().gates.insert(gate);
    }

    fn kept_tries(&self, node: NodeId) -> Tries {
        self.again.tries_of(node)
    }

    fn keep_tries(&mut self, node: NodeId, tries: Tries) {
        self.again.to_mut().keep(node, tries);
    }

    fn set_hold(&mut self, hold: NodeId, state: Option<HoldState>) {
        self.holds.to_mut().set(hold, state);
        self.touched.insert(hold);
        for member in self.members(hold) {
            if matches!(self.state(*member), Some(NodeState::Ready { .. })) {
                match state {
                    Some(HoldState::Held { .. }) => self.ready.insert(*member),
                    Some(HoldState::Waiting { .. }) | None => self.ready.remove(member),
                };
            }
        }
    }
}
