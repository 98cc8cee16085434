//! The report as a tree that is drawn again in place. Pure: state in, lines out; [`super::screen`] draws them.

use std::collections::BTreeMap;

use pipekeeper_engine::{HoldState, NodeState, Run, explain};
use pipekeeper_model::{AttemptId, NodeId, SkipReason, Timestamp, plan::Node};

use super::words;
use crate::term::{Paint, Tone, clean, cut};

const SPINNER: [&str; 8] = ["⣾", "⣽", "⣻", "⢿", "⡿", "⣟", "⣯", "⣷"];
const SPINNER_MS: i64 = 100;

/// What the tree shows beside the run itself.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    last: BTreeMap<NodeId, String>,
    obstacles: BTreeMap<NodeId, String>,
    silences: BTreeMap<AttemptId, String>,
}

impl Tails {
    /// Remembers what keeps an attempt from starting.
    pub(crate) fn waits(&mut self, node: NodeId, reason: String) {
        self.obstacles.insert(node, clean(&reason));
    }

    /// Remembers that an attempt writes nothing.
    pub(crate) fn silent(&mut self, attempt: AttemptId, seconds: u64, processes: &str) {
        self.silences.insert(attempt, words::silence(seconds, processes));
    }

    /// Remembers the last line that an attempt wrote.
    pub(crate) fn note(&mut self, attempt: AttemptId, bytes: &[u8]) {
        self.silences.remove(&attempt);
        let text = String::from_utf8_lossy(bytes);
        let last = text
            .split(['\n', '\r'])
            .map(clean)
            .rfind(|line| !line.trim().is_empty());
        if let Some(last) = last {
            self.last.insert(attempt.node, last);
        }
    }
}

/// The lines of the tree, at most `rows`, none wider than `columns`.
pub(crate) fn draw(
    run: &Run,
    tails: &Tails,
    now: Timestamp,
    (rows, columns): (usize, usize),
    paint: Paint,
) -> Vec<String> {
    let Some(plan) = run.plan() else {
        return Vec::new();
    };
    let all: Vec<(NodeId, &Node, &NodeState)> = plan
        .ids()
        .zip(&plan.nodes)
        .filter_map(|(id, node)| Some((id, node, run.node(id)?)))
        .filter(|(_, _, state)| !is_unselected(state))
        .collect();
    let headings = all.windows(2).filter(|pair| match pair {
        [one, other] => one.1.groups != other.1.groups,
        _ => false,
    });
    let fits = all.len() + headings.count() + 1 < rows;
    let shown: Vec<_> = all
        .iter()
        .filter(|(_, _, state)| fits || is_interesting(state))
        .collect();
    let name_width = shown
        .iter()
        .map(|(_, node, _)| node.name.chars().count() + if fits { 2 * node.groups.len() } else { 0 })
        .max()
        .unwrap_or(0)
        .min(columns / 2);
    let mut out = Vec::new();
    let mut groups: &[String] = &[];
    for (id, node, state) in &shown {
        if fits {
            out.extend(headings_between(groups, &node.groups, paint));
            groups = &node.groups;
        }
        let indent = if fits { 2 * node.groups.len() } else { 0 };
        out.push(line(
            run,
            *id,
            (node, state),
            tails,
            now,
            (indent, name_width, columns),
            paint,
        ));
    }
    let hidden = all.len() - shown.len();
    let limit = rows.saturating_sub(1).max(1);
    if hidden > 0 || out.len() > limit {
        let cut_off = out.len().saturating_sub(limit - 1);
        out.truncate(limit - 1);
        out.push(paint.tone(Tone::Faint, format_args!("… and {} more", hidden + cut_off)));
    }
    out
}

/// The labels of the groups that begin here, each on a line of its own.
fn headings_between(before: &[String], here: &[String], paint: Paint) -> Vec<String> {
    let same = before
        .iter()
        .zip(here)
        .take_while(|(one, other)| one == other)
        .count();
    here.iter()
        .enumerate()
        .skip(same)
        .map(|(depth, label)| format!("{}{}", "  ".repeat(depth), paint.tone(Tone::Faint, label)))
        .collect()
}

fn line(
    run: &Run,
    id: NodeId,
    (node, state): (&Node, &NodeState),
    tails: &Tails,
    now: Timestamp,
    (indent, name_width, columns): (usize, usize, usize),
    paint: Paint,
) -> String {
    let (mark, tone) = mark(state, now);
    let width = name_width.saturating_sub(indent);
    let name = cut(&node.name, width.max(8));
    let time = words::time_of(state, now).map(words::length).unwrap_or_default();
    let used = indent + 2 + width + 1 + 7 + 2;
    let rest = cut(&note(run, id, state, tails), columns.saturating_sub(used + 1));
    let note_tone = match state {
        NodeState::Deciding(_) | NodeState::AwaitingStart { .. } => Tone::Attention,
        NodeState::Done(_)
        | NodeState::Waiting
        | NodeState::AwaitingTime { .. }
        | NodeState::Ready { .. }
        | NodeState::Running(_)
        | NodeState::Backoff { .. }
        | NodeState::Skipped { .. } => Tone::Faint,
    };
    let line = format!(
        "{:indent$}{} {name:<width$} {time:>7}",
        "",
        paint.tone(tone, mark),
    );
    if rest.is_empty() {
        line.trim_end().to_owned()
    } else {
        format!("{line}  {}", paint.tone(note_tone, rest))
    }
}

fn mark(state: &NodeState, now: Timestamp) -> (&'static str, Tone) {
    match state {
        NodeState::Waiting | NodeState::AwaitingTime { .. } | NodeState::Ready { .. } => ("·", Tone::Faint),
        NodeState::AwaitingStart { .. } | NodeState::Deciding(_) => ("?", Tone::Attention),
        NodeState::Running(_) => {
            let frame = now.0.rem_euclid(SPINNER_MS * 8) / SPINNER_MS;
            let frame = usize::try_from(frame).ok().and_then(|frame| SPINNER.get(frame));
            (frame.copied().unwrap_or("⣾"), Tone::Busy)
        }
        NodeState::Backoff { .. } => ("↻", Tone::Attention),
        NodeState::Done(ended) => words::mark(ended.outcome),
        NodeState::Skipped { .. } => words::mark(pipekeeper_model::Outcome::Skipped),
    }
}

/// What stands behind the time: the last line of a log, or why it does not move.
fn note(run: &Run, id: NodeId, state: &NodeState, tails: &Tails) -> String {
    match state {
        NodeState::Running(live) => {
            let obstacle = tails.obstacles.get(&id).filter(|_| live.phase.holder().is_none());
            let told = obstacle.or_else(|| tails.silences.get(&live.attempt));
            told.or(tails.last.get(&id)).cloned().unwrap_or_default()
        }
        NodeState::Done(ended) => ended
            .reason
            .as_ref()
            .or(ended.record.as_ref().and_then(|record| record.reason.as_ref()))
            .map(|text| clean(text))
            .or_else(|| words::reused(ended))
            .unwrap_or_default(),
        NodeState::Deciding(_) => super::lines::gate_text(run, id),
        NodeState::Waiting => String::new(),
        NodeState::Ready { .. } => {
            let hold = run.plan().and_then(|plan| plan.node(id)?.hold);
            let lacks = hold.filter(|hold| matches!(run.hold(*hold), Some(HoldState::Waiting { .. })));
            let obstacle = lacks.and_then(|hold| tails.obstacles.get(&hold));
            obstacle.map_or_else(
                || clean(&explain(run, id).to_string()),
                |told| format!("waits for {told}"),
            )
        }
        NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Backoff { .. }
        | NodeState::Skipped { .. } => clean(&explain(run, id).to_string()),
    }
}

fn is_unselected(state: &NodeState) -> bool {
    matches!(
        state,
        NodeState::Skipped {
            reason: SkipReason::NotSelected,
            ..
        }
    )
}

/// What is shown where there is no room for all: what moves, what waits for a person, what went wrong.
fn is_interesting(state: &NodeState) -> bool {
    match state {
        NodeState::Running(_)
        | NodeState::Deciding(_)
        | NodeState::AwaitingStart { .. }
        | NodeState::Backoff { .. } => true,
        NodeState::Done(ended) => ended.outcome != pipekeeper_model::Outcome::Succeeded,
        NodeState::Waiting
        | NodeState::AwaitingTime { .. }
        | NodeState::Ready { .. }
        | NodeState::Skipped { .. } => false,
    }
}
