//! The compiled graph as an indented tree, for `pipe check`. Entry: [`outline`].

use std::{collections::BTreeMap, fmt::Write as _};

use pipekeeper_model::{
    Name,
    plan::{Body, Start, Sync},
};

use crate::{
    definition::{Action, Definition, Member, Order, What},
    document::Environment,
};

/// How many needs a line names before it only counts.
const NAMED: usize = 6;

/// The graph of a definition.
pub(crate) fn outline(definition: &Definition, environments: &BTreeMap<Name, Environment>) -> String {
    let mut text = format!("{}\n", definition.name);
    members(&mut text, &definition.main, (definition, environments), 1);
    if !definition.finally.is_empty() {
        text.push_str("finally\n");
        members(&mut text, &definition.finally, (definition, environments), 1);
    }
    text
}

/// What is drawn, and the environments that there are.
type Drawn<'d> = (&'d Definition, &'d BTreeMap<Name, Environment>);

fn members(text: &mut String, list: &[Member], drawn: Drawn<'_>, depth: usize) {
    for member in list {
        let indent = "  ".repeat(depth);
        match &member.what {
            What::Leaf(index) => {
                if let Some(action) = drawn.0.actions.get(*index) {
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "{indent}{}", line(action, drawn));
                }
            }
            What::Group(group) => {
                let order = match group.order {
                    Order::Serial => "serial",
                    Order::Parallel => "parallel",
                };
                let name = match group.label.as_str() {
                    label if label == order => order.to_owned(),
                    label => format!("{order} {label}"),
                };
                let _ = writeln!(text, "{indent}{name}");
                members(text, &group.members, drawn, depth + 1);
            }
        }
    }
}

fn line(action: &Action, (definition, environments): Drawn<'_>) -> String {
    let mut line = action.node.name.clone();
    for (axis, values) in &action.matrix {
        let _ = write!(line, " [{axis}: {}]", values.join(", "));
    }
    if let Some(kind) = kind(&action.node.body) {
        let _ = write!(line, " ({kind})");
    }
    if let Some(environment) = &action.fixed.environment
        && kind(&action.node.body).is_none()
    {
        let name = &environment.text;
        let known = environments.iter().find(|(known, _)| known.as_str() == name);
        let rules = known
            .map(|(_, environment)| rules(environment))
            .unwrap_or_default();
        let _ = write!(line, " (environment {name}{rules})");
    }
    match action.node.start {
        Start::Auto => {}
        Start::Manual => line.push_str(" (started by hand)"),
        Start::Confirm { by_other: false } => line.push_str(" (started by hand, confirmed)"),
        Start::Confirm { by_other: true } => line.push_str(" (started by hand, confirmed by another person)"),
        Start::Timed(_) => line.push_str(" (started by the clock)"),
    }
    let names: Vec<&str> = action
        .needs
        .iter()
        .filter_map(|need| Some(definition.actions.get(*need)?.node.name.as_str()))
        .collect();
    if let Some(named) = names
        .get(..names.len().min(NAMED))
        .filter(|named| !named.is_empty())
    {
        let _ = write!(line, " <- {}", named.join(", "));
    }
    if names.len() > NAMED {
        let _ = write!(line, " and {} more", names.len() - NAMED);
    }
    for condition in &action.node.conditions {
        let _ = write!(line, " if {}", condition.expression);
    }
    line
}

/// What an environment puts in front of its actions.
fn rules(environment: &Environment) -> String {
    let approvals = environment.approvals.as_ref().map(|approvals| {
        let noun = if approvals.count == 1 {
            "approval"
        } else {
            "approvals"
        };
        format!("gate, {} {noun}", approvals.count)
    });
    let windows = (!environment.windows.is_empty()).then(|| "windows".to_owned());
    let branches =
        (!environment.branches.is_empty()).then(|| format!("only {}", environment.branches.text()));
    let rules: Vec<String> = approvals.into_iter().chain(windows).chain(branches).collect();
    match rules.as_slice() {
        [] => String::new(),
        rules => format!(": {}", rules.join("; ")),
    }
}

fn kind(body: &Body) -> Option<String> {
    match body {
        Body::Work(_) => None,
        Body::Approve(gate) if gate.count > 1 => Some(format!("gate, {} approvals", gate.count)),
        Body::Approve(_) => Some("gate".to_owned()),
        Body::Wait(_) => Some("wait".to_owned()),
        Body::Promote(promotion) => Some(format!("promote to {}", promotion.environment)),
        Body::Sync(Sync::App { app }) => Some(format!("sync {app}")),
        Body::Sync(Sync::Inline { path, .. }) => Some(format!("sync {path}")),
        Body::Call(call) => Some(format!("call {}", call.pipeline)),
    }
}
