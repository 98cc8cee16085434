//! The naive reference judgement: what a node may do, worked out from the plan and what settled, the slow way.

use pipekeeper_model::{
    GitRef, NodeId, Outcome,
    plan::{Body, Node, OnFailure, Section},
};

use super::book::Book;
use crate::sim::plans::before;

/// Mildest first, as the glossary has them.
const BY_SEVERITY: [Outcome; 9] = [
    Outcome::Skipped,
    Outcome::Succeeded,
    Outcome::Superseded,
    Outcome::Cancelled,
    Outcome::Rejected,
    Outcome::TimedOut,
    Outcome::Failed,
    Outcome::Lost,
    Outcome::Errored,
];

const FAILURES: [Outcome; 4] = [
    Outcome::Failed,
    Outcome::TimedOut,
    Outcome::Lost,
    Outcome::Errored,
];

fn worst(outcomes: impl Iterator<Item = Outcome>) -> Option<Outcome> {
    outcomes.max_by_key(|outcome| BY_SEVERITY.iter().position(|other| other == outcome))
}

pub(super) fn is_guard(node: &Node) -> bool {
    matches!(node.body, Body::Approve(_) | Body::Promote(_))
}

pub(super) fn judges_outcomes(node: &Node) -> bool {
    let names_outcome = |text: &str| text.contains("actions.") && text.contains(".outcome");
    node.conditions
        .iter()
        .any(|condition| names_outcome(&condition.expression))
}

impl Book {
    /// Whether a need lets what needs it go on.
    pub(super) fn satisfies(&self, need: NodeId) -> bool {
        let (Some(settled), Some(node)) = (self.settled(need), self.plan_node(need)) else {
            return false;
        };
        settled.outcome == Outcome::Succeeded
            || settled.passes
            || (node.allow_failure && !is_guard(node) && FAILURES.contains(&settled.outcome))
    }

    pub(super) fn needs_are_settled(&self, node: &Node) -> bool {
        node.needs.iter().all(|need| self.settled(*need).is_some())
    }

    pub(super) fn needs_are_satisfied(&self, node: &Node) -> bool {
        node.section == Section::Finally || node.needs.iter().all(|need| self.satisfies(*need))
    }

    /// The worst outcome of an action's cells, once all are settled.
    fn action_outcome(&self, action: &str) -> Option<Outcome> {
        let mut outcomes = Vec::new();
        for (node, state) in self.plan_nodes().iter().zip(&self.nodes) {
            if node.action.as_str() == action {
                outcomes.push(state.settled?.outcome);
            }
        }
        worst(outcomes.into_iter())
    }

    /// What the run's outcome would be now.
    pub(super) fn roll_up(&self) -> Outcome {
        let nodes = self.plan_nodes().iter().zip(&self.nodes);
        let outcomes = nodes.filter_map(|(node, state)| {
            let outcome = state.settled?.outcome;
            let forgiven = node.allow_failure && outcome != Outcome::Skipped;
            Some(if forgiven { Outcome::Succeeded } else { outcome })
        });
        worst(outcomes.chain(self.cancels.first().copied())).unwrap_or(Outcome::Skipped)
    }

    /// Whether a condition of the few that plans of a simulation have holds; none if it cannot be judged.
    fn holds(&self, text: &str) -> Option<bool> {
        match text {
            "true" => return Some(true),
            "false" => return Some(false),
            _ => {}
        }
        let (left, equal, right) = match (text.split_once(" == "), text.split_once(" != ")) {
            (Some((left, right)), _) => (left, true, right),
            (None, Some((left, right))) => (left, false, right),
            (None, None) => return None,
        };
        let found = match left {
            "branch" => {
                let request = self.request.as_ref()?;
                match &request.context.event.revision.git_ref {
                    Some(GitRef::Branch(branch)) => branch.clone(),
                    Some(GitRef::Tag(_)) | None => String::new(),
                }
            }
            "run.outcome" => self.roll_up().as_str().to_owned(),
            other => {
                let action = other.strip_prefix("actions.")?.strip_suffix(".outcome")?;
                self.action_outcome(action)?.as_str().to_owned()
            }
        };
        Some((found == right.trim_matches('"')) == equal)
    }

    pub(super) fn conditions_hold(&self, node: &Node) -> Option<bool> {
        let mut all = true;
        for condition in &node.conditions {
            all &= self.holds(&condition.expression)?;
        }
        Some(all)
    }

    /// Gates in front of a node, near or far, that nobody approved and that no node on the way reacts to.
    pub(super) fn closed_gates(&self, id: NodeId) -> Vec<NodeId> {
        self.unapproved(id, |on_the_way| on_the_way.to_vec())
    }

    /// Gates in front of a node that nobody approved and that the node itself does not react to.
    pub(super) fn own_closed_gates(&self, id: NodeId) -> Vec<NodeId> {
        self.unapproved(id, |on_the_way| on_the_way.last().copied().into_iter().collect())
    }

    fn unapproved(&self, id: NodeId, reactors: impl for<'a> Fn(&[&'a Node]) -> Vec<&'a Node>) -> Vec<NodeId> {
        let nodes = self.plan_nodes();
        let Some(own) = nodes.get(id.index()) else {
            return Vec::new();
        };
        let behind = before(nodes, &own.needs);
        let on_the_way: Vec<&Node> = behind
            .iter()
            .filter_map(|id| nodes.get(id.index()))
            .chain([own])
            .collect();
        let reactors = reactors(&on_the_way);
        let reacts = |node: &Node, gate: &Node, gate_id: NodeId| {
            let outcome = format!("actions.{}.outcome", gate.action);
            let names = node
                .conditions
                .iter()
                .any(|condition| condition.expression.contains(&outcome));
            names && before(nodes, &node.needs).contains(&gate_id)
        };
        behind
            .iter()
            .copied()
            .filter(|gate_id| {
                nodes.get(gate_id.index()).is_some_and(|gate| {
                    is_guard(gate)
                        && self.settled(*gate_id).map(|settled| settled.outcome) != Some(Outcome::Succeeded)
                        && !reactors.iter().any(|node| reacts(node, gate, *gate_id))
                })
            })
            .collect()
    }

    /// Whether a failure forbids everything new.
    pub(super) fn is_halted(&self) -> bool {
        let stops = self
            .request
            .as_ref()
            .is_some_and(|request| request.plan.on_failure == OnFailure::Stop);
        stops
            && self.cancels.is_empty()
            && self.plan_nodes().iter().zip(&self.nodes).any(|(node, state)| {
                let fails = |outcome| FAILURES.contains(&outcome) || outcome == Outcome::Rejected;
                node.section == Section::Main
                    && !node.allow_failure
                    && state.settled.is_some_and(|settled| fails(settled.outcome))
            })
    }
}
