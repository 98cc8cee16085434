//! The compiled graph as an indented tree, for `pipe check`. Entry: [`outline`].

use std::fmt::Write as _;

use pipekeeper_model::plan::{Body, Start, Sync};

use crate::definition::{Action, Definition, Member, Order, What};

/// How many needs a line names before it only counts.
const NAMED: usize = 6;

/// The graph of a definition.
pub(crate) fn outline(definition: &Definition) -> String {
    let mut text = format!("{}\n", definition.name);
    members(&mut text, &definition.main, definition, 1);
    if !definition.finally.is_empty() {
        text.push_str("finally\n");
        members(&mut text, &definition.finally, definition, 1);
    }
    text
}

fn members(text: &mut String, list: &[Member], definition: &Definition, depth: usize) {
    for member in list {
        let indent = "  ".repeat(depth);
        match &member.what {
            What::Leaf(index) => {
                if let Some(action) = definition.actions.get(*index) {
                    // Writing to a string cannot fail.
                    let _ = writeln!(text, "{indent}{}", line(action, definition));
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
                members(text, &group.members, definition, depth + 1);
            }
        }
    }
}

fn line(action: &Action, definition: &Definition) -> String {
    let mut line = action.node.name.clone();
    for (axis, values) in &action.matrix {
        let _ = write!(line, " [{axis}: {}]", values.join(", "));
    }
    if let Some(kind) = kind(&action.node.body) {
        let _ = write!(line, " ({kind})");
    }
    match action.node.start {
        Start::Auto => {}
        Start::Manual => line.push_str(" (started by hand)"),
        Start::Confirm { .. } => line.push_str(" (started by hand, confirmed)"),
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
