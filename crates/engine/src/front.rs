//! The gates in front of nodes, and whose approvals opened them.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_model::{
    Name, NodeId, Outcome, Plan,
    plan::{Body, Node},
};

use crate::{Run, state::NodeState};

/// Somebody who approved, and what for: where they stand is to be asked there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// The person.
    pub person: Name,
    /// The environment whose gate it was; none for a gate of the pipeline.
    pub environment: Option<Name>,
}

/// The people whose approvals let a node get so far: they are to be known when its attempt asks for its ticket.
pub fn approvers(run: &Run, node: NodeId) -> BTreeSet<Signature> {
    let Some(body) = run.existing() else {
        return BTreeSet::new();
    };
    let mut found = BTreeSet::new();
    for gate in body.index.gates_of(node) {
        if let Some(NodeState::Done(ended)) = run.node(gate)
            && ended.outcome == Outcome::Succeeded
        {
            let people = ended.decisions.iter().filter_map(|given| given.person.clone());
            found.extend(people.map(|person| Signature {
                person,
                environment: body.request.plan.guarded_by(gate).cloned(),
            }));
        }
    }
    found
}

/// For each node the gates in front of it; empty if there are none. One walk along the edges, and nodes behind the same
/// gates share one set. The gate of an environment stands in front of its own nodes alone: what comes after them is not in it.
pub(crate) fn gates_in_front(plan: &Plan, dependents: &[Vec<NodeId>]) -> Vec<Arc<BTreeSet<NodeId>>> {
    if !plan.nodes.iter().any(is_gate) {
        return Vec::new();
    }
    let mut found = vec![Arc::default(); plan.nodes.len()];
    for id in in_order(plan, dependents) {
        if let Some(node) = plan.node(id) {
            let gates = behind(plan, node, &found);
            if let Some(slot) = found.get_mut(id.index()) {
                *slot = gates;
            }
        }
    }
    for id in plan.ids() {
        let own = plan.environment_of(id).and_then(|(_, rule)| rule.gate);
        if let (Some(gate), Some(gates)) = (own, found.get_mut(id.index())) {
            Arc::make_mut(gates).insert(gate);
        }
    }
    found
}

/// For each node those that need it.
pub(crate) fn dependents(plan: &Plan) -> Vec<Vec<NodeId>> {
    let mut dependents = vec![Vec::new(); plan.nodes.len()];
    for (id, node) in plan.ids().zip(&plan.nodes) {
        for need in &node.needs {
            if let Some(list) = dependents.get_mut(need.index()) {
                list.push(id);
            }
        }
    }
    dependents
}

/// The nodes, each after all that it needs; fewer if needs form a circle.
pub(crate) fn in_order(plan: &Plan, dependents: &[Vec<NodeId>]) -> Vec<NodeId> {
    let mut open: Vec<usize> = plan.nodes.iter().map(|node| node.needs.len()).collect();
    let mut order: Vec<NodeId> = plan.ids().filter(|id| open.get(id.index()) == Some(&0)).collect();
    let mut next = 0;
    while let Some(id) = order.get(next).copied() {
        next += 1;
        for dependent in dependents.get(id.index()).into_iter().flatten() {
            if let Some(count) = open.get_mut(dependent.index()) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    order.push(*dependent);
                }
            }
        }
    }
    order
}

fn behind(plan: &Plan, node: &Node, found: &[Arc<BTreeSet<NodeId>>]) -> Arc<BTreeSet<NodeId>> {
    let mut gates: Arc<BTreeSet<NodeId>> = Arc::default();
    for theirs in node.needs.iter().filter_map(|need| found.get(need.index())) {
        if gates.is_empty() {
            gates = Arc::clone(theirs);
        } else if !theirs.is_subset(&gates) {
            Arc::make_mut(&mut gates).extend(theirs.iter());
        }
    }
    for need in &node.needs {
        if plan.node(*need).is_some_and(is_gate) && !gates.contains(need) {
            Arc::make_mut(&mut gates).insert(*need);
        }
    }
    gates
}

fn is_gate(node: &Node) -> bool {
    match node.body {
        Body::Approve(_) => true,
        Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => false,
    }
}
