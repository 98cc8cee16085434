//! What expressions of a node see of the run: the variables of DESIGN section 4.

use std::{borrow::Cow, collections::BTreeMap};

use pipekeeper_expr::{Resolved, Scope, Value};
use pipekeeper_model::{Name, NodeId, Outcome, ParamValue, RunId, plan::Node};

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
            ["actions", name, "outputs"] => value(self.outputs(name)),
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

    /// The outputs of an action, or a map of them by cell.
    fn outputs(&self, action: &str) -> Option<Value> {
        let cells = self.cells(action)?;
        let plan = &self.view.body().request.plan;
        if let [only] = cells.as_slice()
            && plan.node(*only).is_some_and(|node| node.cell.is_empty())
        {
            return Some(self.outputs_of(*only));
        }
        let by_cell: BTreeMap<String, Value> = cells
            .iter()
            .filter_map(|cell| {
                let name = &plan.node(*cell)?.name;
                let label = name
                    .split_once('[')
                    .map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(']'));
                Some((label.to_owned(), self.outputs_of(*cell)))
            })
            .collect();
        Some(Value::Map(by_cell))
    }

    fn outputs_of(&self, node: NodeId) -> Value {
        let outputs = match self.view.node_state(node) {
            Some(NodeState::Done(ended)) => ended
                .outputs()
                .map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())))
                .collect(),
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
            | None => BTreeMap::new(),
        };
        Value::Map(outputs)
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
