//! State, time and addresses in the form that people read: shape, word and colour together, never colour alone.

use std::fmt::{self, Write};

use chrono::DateTime;
use pipekeeper_engine::{AttemptPhase, NodeState};
use pipekeeper_model::{Bytes, Millis, Outcome, Timestamp};
use pipekeeper_store::RunSummary;

/// A state's shape and colour (a class of the style sheet) with its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) class: &'static str,
    pub(crate) word: &'static str,
}

impl Mark {
    pub(crate) fn outcome(outcome: Outcome) -> Self {
        let class = match outcome {
            Outcome::Succeeded => "ok",
            Outcome::Skipped => "skip",
            Outcome::Superseded => "new",
            Outcome::Cancelled => "stop",
            Outcome::Rejected => "no",
            Outcome::TimedOut => "time",
            Outcome::Failed => "bad",
            Outcome::Lost => "lost",
            Outcome::Errored => "err",
        };
        Self {
            class,
            word: outcome.word(),
        }
    }

    pub(crate) fn node(state: &NodeState) -> Self {
        let class = match state {
            NodeState::Waiting => "wait",
            NodeState::AwaitingStart { .. } | NodeState::Deciding(_) => "you",
            NodeState::AwaitingTime { .. } | NodeState::Backoff { .. } => "clock",
            NodeState::Ready { .. } => "ready",
            NodeState::Running(live) => match live.phase {
                AttemptPhase::Seeking { .. }
                | AttemptPhase::Queued { .. }
                | AttemptPhase::Launching { .. } => "ready",
                AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. } => "run",
            },
            NodeState::Done(ended) if ended.bypass().is_some() => "bad",
            NodeState::Done(ended) => Self::outcome(ended.outcome).class,
            NodeState::Skipped { .. } => "skip",
        };
        Self {
            class,
            word: state.word(),
        }
    }

    pub(crate) fn summary(summary: &RunSummary) -> Self {
        Self::run(summary.outcome, &summary.phase, summary.needs_person)
    }

    /// A run's mark, by its outcome, its phase's word, and whether a person is waited for.
    pub(crate) fn run(outcome: Option<Outcome>, phase: &str, needs_person: bool) -> Self {
        match (outcome, phase) {
            (Some(outcome), _) => Self::outcome(outcome),
            (None, "stopping") => Self {
                class: "run",
                word: "stopping",
            },
            (None, _) if needs_person => Self {
                class: "you",
                word: "needs you",
            },
            (None, "pending") => Self {
                class: "wait",
                word: "pending",
            },
            (None, _) => Self {
                class: "run",
                word: "running",
            },
        }
    }
}

/// A point in time as `<time>` wants it and as people do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) iso: String,
    pub(crate) full: String,
    pub(crate) near: String,
}

impl When {
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        let date = DateTime::from_timestamp_millis(at.0).unwrap_or_default();
        let near = if at > now {
            // What is left is rounded up: seven days are seven days for the first second too.
            let left = at.since(now);
            let unit = if left.0 < 3_600_000 { 59_999 } else { 3_599_999 };
            format!("in {}", coarse(Millis(left.0.saturating_add(unit))))
        } else {
            match coarse(now.since(at)).as_str() {
                "0 s" => "just now".to_owned(),
                past => format!("{past} ago"),
            }
        };
        Self {
            iso: date.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            full: date.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            near,
        }
    }
}

/// One unit is enough from afar.
fn coarse(length: Millis) -> String {
    let seconds = length.0 / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something took.
pub(crate) fn span(length: Millis) -> String {
    let seconds = length.0 / 1_000;
    match seconds {
        0 => format!("{} ms", length.0),
        1..10 => format!("{seconds}.{} s", length.0 % 1_000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// A number of bytes.
pub(crate) fn size(bytes: u64) -> String {
    Bytes(bytes).to_string()
}

/// One part of a path or one value of a query, percent-encoded.
pub(crate) struct Part<'a>(pub(crate) &'a str);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, Part, When, size, span};
    use pipekeeper_model::{Millis, Outcome, Timestamp};
    use std::collections::BTreeSet;

    #[test]
    fn every_outcome_has_its_own_shape_and_word() {
        let marks = Outcome::ALL.map(Mark::outcome);
        assert_eq!(
            marks
                .map(|mark| mark.class)
                .into_iter()
                .collect::<BTreeSet<_>>()
                .len(),
            9
        );
        assert_eq!(
            marks
                .map(|mark| mark.word)
                .into_iter()
                .collect::<BTreeSet<_>>()
                .len(),
            9
        );
    }

    #[test]
    fn times_are_told_near_and_exactly() {
        let at = Timestamp(1_700_000_000_000);
        let told = When::new(at, at + Millis::minutes(3));
        assert_eq!(told.iso, "2023-11-14T22:13:20Z");
        assert_eq!(told.near, "3 min ago");
        assert_eq!(When::new(at, at).near, "just now");
        assert_eq!(When::new(at + Millis::days(7), at).near, "in 7 d");
        assert_eq!(When::new(Timestamp(i64::MAX), at).iso, "1970-01-01T00:00:00Z");
    }

    #[test]
    fn lengths_sizes_and_addresses() {
        assert_eq!(span(Millis(12)), "12 ms");
        assert_eq!(span(Millis(1_234)), "1.2 s");
        assert_eq!(span(Millis::seconds(61)), "1m 01s");
        assert_eq!(span(Millis::hours(25)), "25h 00m");
        assert_eq!(size(1_023), "1023 B");
        assert_eq!(size(1_572_864), "1.5 MiB");
        assert_eq!(Part("test[db=a/b]é").to_string(), "test%5Bdb%3Da%2Fb%5D%C3%A9");
    }
}
