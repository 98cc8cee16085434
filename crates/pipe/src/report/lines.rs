//! The report as plain lines: each line of a log with its action's name before it, and a line when something happens.

use std::collections::BTreeMap;

use pipekeeper_engine::{Event, Fact, Next, Run};
use pipekeeper_model::{AttemptRecord, NodeId, Outcome, SkipReason, plan::Plan};

use super::{log::LineCutter, words};
use crate::term::{Paint, Tone, clean, cut};

const WIDEST_NAME: usize = 24;

/// Turns events and log bytes into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    paint: Paint,
    width: usize,
    names: Vec<String>,
    cutters: BTreeMap<NodeId, LineCutter>,
    /// How many seconds of the present silence were told.
    silent: BTreeMap<NodeId, u64>,
}

impl Lines {
    /// Lines for this plan.
    pub(crate) fn new(plan: &Plan, paint: Paint) -> Self {
        let names: Vec<String> = plan
            .nodes
            .iter()
            .map(|node| cut(&node.name, WIDEST_NAME))
            .collect();
        Self {
            paint,
            width: names.iter().map(|name| name.chars().count()).max().unwrap_or(0),
            names,
            cutters: BTreeMap::new(),
            silent: BTreeMap::new(),
        }
    }

    /// What an attempt of this node wrote.
    pub(crate) fn log(&mut self, node: NodeId, bytes: &[u8]) -> Vec<String> {
        self.silent.remove(&node);
        let lines = self.cutters.entry(node).or_default().push(bytes);
        lines.iter().map(|line| self.logged(node, line)).collect()
    }

    /// What happened; `run` has taken the event in.
    pub(crate) fn event(&mut self, run: &Run, event: &Event) -> Vec<String> {
        let mut out = Vec::new();
        if let Fact::AttemptFinished { attempt, .. } = &event.fact {
            self.silent.remove(&attempt.node);
            let rest = self.cutters.get_mut(&attempt.node).and_then(LineCutter::finish);
            out.extend(rest.map(|line| self.logged(attempt.node, &line)));
        }
        if let Some((node, text)) = self.happened(run, &event.fact) {
            out.push(self.prefixed(node, '=', &text));
        }
        out
    }

    fn happened(&self, run: &Run, fact: &Fact) -> Option<(NodeId, String)> {
        match fact {
            Fact::AttemptFinished {
                attempt,
                record,
                next,
            } => {
                let text = self.attempt_ended(attempt.number, record, next);
                Some((attempt.node, text))
            }
            Fact::NodeFinished {
                node,
                outcome,
                reason,
            } => {
                let reason = reason
                    .as_ref()
                    .map(|text| format!(": {}", clean(text)))
                    .unwrap_or_default();
                Some((*node, format!("{}{reason}", self.ended(*outcome))))
            }
            Fact::NodeReused { attempt, result, .. } => {
                let from = result.attempt.run;
                let text = format!("{}: reused from run {from}", self.ended(Outcome::Succeeded));
                Some((attempt.node, text))
            }
            Fact::NodeAdopted { node } => {
                let from = run.request()?.adopted.as_ref()?.from;
                let text = format!("{}: reused from run {from}", self.ended(Outcome::Succeeded));
                Some((*node, text))
            }
            Fact::NodeSkipped { node, reason, .. } if *reason != SkipReason::NotSelected => Some((
                *node,
                self.paint.tone(Tone::Faint, format_args!("– skipped: {reason}")),
            )),
            Fact::GateOpened { node, .. } => Some((
                *node,
                self.paint.tone(
                    Tone::Attention,
                    format_args!("? waits for approval: {}", gate_text(run, *node)),
                ),
            )),
            Fact::StartAwaited { node, .. } => Some((
                *node,
                self.paint
                    .tone(Tone::Attention, "? waits for a person to start it"),
            )),
            Fact::WaitBegan { node, before, .. } => Some((*node, format!("waits for {}", before.awaited()))),
            Fact::GateBypassed { node, .. } => {
                Some((*node, self.paint.tone(Tone::Bad, "! the gate is bypassed")))
            }
            Fact::GateVoided { node, .. } => Some((
                *node,
                self.paint.tone(Tone::Attention, "? waits for approval again"),
            )),
            Fact::NodeSkipped { .. }
            | Fact::RunCreated { .. }
            | Fact::TurnAwaited
            | Fact::TurnCame
            | Fact::NodeReadied { .. }
            | Fact::StartLooked { .. }
            | Fact::StartGiven { .. }
            | Fact::GateApproved { .. }
            | Fact::GateRejected { .. }
            | Fact::AttemptScheduled { .. }
            | Fact::SearchBegan { .. }
            | Fact::InputsKnown { .. }
            | Fact::LaunchHeldUp { .. }
            | Fact::LaunchWentOn { .. }
            | Fact::TicketGranted { .. }
            | Fact::StopAsked { .. }
            | Fact::RunHalted { .. }
            | Fact::LocksAwaited { .. }
            | Fact::LocksTaken { .. }
            | Fact::LocksReleased { .. }
            | Fact::CancelBegan { .. }
            | Fact::FinallyBegan { .. }
            | Fact::FinallyStopped
            | Fact::RunFinished { .. } => None,
        }
    }

    fn attempt_ended(&self, number: u32, record: &AttemptRecord, next: &Next) -> String {
        let time = words::length(record.duration());
        let reason = record
            .reason
            .as_ref()
            .map(|text| format!(" ({})", clean(text)))
            .unwrap_or_default();
        match next {
            Next::Settled { outcome } => format!("{} in {time}{reason}", self.ended(*outcome)),
            Next::Retried { .. } => {
                let outcome = record.outcome.to_outcome();
                format!("attempt {number} {outcome} in {time}{reason}; it is tried again")
            }
            Next::Withdrawn => format!("? does not start yet{reason}"),
        }
    }

    fn ended(&self, outcome: Outcome) -> String {
        let (mark, tone) = words::mark(outcome);
        self.paint.tone(tone, format_args!("{mark} {outcome}"))
    }

    /// Something keeps an attempt from starting.
    pub(crate) fn waits(&self, node: NodeId, reason: &str) -> String {
        self.prefixed(node, '=', &format!("waits: {}", clean(reason)))
    }

    /// Nothing is put out for a while; of a long silence ever fewer lines are told.
    pub(crate) fn silent(&mut self, node: NodeId, seconds: u64, processes: &str) -> Option<String> {
        let told = self.silent.get(&node).copied().unwrap_or_default();
        if seconds < told.saturating_mul(2) {
            return None;
        }
        self.silent.insert(node, seconds);
        let text = words::silence(seconds, processes);
        Some(self.prefixed(node, '=', &self.paint.tone(Tone::Faint, text)))
    }

    fn logged(&self, node: NodeId, line: &str) -> String {
        // Colours of the tool are kept where colours are wanted, but they end with the line.
        let line = match self.paint {
            Paint::Always if line.contains('\u{1b}') => format!("{line}\u{1b}[0m"),
            Paint::Always => line.to_owned(),
            Paint::Never => clean(line),
        };
        self.prefixed(node, '|', &line)
    }

    fn prefixed(&self, node: NodeId, bar: char, text: &str) -> String {
        let name = self
            .names
            .get(node.index())
            .map(String::as_str)
            .unwrap_or_default();
        let padded = format!("{name:<width$}", width = self.width);
        format!("{} {bar} {text}", self.paint.tone(Tone::Busy, padded))
            .trim_end()
            .to_owned()
    }
}

/// What a gate asks.
pub(crate) fn gate_text(run: &Run, node: NodeId) -> String {
    use pipekeeper_model::plan::Body;
    match run.plan().and_then(|plan| plan.node(node)).map(|node| &node.body) {
        Some(Body::Approve(gate)) => clean(&gate.text),
        Some(Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_)) | None => {
            String::new()
        }
    }
}
