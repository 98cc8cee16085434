//! Holds: the nodes of an outermost locked entry, which take all its locks at once and give them back together. A hold is
//! named by the first of its nodes. Entry types: [`HoldState`], [`Party`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{
    NodeId, Plan, Timestamp,
    plan::{Lock, Node},
};
use serde::{Deserialize, Serialize};

use crate::front::in_order;

/// How a hold stands that a run has or wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "locks", rename_all = "snake_case")]
pub enum HoldState {
    /// It waits for its locks.
    Waiting {
        /// Since when.
        since: Timestamp,
        /// When that has lasted too long.
        expires: Timestamp,
    },
    /// It has them.
    Held {
        /// Since when.
        since: Timestamp,
    },
}

/// The holds of a run that wait or have their locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(NodeId, HoldState)>", into = "Vec<(NodeId, HoldState)>")]
pub(crate) struct Holds(BTreeMap<NodeId, HoldState>);

impl From<Vec<(NodeId, HoldState)>> for Holds {
    fn from(stored: Vec<(NodeId, HoldState)>) -> Self {
        Self(stored.into_iter().collect())
    }
}

impl From<Holds> for Vec<(NodeId, HoldState)> {
    fn from(holds: Holds) -> Self {
        holds.0.into_iter().collect()
    }
}

impl Holds {
    pub(crate) fn get(&self, hold: NodeId) -> Option<HoldState> {
        self.0.get(&hold).copied()
    }

    pub(crate) fn set(&mut self, hold: NodeId, state: Option<HoldState>) {
        match state {
            Some(state) => self.0.insert(hold, state),
            None => self.0.remove(&hold),
        };
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, HoldState)> {
        self.0.iter().map(|(hold, state)| (*hold, *state))
    }

    /// Whether a node has the locks that it takes.
    pub(crate) fn let_run(&self, node: &Node) -> bool {
        let has = |hold| matches!(self.get(hold), Some(HoldState::Held { .. }));
        node.hold.is_none_or(has)
    }

    /// When the first of those that wait has waited too long.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.iter().filter_map(|(_, state)| state.expires()).min()
    }

    /// Those that have waited too long.
    pub(crate) fn due(&self, at: Timestamp) -> Vec<NodeId> {
        let is_due = |state: HoldState| state.expires().is_some_and(|expires| expires <= at);
        self.iter()
            .filter(|(_, state)| is_due(*state))
            .map(|(hold, _)| hold)
            .collect()
    }
}

impl HoldState {
    fn expires(self) -> Option<Timestamp> {
        match self {
            Self::Waiting { expires, .. } => Some(expires),
            Self::Held { .. } => None,
        }
    }
}

/// The nodes that hold their locks together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Party {
    pub(crate) members: Vec<NodeId>,
    /// The nodes of other parties that some member stands behind, with none of a third between. The locks are taken after
    /// those have ended: whoever has locks waits for nobody else's.
    pub(crate) behind: Arc<BTreeSet<NodeId>>,
    /// The locks of all members.
    pub(crate) locks: Vec<Lock>,
    pub(crate) at_gate: AtGate,
}

/// What happens to locks while nothing but gates waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtGate {
    /// They are kept.
    Keep,
    /// They are given back, all of them: to keep some while waiting for others could last for ever.
    Yield,
}

/// The parties of a plan, by their holds.
pub(crate) fn parties(plan: &Plan, dependents: &[Vec<NodeId>]) -> BTreeMap<NodeId, Party> {
    let mut members: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for (id, node) in plan.ids().zip(&plan.nodes) {
        if let Some(hold) = node.hold {
            members.entry(hold).or_default().push(id);
        }
    }
    if members.is_empty() {
        return BTreeMap::new();
    }
    let locked = locked_in_front(plan, dependents);
    let party = |(hold, members): (NodeId, Vec<NodeId>)| {
        let nodes = members.iter().filter_map(|id| plan.node(*id));
        let locks: Vec<Lock> = nodes.flat_map(|node| node.locks.iter().cloned()).collect();
        let at_gate = if locks.iter().all(|lock| lock.yields_at_gate) {
            AtGate::Yield
        } else {
            AtGate::Keep
        };
        let party = Party {
            behind: behind(plan, hold, &members, &locked),
            members,
            locks,
            at_gate,
        };
        (hold, party)
    };
    members.into_iter().map(party).collect()
}

/// The holds that come after a node of another party, by that node.
pub(crate) fn awaited(parties: &BTreeMap<NodeId, Party>) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut awaited: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for (hold, party) in parties {
        for other in party.behind.iter() {
            awaited.entry(*other).or_default().push(*hold);
        }
    }
    awaited
}

fn behind(
    plan: &Plan,
    hold: NodeId,
    members: &[NodeId],
    locked: &[Arc<BTreeSet<NodeId>>],
) -> Arc<BTreeSet<NodeId>> {
    let mut found = Arc::default();
    for theirs in members.iter().filter_map(|id| locked.get(id.index())) {
        add(&mut found, theirs);
    }
    let is_own = |id: &NodeId| plan.node(*id).and_then(|node| node.hold) == Some(hold);
    if found.iter().any(is_own) {
        Arc::make_mut(&mut found).retain(|id| !is_own(id));
    }
    found
}

/// For each node the locked ones that it stands behind, with none between. One walk along the edges, and nodes with the same
/// needs share one set: the cells of matrices come in hundreds.
fn locked_in_front(plan: &Plan, dependents: &[Vec<NodeId>]) -> Vec<Arc<BTreeSet<NodeId>>> {
    let mut found: Vec<Arc<BTreeSet<NodeId>>> = vec![Arc::default(); plan.nodes.len()];
    let mut known: BTreeMap<&[NodeId], Arc<BTreeSet<NodeId>>> = BTreeMap::new();
    for id in in_order(plan, dependents) {
        let Some(node) = plan.node(id) else { continue };
        let nearest = known
            .entry(&node.needs)
            .or_insert_with(|| nearest(plan, &node.needs, &found));
        if let Some(slot) = found.get_mut(id.index()) {
            *slot = Arc::clone(nearest);
        }
    }
    found
}

fn nearest(plan: &Plan, needs: &[NodeId], found: &[Arc<BTreeSet<NodeId>>]) -> Arc<BTreeSet<NodeId>> {
    let mut nearest: Arc<BTreeSet<NodeId>> = Arc::default();
    for need in needs {
        if plan.node(*need).is_some_and(|node| node.hold.is_some()) {
            Arc::make_mut(&mut nearest).insert(*need);
        } else if let Some(theirs) = found.get(need.index()) {
            add(&mut nearest, theirs);
        }
    }
    nearest
}

fn add(all: &mut Arc<BTreeSet<NodeId>>, more: &Arc<BTreeSet<NodeId>>) {
    if all.is_empty() {
        *all = Arc::clone(more);
    } else if !more.is_subset(all) {
        Arc::make_mut(all).extend(more.iter());
    }
}
