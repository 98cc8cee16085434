//! Random environments: some nodes of a plan are on them, with gates, windows and branches in front.

use std::collections::BTreeMap;

use pipekeeper_model::{
    Approver, Millis, Name, NodeId, Plan, Window, WindowRule,
    plan::{Body, EnvironmentRule, Gate, Node, Place, Retry, Section, SelfApproval, Start},
};

use super::{plans::name, rng::Rng};

/// The plan, in every third case with environments.
pub(crate) fn placed(mut plan: Plan, mut rng: Rng) -> Plan {
    if !rng.chance(330) {
        return plan;
    }
    for node in &mut plan.nodes {
        let Body::Work(work) = &mut node.body else {
            continue;
        };
        if work.reuse.is_none() && node.section == Section::Main && rng.chance(450) {
            work.environment = Some(name(rng.pick("prod", &["test"])));
        }
    }
    for environment in ["prod", "test"].map(name) {
        if members(&plan, &environment).next().is_some() {
            let rule = rule(&environment, &mut plan.nodes, &mut rng);
            plan.environments.insert(environment, rule);
        }
    }
    plan
}

/// The nodes of an environment.
pub(crate) fn members<'p>(plan: &'p Plan, environment: &'p Name) -> impl Iterator<Item = NodeId> + 'p {
    let numbered = (0..).map(NodeId).zip(&plan.nodes);
    numbered
        .filter(move |(_, node)| place(node) == Some(environment))
        .map(|(id, _)| id)
}

/// The environment of a node.
pub(crate) fn place(node: &Node) -> Option<&Name> {
    if let Body::Work(work) = &node.body {
        work.environment.as_ref()
    } else {
        None
    }
}

fn rule(environment: &Name, nodes: &mut Vec<Node>, rng: &mut Rng) -> EnvironmentRule {
    let gate = rng.chance(650).then(|| {
        nodes.push(gate(environment, rng));
        NodeId(u32::try_from(nodes.len().saturating_sub(1)).unwrap_or(0))
    });
    let branches: &[&str] = rng.pick(&[], &[&["main"], &["main", "d*"], &["!dev"]]);
    let branches: Vec<String> = branches.iter().map(|text| (*text).to_owned()).collect();
    EnvironmentRule {
        gate,
        windows: windows(rng),
        branches: branches.into(),
        namespace: None,
    }
}

/// Days as clocks in UTC show them, for the checker's sake; a simulation begins at nine.
fn windows(rng: &mut Rng) -> Vec<Window> {
    let window = |rule| Window {
        rule,
        timezone: "UTC".to_owned(),
    };
    let span = |text: String| match text.parse() {
        Ok(span) => span,
        Err(error) => unreachable!("{error}"),
    };
    match rng.below(6) {
        0 => vec![window(WindowRule::Deny(span("09:00 - 09:20".to_owned())))],
        1 => vec![window(WindowRule::Allow(span("09:00 - 09:05".to_owned())))],
        // Every hour is half shut.
        2 => (0..24)
            .map(|hour| window(WindowRule::Deny(span(format!("{hour:02}:05 - {hour:02}:35")))))
            .collect(),
        // Every other minute of the first hour is shut, so that some windows close before a ticket is asked for.
        3 => (0..60)
            .step_by(2)
            .map(|minute| {
                let text = format!("09:{minute:02} - 09:{:02}", minute + 1);
                window(WindowRule::Deny(span(text)))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn gate(environment: &Name, rng: &mut Rng) -> Node {
    let action = name(&format!("approve-{environment}"));
    Node {
        name: action.to_string(),
        action,
        cell: BTreeMap::new(),
        groups: Vec::new(),
        needs: Vec::new(),
        conditions: Vec::new(),
        start: Start::Auto,
        section: Section::Main,
        allow_failure: false,
        timeout: rng.pick(Millis::minutes(20), &[Millis::minutes(2), Millis::hours(2)]),
        retry: Retry::default(),
        hold: None,
        locks: Vec::new(),
        place: Place { line: 1, column: 1 },
        body: Body::Approve(Gate {
            text: format!("start in {environment}?"),
            by: match rng.below(3) {
                0 => vec![Approver::Role(name("ops"))],
                _ => Vec::new(),
            },
            count: rng.pick(1, &[1, 2]),
            self_approval: rng.pick(SelfApproval::Refused, &[SelfApproval::Allowed]),
            params: BTreeMap::new(),
            keep_all: rng.chance(500),
        }),
    }
}
