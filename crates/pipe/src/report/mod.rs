//! The report of a local run: a live tree, plain lines or JSON lines. It listens; it cannot influence the run.

mod lines;
mod log;
mod screen;
pub(crate) mod summary;
#[cfg(test)]
mod tests;
mod tree;
pub(crate) mod words;

use pipekeeper_controller::Layout;
use pipekeeper_engine::{Event, Fact, Run};
use pipekeeper_model::{AttemptId, Timestamp, plan::Plan};
use serde_json::{Value, json};

pub(crate) use self::lines::gate_text;
use self::{lines::Lines, log::LogFollower, screen::Screen, tree::Tails};
use crate::term::{self, Paint, Tone};

/// How a run is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// A tree, drawn in place.
    Tree,
    /// Lines of text.
    Lines,
    /// Lines of JSON.
    Json,
}

/// Reports one run.
#[derive(Debug)]
pub(crate) struct Report {
    style: Style,
    logs: LogFollower,
    paint: Paint,
}

#[derive(Debug)]
enum Style {
    Tree { screen: Screen, tails: Tails },
    Lines(Lines),
    Json,
}

impl Report {
    /// A report on a plan whose logs are below `layout`.
    pub(crate) fn new(view: View, plan: &Plan, layout: Layout) -> Self {
        let paint = Paint::for_stdout();
        Self {
            style: match view {
                View::Tree => Style::Tree {
                    screen: Screen::default(),
                    tails: Tails::default(),
                },
                View::Lines => Style::Lines(Lines::new(plan, paint)),
                View::Json => Style::Json,
            },
            logs: LogFollower::new(layout),
            paint,
        }
    }

    /// Something happened; `run` has taken it in.
    pub(crate) fn event(&mut self, run: &Run, number: u64, event: &Event) {
        if let Fact::AttemptFinished { attempt, .. } = &event.fact {
            self.log(run, *attempt);
        }
        match &mut self.style {
            Style::Tree { .. } => {}
            Style::Lines(lines) => lines.event(run, event).iter().for_each(term::say),
            Style::Json => term::say(json!({
                "type": "event",
                "run": run.id(),
                "number": number,
                "event": event,
            })),
        }
    }

    /// The log of an attempt may have grown.
    pub(crate) fn log(&mut self, run: &Run, attempt: AttemptId) {
        loop {
            let bytes = self.logs.next(attempt);
            if bytes.is_empty() {
                return;
            }
            match &mut self.style {
                Style::Tree { tails, .. } => tails.note(attempt, &bytes),
                Style::Lines(lines) => lines.log(attempt.node, &bytes).iter().for_each(term::say),
                Style::Json => term::say(log_line(run, attempt, &bytes)),
            }
        }
    }

    /// Something keeps an attempt from starting.
    pub(crate) fn waits(&mut self, attempt: AttemptId, reason: String) {
        match &mut self.style {
            Style::Tree { tails, .. } => tails.waits(attempt.node, reason),
            Style::Lines(lines) => term::say(lines.waits(attempt.node, &reason)),
            Style::Json => term::say(json!({
                "type": "waits",
                "run": attempt.run,
                "attempt": attempt.number,
                "reason": reason,
            })),
        }
    }

    /// An attempt put nothing out for a while.
    pub(crate) fn silent(&mut self, run: &Run, attempt: AttemptId, seconds: u64, processes: &str) {
        match &mut self.style {
            Style::Tree { tails, .. } => tails.silent(attempt, seconds, processes),
            Style::Lines(lines) => lines
                .silent(attempt.node, seconds, processes)
                .iter()
                .for_each(term::say),
            Style::Json => term::say(json!({
                "type": "silent",
                "run": attempt.run,
                "node": name_of(run, attempt),
                "attempt": attempt.number,
                "seconds": seconds,
                "processes": processes,
            })),
        }
    }

    /// Draws what moves.
    pub(crate) fn draw(&mut self, run: &Run, now: Timestamp) {
        if let Style::Tree { screen, tails } = &mut self.style {
            screen.draw(tree::draw(run, tails, now, term::size(), self.paint));
        }
    }

    /// Makes room for a question below the tree.
    pub(crate) fn pause(&mut self) {
        if let Style::Tree { screen, .. } = &mut self.style {
            screen.leave();
        }
    }

    /// The end: what failed, and the one last line.
    pub(crate) fn finish(&mut self, run: &Run, now: Timestamp) {
        self.draw(run, now);
        self.pause();
        let outcome = run.outcome().unwrap_or(pipekeeper_model::Outcome::Cancelled);
        let last = summary::last_line(run);
        if matches!(self.style, Style::Json) {
            term::say(json!({
                "type": "finished",
                "run": run.id(),
                "outcome": outcome,
                "duration_ms": summary::run_time(run),
                "summary": last,
            }));
            return;
        }
        for line in summary::failures(run, &self.logs, self.paint) {
            term::say(line);
        }
        for line in summary::tests(run, self.logs.layout(), self.paint) {
            term::say(line);
        }
        let (_, tone) = words::mark(outcome);
        let tone = if outcome == pipekeeper_model::Outcome::Skipped {
            Tone::Strong
        } else {
            tone
        };
        term::say(self.paint.tone(tone, last));
    }
}

fn log_line(run: &Run, attempt: AttemptId, bytes: &[u8]) -> Value {
    json!({
        "type": "log",
        "run": run.id(),
        "node": name_of(run, attempt),
        "attempt": attempt.number,
        "text": String::from_utf8_lossy(bytes),
    })
}

fn name_of(run: &Run, attempt: AttemptId) -> Option<&str> {
    Some(run.plan()?.node(attempt.node)?.name.as_str())
}
