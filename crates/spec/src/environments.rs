//! Environments in a plan: what they give to the actions that name them, and the gates that they put in front.
//!
//! What they say goes into the plan as it is at plan time; whether a node may start is the engine's to judge.
//! Entries: [`give`] for one action, [`guard`] for all nodes.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{
    Name, NodeId, Plan,
    plan::{
        Body, EnvironmentRule, Feature, FeatureUse, Gate, Node, Retry, Section, SelfApproval, Start, Work,
    },
};

use crate::{
    definition::{Action, Definition},
    document::{Approvals, Environment},
    request::PlanError,
};

/// The key path of a pipeline's own `cluster`, which an environment's replaces.
const CLUSTER_OF_PIPELINE: &str = "cluster";
/// How many actions a gate's text names.
const NAMED: usize = 3;
/// The most characters of an environment's name in that of its gate: there is room for a number behind it.
const NAME_ROOM: usize = 48;

/// Gives an action its environment's variables and cluster; tells the cluster if the file does not name it.
pub(crate) fn give(
    known: &BTreeMap<Name, Environment>,
    name: &Name,
    work: &mut Work,
    action: &Action,
) -> Result<Option<FeatureUse>, PlanError> {
    let node = &action.node;
    let environment = known.get(name).ok_or_else(|| PlanError::UnknownEnvironment {
        action: node.action.clone(),
        name: name.clone(),
        known: list(known),
    })?;
    let what = match (environment.approvals.is_some(), environment.windows.is_empty()) {
        (true, _) => Some("approvals"),
        (false, false) => Some("windows"),
        (false, true) => None,
    };
    if let (Section::Finally, Some(what)) = (node.section, what) {
        return Err(PlanError::WaitsInFinally {
            action: node.action.clone(),
            environment: name.clone(),
            what,
        });
    }
    let own = environment.vars.iter();
    let own = own.filter(|(variable, _)| !action.fixed.own_env.contains(*variable));
    let own = own.map(|(variable, value)| (variable.clone(), value.clone()));
    work.env.extend(own);
    let Some(cluster) = &environment.cluster else {
        return Ok(None);
    };
    let is_written = action
        .fixed
        .cluster
        .as_ref()
        .is_some_and(|fixed| fixed.path != CLUSTER_OF_PIPELINE);
    match work.cluster.replace(cluster.clone()) {
        Some(written) if is_written && written != *cluster => Err(PlanError::OtherCluster {
            action: node.action.clone(),
            cluster: written,
            environment: name.clone(),
            own: cluster.clone(),
        }),
        Some(_) if is_written => Ok(None),
        Some(_) | None => Ok(Some(FeatureUse {
            feature: Feature::Cluster,
            path: action
                .fixed
                .environment
                .as_ref()
                .map(|fixed| fixed.path.clone())
                .unwrap_or_default(),
            place: node.place,
            detail: Some(cluster.to_string()),
        })),
    }
}

fn list(known: &BTreeMap<Name, Environment>) -> String {
    let names: Vec<String> = known.keys().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

/// The rules of the environments that nodes name, and the nodes with the gates of these, each before the first node that it
/// is for.
pub(crate) fn guard(
    nodes: Vec<Node>,
    definition: &Definition,
    known: &BTreeMap<Name, Environment>,
) -> (Vec<Node>, BTreeMap<Name, EnvironmentRule>) {
    let mut rules = BTreeMap::new();
    let mut gates: BTreeMap<usize, Node> = BTreeMap::new();
    let mut taken: BTreeSet<Name> = definition
        .actions
        .iter()
        .map(|action| action.node.action.clone())
        .collect();
    for (index, node) in nodes.iter().enumerate() {
        let Some(name) = environment_of(node) else {
            continue;
        };
        let Some(environment) = known.get(name).filter(|_| !rules.contains_key(name)) else {
            continue;
        };
        let gate = environment.approvals.as_ref().map(|approvals| {
            let id = index + gates.len();
            gates.insert(index, gate(approvals, name, &nodes, (node, &mut taken)));
            NodeId(u32::try_from(id).unwrap_or(u32::MAX))
        });
        rules.insert(name.clone(), rule(environment, gate));
    }
    (with_gates(nodes, gates), rules)
}

/// The environments of a plan that say something else of starts now than when it was made, or that are gone.
pub fn changed_rules(plan: &Plan, known: &BTreeMap<Name, Environment>) -> Vec<Name> {
    let is_same = |name: &Name, then: &EnvironmentRule| {
        known.get(name).is_some_and(|now| {
            let asked = then.gate.and_then(|gate| plan.node(gate)).map(|node| &node.body);
            let asks = match (asked, &now.approvals) {
                (None, None) => true,
                (Some(Body::Approve(gate)), Some(approvals)) => is_asked(gate, approvals),
                (Some(_), _) | (None, Some(_)) => false,
            };
            asks && *then == rule(now, then.gate)
        })
    };
    let rules = plan.environments.iter();
    let changed = rules.filter(|(name, then)| !is_same(name, then));
    changed.map(|(name, _)| name.clone()).collect()
}

fn is_asked(gate: &Gate, approvals: &Approvals) -> bool {
    gate.count == approvals.count
        && gate.by == approvals.by.iter().cloned().collect::<Vec<_>>()
        && gate.self_approval == self_approval(approvals)
}

fn rule(environment: &Environment, gate: Option<NodeId>) -> EnvironmentRule {
    EnvironmentRule {
        gate,
        windows: environment.windows.iter().cloned().collect(),
        branches: environment.branches.clone(),
        namespace: environment.namespace.clone(),
    }
}

fn self_approval(approvals: &Approvals) -> SelfApproval {
    if approvals.by_requester {
        SelfApproval::Allowed
    } else {
        SelfApproval::Refused
    }
}

fn environment_of(node: &Node) -> Option<&Name> {
    match &node.body {
        Body::Work(work) => work.environment.as_ref(),
        Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => None,
    }
}

fn gate(
    approvals: &Approvals,
    environment: &Name,
    nodes: &[Node],
    (first, taken): (&Node, &mut BTreeSet<Name>),
) -> Node {
    let action = gate_name(environment, &first.action, taken);
    Node {
        name: action.to_string(),
        action,
        cell: BTreeMap::new(),
        groups: first.groups.clone(),
        needs: Vec::new(),
        conditions: Vec::new(),
        start: Start::Auto,
        section: Section::Main,
        allow_failure: false,
        timeout: approvals.expires,
        retry: Retry::default(),
        hold: None,
        locks: Vec::new(),
        place: first.place,
        body: Body::Approve(Gate {
            text: text(environment, nodes),
            by: approvals.by.iter().cloned().collect(),
            count: approvals.count,
            self_approval: self_approval(approvals),
            params: BTreeMap::new(),
            keep_all: false,
        }),
    }
}

/// `approve-prod`, or with a number if the file has an entry of that name.
fn gate_name(environment: &Name, or_else: &Name, taken: &mut BTreeSet<Name>) -> Name {
    let room: String = environment.as_str().chars().take(NAME_ROOM).collect();
    let numbered = (2..).map(|number: u32| format!("approve-{room}-{number}"));
    let mut texts = std::iter::once(format!("approve-{room}")).chain(numbered);
    let name = texts.find_map(|text| text.parse::<Name>().ok().filter(|name| !taken.contains(name)));
    let name = name.unwrap_or_else(|| or_else.clone());
    taken.insert(name.clone());
    name
}

fn text(environment: &Name, nodes: &[Node]) -> String {
    let there = nodes
        .iter()
        .filter(|node| environment_of(node) == Some(environment));
    let mut actions: Vec<&Name> = there.map(|node| &node.action).collect();
    actions.dedup();
    let more = match actions.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<String> = actions
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect();
    format!("start {}{more} in `{environment}`?", named.join(", "))
}

/// Puts gates in front of the nodes with these indices; what nodes say of each other is told by the new ones.
fn with_gates(nodes: Vec<Node>, mut gates: BTreeMap<usize, Node>) -> Vec<Node> {
    if gates.is_empty() {
        return nodes;
    }
    let fronts: Vec<usize> = gates.keys().copied().collect();
    let moved = |id: &mut NodeId| {
        let before = fronts.iter().filter(|front| **front <= id.index()).count();
        id.0 = id.0.saturating_add(u32::try_from(before).unwrap_or(u32::MAX));
    };
    let mut all = Vec::with_capacity(nodes.len() + gates.len());
    for (index, mut node) in nodes.into_iter().enumerate() {
        all.extend(gates.remove(&index));
        node.needs.iter_mut().chain(&mut node.hold).for_each(moved);
        if let Body::Work(work) = &mut node.body {
            work.uses.iter_mut().for_each(|used| moved(&mut used.from));
        }
        all.push(node);
    }
    all
}
