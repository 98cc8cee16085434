//! What expressions of a node see of the run: the variables of DESIGN section 4.

use std::{borrow::Cow, collections::BTreeMap};

use pipekeeper_expr::{Resolved, Scope, Value};
use pipekeeper_model::{Name, NodeId, Outcome, OutputFile, OutputValue, ParamValue, RunId, plan::Node};

use crate::{run::Body, state::NodeState};

/// Where a scope reads node states from: a run, or the draft of what it will be.
pub(crate) trait View {
    fn run(&self) -> RunId;
    fn body(&self) -> &Body;
    fn node_state(&self, node: NodeId) -> Option<&NodeState>;
    fn outcome_so_far(&self) -> Outcome;
}

/// The scope of one node.
pub(crate) struct NodeScope<'a, V> {
    pub(crate) view: &'a V,
    pub(crate) node: &'a Node,
}

impl<V: View> Scope for NodeScope<'_, V> {
    fn resolve(&self, path: &[&str]) -> Resolved<'_> {
        let context = &self.view.body().request.context;
        let revision = &context.event.revision;
        match path {
            ["event" | "revision" | "params" | "matrix" | "run" | "actions"] => Resolved::Branch,
            ["event", "kind"] => text(context.event.kind.as_str()),
            ["event", "schedule"] => text(context.event.schedule.as_deref().unwrap_or_default()),
            ["branch"] => text(context.event.branch().unwrap_or_default()),
            ["tag"] => text(context.event.tag().unwrap_or_default()),
            ["revision", "repository"] => text(&revision.repository),
            ["revision", "sha"] => text(revision.sha.as_ref().map(|sha| sha.as_str()).unwrap_or_default()),
            ["revision", "subject"] => text(&revision.subject),
            ["params", name] => {
                let params = &self.view.body().request.plan.params;
                value(
                    params
                        .iter()
                        .find(|(key, _)| key.as_str() == *name)
                        .map(|(_, value)| param(value)),
                )
            }
            ["matrix", name] => {
                let cell = self.node.cell.iter().find(|(key, _)| key.as_str() == *name);
                value(cell.map(|(_, value)| Value::String(value.clone())))
            }
            ["run", "outcome"] => text(self.view.outcome_so_far().as_str()),
            ["run", "id"] => text(&self.view.run().to_string()),
            ["run", "pipeline"] => text(self.view.body().request.plan.pipeline.as_str()),
            ["actions", name] if self.cells(name).is_some() => Resolved::Branch,
            ["actions", name, "outcome"] => value(self.outcome(name)),
            ["actions", name, "outputs"] => self.outputs(name),
            ["actions", name, "outputs", path @ ..] => self.below_outputs(name, path),
            _ => Resolved::Missing,
        }
    }

    fn changed(&self, patterns: &[String]) -> Option<bool> {
        let answers = &self.view.body().request.context.changed;
        // What nobody judged counts as changed: rather work too much than too little.
        Some(
            answers
                .iter()
                .find(|known| known.patterns == patterns)
                .is_none_or(|known| known.answer),
        )
    }
}

impl<V: View> NodeScope<'_, V> {
    fn cells(&self, action: &str) -> Option<&Vec<NodeId>> {
        let name: Name = action.parse().ok()?;
        self.view.body().index.actions.get(&name)
    }

    /// The worst of the cells; an action that has not ended has none.
    fn outcome(&self, action: &str) -> Option<Value> {
        let outcomes: Option<Vec<Outcome>> = self
            .cells(action)?
            .iter()
            .map(|cell| self.view.node_state(*cell)?.outcome())
            .collect();
        let worst = outcomes?.into_iter().reduce(Outcome::worst)?;
        Some(Value::String(worst.as_str().to_owned()))
    }

    /// The outputs of an action, or a map of them by cell; where one is a file, only by their names.
    fn outputs(&self, action: &str) -> Resolved<'_> {
        let Some(cells) = self.cells(action) else {
            return Resolved::Missing;
        };
        let has_file = |cell: &NodeId| self.outputs_of(*cell).any(|(_, value)| value.text().is_none());
        if cells.iter().any(has_file) {
            return Resolved::Branch;
        }
        let map = match self.only_cell(cells) {
            Some(only) => self.map_of(only),
            None => cells
                .iter()
                .filter_map(|cell| Some((self.label(*cell)?.to_owned(), Value::Map(self.map_of(*cell)))))
                .collect(),
        };
        Resolved::Value(Cow::Owned(Value::Map(map)))
    }

    /// What stands at names below the outputs of an action of which one is a file.
    fn below_outputs(&self, action: &str, path: &[&str]) -> Resolved<'_> {
        match self.output(action, path) {
            Some((_, _, OutputValue::Text(text))) => Resolved::Value(Cow::Owned(Value::String(text.clone()))),
            Some((_, key, OutputValue::File { bytes, .. })) => Resolved::Refused(format!(
                "the output `{key}` of `{action}` is a file of {bytes}: use it alone in `env:`, where the variable \
                 becomes the file's path"
            )),
            None if self.is_cell(action, path) => Resolved::Branch,
            None => Resolved::Missing,
        }
    }

    fn is_cell(&self, action: &str, path: &[&str]) -> bool {
        let cells = self.cells(action).into_iter().flatten();
        let [label] = path else { return false };
        cells
            .filter_map(|cell| self.label(*cell))
            .any(|known| known == *label)
    }

    /// The output at `KEY`, or of a matrix at `CELL`, `KEY`, with its cell's label.
    fn output(&self, action: &str, path: &[&str]) -> Option<(Option<&str>, &str, &OutputValue)> {
        let cells = self.cells(action)?;
        let (label, cell, key) = match (path, self.only_cell(cells)) {
            ([key], Some(only)) => (None, only, key),
            ([label, key], None) => {
                let cell = cells.iter().find(|cell| self.label(**cell) == Some(label))?;
                (self.label(*cell), *cell, key)
            }
            _ => return None,
        };
        let (key, value) = self.outputs_of(cell).find(|(known, _)| known == key)?;
        Some((label, key, value))
    }

    /// The file at a path of names, if it is an output that is one.
    pub(crate) fn output_file(&self, path: &[&str]) -> Option<OutputFile> {
        let ["actions", action, "outputs", rest @ ..] = path else {
            return None;
        };
        let (label, key, value) = self.output(action, rest)?;
        let OutputValue::File { digest, .. } = value else {
            return None;
        };
        // A cell's values may be any text: in a path they must stay one name.
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_=,.".contains(c) {
                c
            } else {
                '_'
            }
        };
        let place = match label {
            None => format!("{action}/{key}"),
            Some(label) => format!("{action}/{}/{key}", label.chars().map(plain).collect::<String>()),
        };
        Some(OutputFile {
            digest: digest.clone(),
            place,
        })
    }

    /// The one node of an action without a matrix.
    fn only_cell(&self, cells: &[NodeId]) -> Option<NodeId> {
        let [only] = cells else { return None };
        let node = self.view.body().request.plan.node(*only)?;
        node.cell.is_empty().then_some(*only)
    }

    /// What stands in the brackets of a cell's name.
    fn label(&self, cell: NodeId) -> Option<&str> {
        let name = self.view.body().request.plan.node(cell)?.name.as_str();
        Some(
            name.split_once('[')
                .map_or(name, |(_, rest)| rest.trim_end_matches(']')),
        )
    }

    fn map_of(&self, node: NodeId) -> BTreeMap<String, Value> {
        self.outputs_of(node)
            .filter_map(|(key, value)| Some((key.to_owned(), Value::String(value.text()?.to_owned()))))
            .collect()
    }

    fn outputs_of(&self, node: NodeId) -> impl Iterator<Item = (&str, &OutputValue)> {
        let ended = match self.view.node_state(node) {
            Some(NodeState::Done(ended)) => Some(ended),
            Some(
                NodeState::Waiting
                | NodeState::AwaitingStart { .. }
                | NodeState::AwaitingTime { .. }
                | NodeState::Deciding(_)
                | NodeState::Ready { .. }
                | NodeState::Running(_)
                | NodeState::Backoff { .. }
                | NodeState::Skipped { .. },
            )
            | None => None,
        };
        ended.into_iter().flat_map(|ended| ended.outputs())
    }
}

fn text(text: &str) -> Resolved<'static> {
    Resolved::Value(Cow::Owned(Value::String(text.to_owned())))
}

fn value(value: Option<Value>) -> Resolved<'static> {
    value.map_or(Resolved::Missing, |value| Resolved::Value(Cow::Owned(value)))
}

fn param(value: &ParamValue) -> Value {
    match value {
        ParamValue::Bool(value) => Value::Bool(*value),
        ParamValue::Int(value) => Value::Int(*value),
        ParamValue::Text(value) => Value::String(value.clone()),
    }
}
