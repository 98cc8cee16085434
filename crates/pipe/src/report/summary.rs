//! The end of a run in words: what failed, where, its last lines, and one line for everything.

use std::fs;

use pipekeeper_controller::Layout;
use pipekeeper_engine::{Ended, NodeState, Run, RunPhase};
use pipekeeper_model::{
    Actor, AttemptId, AttemptRecord, Millis, NodeId, Outcome, TestCounts, TestDetails, plan::Node,
};

use super::{log::LogFollower, words};
use crate::term::{Paint, Tone, clean};

const TAIL_LINES: usize = 20;
const FAILURES_SHOWN: usize = 3;
const TESTS_NAMED: usize = 3;

/// The one line that a run ends in.
pub(crate) fn last_line(run: &Run) -> String {
    let outcome = run.outcome().unwrap_or(Outcome::Cancelled);
    let counts = counts(run);
    let head = match worst(run) {
        Some((node, ended)) if outcome != Outcome::Succeeded => {
            let time = ended
                .record
                .as_ref()
                .filter(|record| record.duration().0 > 0)
                .map(|record| format!(" in {}", words::length(record.duration())))
                .unwrap_or_default();
            let reason = reason(ended).map(|text| format!(" ({text})")).unwrap_or_default();
            format!("{outcome}: {} {}{time}{reason}", node.name, ended.outcome)
        }
        Some(_) | None => format!("{outcome} in {}", words::length(run_time(run))),
    };
    let counts = if counts.is_empty() {
        String::new()
    } else {
        format!(" · {counts}")
    };
    format!("run {head}{counts}")
}

/// One line for each action whose tests did not all pass.
pub(crate) fn tests(run: &Run, layout: &Layout, paint: Paint) -> Vec<String> {
    let plan = run.plan();
    let nodes = plan.into_iter().flat_map(|plan| plan.ids().zip(&plan.nodes));
    nodes
        .filter_map(|(id, node)| {
            let counts = test_counts(run.node(id)?).filter(|counts| counts.failed > 0)?;
            let details: Option<TestDetails> = fs::read(layout.blob(&counts.details))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            let names: Vec<String> = details
                .iter()
                .flat_map(|details| &details.failures)
                .take(TESTS_NAMED)
                .map(|test| clean(&test.name))
                .collect();
            let more = counts.failed as usize > names.len();
            Some(format!(
                "{} {}: {}{}",
                paint.tone(Tone::Strong, &node.name),
                paint.tone(Tone::Bad, format_args!("tests {counts}")),
                names.join(", "),
                if more { ", …" } else { "" }
            ))
        })
        .collect()
}

fn test_counts(state: &NodeState) -> Option<&TestCounts> {
    state.ended()?.record.as_ref()?.tests.as_ref()
}

/// The failing steps with their places and last lines.
pub(crate) fn failures(run: &Run, logs: &LogFollower, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    for (id, node, ended) in bad_nodes(run).take(FAILURES_SHOWN) {
        // What was stopped on request said nothing about why.
        let Some(record) = ended
            .record
            .as_ref()
            .filter(|_| ended.outcome != Outcome::Cancelled)
        else {
            continue;
        };
        let file = run.plan().map(|plan| plan.file.as_str()).unwrap_or_default();
        let last = record.steps.last();
        let line = last.and_then(|step| step.line).unwrap_or(node.place.line);
        let step = last
            .filter(|_| record.steps.len() > 1)
            .map(|step| format!(", {}", step.name))
            .unwrap_or_default();
        let reason = reason(ended).map(|text| format!(" ({text})")).unwrap_or_default();
        out.push(String::new());
        out.push(format!(
            "{} {}{reason}{step} at {}",
            paint.tone(Tone::Strong, &node.name),
            paint.tone(Tone::Bad, ended.outcome),
            paint.tone(Tone::Strong, format_args!("{file}:{line}")),
        ));
        out.extend(tail(run, id, ended, record, logs));
    }
    if !out.is_empty() {
        out.push(String::new());
    }
    out
}

fn tail(run: &Run, id: NodeId, ended: &Ended, record: &AttemptRecord, logs: &LogFollower) -> Vec<String> {
    let attempt = AttemptId {
        run: run.id(),
        node: id,
        number: ended.attempts,
    };
    record
        .steps
        .last()
        .map(|step| logs.tail(attempt, step, TAIL_LINES))
        .unwrap_or_default()
        .iter()
        .map(|line| format!("  {}", clean(line)))
        .collect()
}

/// The nodes that ended badly, worst first, then in the order of the plan.
fn bad_nodes(run: &Run) -> impl Iterator<Item = (NodeId, &Node, &Ended)> {
    let plan = run.plan();
    let mut bad: Vec<_> = plan
        .into_iter()
        .flat_map(|plan| plan.ids().zip(&plan.nodes))
        .filter_map(|(id, node)| match run.node(id) {
            Some(NodeState::Done(ended)) if ended.outcome != Outcome::Succeeded && !node.allow_failure => {
                Some((id, node, ended.as_ref()))
            }
            Some(
                NodeState::Done(_)
                | NodeState::Waiting
                | NodeState::AwaitingStart { .. }
                | NodeState::AwaitingTime { .. }
                | NodeState::Deciding(_)
                | NodeState::Ready { .. }
                | NodeState::Running(_)
                | NodeState::Backoff { .. }
                | NodeState::Skipped { .. },
            )
            | None => None,
        })
        .collect();
    bad.sort_by_key(|(_, _, ended)| (std::cmp::Reverse(ended.outcome.severity()), ended.at));
    bad.into_iter()
}

fn worst(run: &Run) -> Option<(&Node, &Ended)> {
    bad_nodes(run).next().map(|(_, node, ended)| (node, ended))
}

fn reason(ended: &Ended) -> Option<String> {
    ended
        .reason
        .clone()
        .or_else(|| ended.record.as_ref().and_then(|record| record.reason.clone()))
        .map(|text| clean(&text))
}

/// `3 succeeded, 1 failed, 2 skipped`.
fn counts(run: &Run) -> String {
    let mut order = Outcome::ALL;
    order.sort_by_key(|outcome| match outcome {
        Outcome::Succeeded => 0,
        Outcome::Skipped => 9,
        Outcome::Superseded
        | Outcome::Cancelled
        | Outcome::Rejected
        | Outcome::TimedOut
        | Outcome::Failed
        | Outcome::Lost
        | Outcome::Errored => 1,
    });
    order
        .into_iter()
        .filter_map(|outcome| {
            let count = run
                .nodes()
                .iter()
                .filter(|state| state.outcome() == Some(outcome))
                .count();
            (count > 0).then(|| format!("{count} {outcome}"))
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// How long a finished run took.
pub(crate) fn run_time(run: &Run) -> Millis {
    let Some((_, created)): Option<(&Actor, _)> = run.requested_by() else {
        return Millis(0);
    };
    match run.phase() {
        Some(RunPhase::Finished { at, .. }) => at.since(created),
        Some(RunPhase::Pending | RunPhase::Running | RunPhase::Stopping { .. }) | None => Millis(0),
    }
}
