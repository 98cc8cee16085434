//! Environments: whom they admit, what their gates say, and whether their windows are open.
//!
//! The gate of an environment is a node without edges: it is asked when the first node of the environment may start
//! otherwise, and everything else about it is what holds for gates.

use std::collections::BTreeSet;

use pipekeeper_model::{
    EventKind, Name, NodeId, Outcome, Plan, SkipReason, Timestamp,
    plan::{Body, EnvironmentRule, Node, Section, Start},
};

use super::{Draft, Rejection};
use crate::{Before, Fact, WindowState, fold::Fold, state::NodeState, window_state};

/// What an environment says to a node that may start otherwise.
pub(super) enum Entry {
    /// Nothing is in the way.
    Free,
    /// Its gate is to be asked.
    Ask(NodeId),
    /// Its gate asks.
    Asked,
    /// Its gate was not approved.
    Closed(NodeId),
    /// It does not admit what the run is of.
    Refused(SkipReason),
}

/// What the environment of a node says to it now; its windows apart.
pub(super) fn entry(draft: &Draft<'_>, id: NodeId) -> Entry {
    let Some((name, rule)) = draft.plan().environment_of(id) else {
        return Entry::Free;
    };
    if let Some(reason) = refusal(draft, name, rule) {
        return Entry::Refused(reason);
    }
    let Some(gate) = rule.gate else {
        return Entry::Free;
    };
    match draft.state(gate) {
        Some(NodeState::Waiting) => Entry::Ask(gate),
        Some(NodeState::Deciding(_)) => Entry::Asked,
        Some(NodeState::Done(ended)) if ended.outcome == Outcome::Succeeded => Entry::Free,
        Some(
            NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. }
            | NodeState::Done(_)
            | NodeState::Skipped { .. },
        )
        | None => Entry::Closed(gate),
    }
}

/// Branches alone are admitted where any are named: nobody protects the rest, and a merge request has its branch from
/// whoever wrote it.
fn refusal(draft: &Draft<'_>, name: &Name, rule: &EnvironmentRule) -> Option<SkipReason> {
    let event = &draft.body().request.context.event;
    if rule.branches.is_empty() {
        return None;
    }
    let environment = name.clone();
    if event.kind == EventKind::MergeRequest {
        return Some(SkipReason::MergeRequestNotAdmitted { environment });
    }
    let is_admitted = event.branch().is_some_and(|branch| rule.branches.admit(branch));
    (!is_admitted).then(|| SkipReason::NotAdmitted {
        environment,
        git_ref: event.revision.git_ref.clone(),
    })
}

/// Whether a node is the gate of an environment: then it does not ask by itself.
pub(super) fn is_gate(draft: &Draft<'_>, id: NodeId) -> bool {
    draft.plan().guarded_by(id).is_some()
}

/// Whether the windows of a node's environment are closed now.
pub(super) fn is_closed(draft: &Draft<'_>, id: NodeId) -> bool {
    opening(draft, id) != Ok(None)
}

/// When the windows of a node's environment open; none if they are open.
fn opening(draft: &Draft<'_>, id: NodeId) -> Result<Option<Timestamp>, String> {
    let Some((name, rule)) = draft.plan().environment_of(id) else {
        return Ok(None);
    };
    match window_state(&rule.windows, draft.at()) {
        Ok(WindowState::Open) => Ok(None),
        Ok(WindowState::Closed { until: Some(until) }) => Ok(Some(until)),
        Ok(WindowState::Closed { until: None }) => {
            Err(format!("the windows of `{name}` do not open within a year"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A plan in which an environment could not say its word; `spec` never makes one.
pub(super) fn check(plan: &Plan) -> Result<(), Rejection> {
    for (id, node) in plan.ids().zip(&plan.nodes) {
        let Body::Work(work) = &node.body else { continue };
        let rule = plan.environment_of(id);
        if work.environment.is_some() && rule.is_none() {
            return Err(Rejection::illegal(
                "a node of the plan names an environment without its rule",
            ));
        }
        let waits = |(_, rule): (&Name, &EnvironmentRule)| rule.gate.is_some() || !rule.windows.is_empty();
        if node.section == Section::Finally && rule.is_some_and(waits) {
            return Err(Rejection::illegal(
                "a node of `finally` would wait for its environment",
            ));
        }
    }
    let mut gates = BTreeSet::new();
    for (name, rule) in &plan.environments {
        let Some(gate) = rule.gate else { continue };
        if !plan.node(gate).is_some_and(is_plain_gate) || members(plan, name).next().is_none() {
            return Err(Rejection::illegal(
                "the plan has a gate of an environment that guards nothing",
            ));
        }
        if !gates.insert(gate) {
            return Err(Rejection::illegal("two environments of the plan have one gate"));
        }
    }
    Ok(())
}

/// A gate that asks as soon as it is wanted: nothing of its own is in front of it.
fn is_plain_gate(node: &Node) -> bool {
    matches!(node.body, Body::Approve(_))
        && node.section == Section::Main
        && node.start == Start::Auto
        && node.hold.is_none()
        && node.needs.is_empty()
        && node.conditions.is_empty()
}

impl Draft<'_> {
    /// Nothing but the windows of its environment and a place is between a node and its attempt.
    pub(super) fn ready(&mut self, id: NodeId) {
        match opening(self, id) {
            Ok(None) => self.record(Fact::NodeReadied { node: id }),
            Ok(Some(until)) => self.record(Fact::WaitBegan {
                node: id,
                before: Before::Window,
                until,
            }),
            Err(reason) => self.record(Fact::NodeFinished {
                node: id,
                outcome: Outcome::Errored,
                reason: Some(reason),
            }),
        }
    }

    /// The end of a gate lets the nodes of its environment be judged; the end of the last of these lets a gate go that was
    /// not needed.
    pub(super) fn tell_environment(&mut self, settled: NodeId) {
        let plan = self.plan();
        if let Some(name) = plan.guarded_by(settled) {
            let waits =
                |id: &NodeId| self.state(*id) == Some(&NodeState::Waiting) && self.unsettled(*id) == 0;
            let again: Vec<NodeId> = members(plan, name).filter(waits).collect();
            self.arrivals.extend(again);
            return;
        }
        let Some((name, rule)) = plan.environment_of(settled) else {
            return;
        };
        let is_open = |id: NodeId| self.state(id).is_some_and(|state| !state.is_settled());
        if let Some(gate) = rule.gate
            && is_open(gate)
            && !members(plan, name).any(is_open)
        {
            self.record(Fact::NodeSkipped {
                node: gate,
                reason: SkipReason::NothingToStart {
                    environment: name.clone(),
                },
                passes: false,
            });
        }
    }
}

/// The nodes of an environment.
fn members<'p>(plan: &'p Plan, name: &'p Name) -> impl Iterator<Item = NodeId> + 'p {
    plan.ids()
        .filter(move |id| plan.environment_of(*id).is_some_and(|(own, _)| own == name))
}
