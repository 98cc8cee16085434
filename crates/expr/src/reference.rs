//! What an expression names, known without evaluating it; entry type [`Reference`].

use std::collections::BTreeSet;

use crate::ast::{Callee, Kind, Node};
use crate::function::Function;

/// Something that an expression names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A variable such as `branch`; `actions` too, whatever of it is named.
    Variable(String),
    /// `actions` as a whole, or a member whose name is computed.
    AllActions,
    /// `actions.NAME` or a part of it that is neither its outcome nor one output.
    Action {
        /// The action.
        action: String,
    },
    /// `actions.NAME.outcome`.
    ActionOutcome {
        /// The action.
        action: String,
    },
    /// `actions.NAME.outputs.KEY`.
    ActionOutput {
        /// The action.
        action: String,
        /// The output.
        key: String,
    },
    /// The function `changed`.
    Changed,
}

/// All that the tree names.
pub(crate) fn references(root: &Node) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    collect(root, &mut found);
    found
}

fn collect(node: &Node, found: &mut BTreeSet<Reference>) {
    if let Some((variable, path)) = path(node) {
        found.insert(Reference::Variable(variable.to_owned()));
        if variable == "actions" {
            found.insert(of_actions(&path));
        }
        return;
    }
    if let Kind::Call(Callee::Known(Function::Changed), _) = node.kind {
        found.insert(Reference::Changed);
    }
    for child in node.children() {
        collect(child, found);
    }
}

/// The variable and the fixed names after it, if the node is nothing else.
pub(crate) fn path(node: &Node) -> Option<(&str, Vec<&str>)> {
    if let Kind::Variable(name) = &node.kind {
        return Some((name, Vec::new()));
    }
    let (target, name) = node.key()?;
    let (variable, mut names) = path(target)?;
    names.push(name);
    Some((variable, names))
}

fn of_actions(path: &[&str]) -> Reference {
    match path {
        [] => Reference::AllActions,
        [action, "outcome", ..] => Reference::ActionOutcome {
            action: (*action).to_owned(),
        },
        [action, "outputs", key, ..] => Reference::ActionOutput {
            action: (*action).to_owned(),
            key: (*key).to_owned(),
        },
        [action, ..] => Reference::Action {
            action: (*action).to_owned(),
        },
    }
}
