//! The gates in front of nodes, and whose approvals opened them.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_model::{
    Name, NodeId, Outcome, Plan,
    plan::{Body, Node},
};

use crate::{Run, state::NodeState};

/// The people whose approvals let a node get so far: they are to be known when its attempt asks for its ticket.
pub fn approvers(run: &Run, node: NodeId) -> BTreeSet<Name> {
    let Some(body) = run.existing() else {
        return BTreeSet::new();
    };
    let mut found = BTreeSet::new();
    for gate in body.index.gates_of(node) {
        if let Some(NodeState::Done(ended)) = run.node(gate)
            && ended.outcome == Outcome::Succeeded
        {
            found.extend(ended.decisions.iter().filter_map(|given| given.person.clone()));
        }
    }
    found
}

/// For each node the gates in front of it; empty if there are none. One walk along the edges, and nodes behind the same
/// gates share one set.
pub(crate) fn gates_in_front(plan: &Plan, dependents: &[Vec<NodeId>]) -> Vec<Arc<BTreeSet<NodeId>>> {
    if !plan.nodes.iter().any(is_gate) {
        return Vec::new();
    }
    let mut found = vec![Arc::default(); plan.nodes.len()];
    let mut open: Vec<usize> = plan.nodes.iter().map(|node| node.needs.len()).collect();
    let mut free: Vec<NodeId> = plan.ids().filter(|id| open.get(id.index()) == Some(&0)).collect();
    while let Some(id) = free.pop() {
        if let Some(node) = plan.node(id) {
            let gates = behind(plan, node, &found);
            if let Some(slot) = found.get_mut(id.index()) {
                *slot = gates;
            }
        }
        for dependent in dependents.get(id.index()).into_iter().flatten() {
            if let Some(count) = open.get_mut(dependent.index()) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push(*dependent);
                }
            }
        }
    }
    found
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
