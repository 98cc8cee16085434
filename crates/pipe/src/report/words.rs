//! Words, marks and lengths of time as the terminal shows them.

use pipekeeper_engine::{AttemptPhase, Ended, NodeState};
use pipekeeper_model::{Millis, Outcome, Timestamp};

use crate::term::{Tone, clean};

/// `0.4s`, `12.3s`, `2m05s`, `1h02m`.
pub(crate) fn length(length: Millis) -> String {
    let seconds = length.0 / 1_000;
    if seconds < 60 {
        format!("{seconds}.{}s", length.0 % 1_000 / 100)
    } else if seconds < 3_600 {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    } else {
        format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60)
    }
}

/// A mark and its tone for an outcome: shape and colour say the same.
pub(crate) fn mark(outcome: Outcome) -> (&'static str, Tone) {
    match outcome {
        Outcome::Succeeded => ("✓", Tone::Good),
        Outcome::Skipped => ("–", Tone::Faint),
        Outcome::Superseded | Outcome::Cancelled => ("⊘", Tone::Faint),
        Outcome::Rejected => ("⊘", Tone::Bad),
        Outcome::TimedOut | Outcome::Failed | Outcome::Lost | Outcome::Errored => ("✗", Tone::Bad),
    }
}

/// That nothing is put out.
pub(crate) fn silence(seconds: u64, processes: &str) -> String {
    format!("no output for {seconds} s: {}", clean(processes))
}

/// Whose result stands in for a node that was not started.
pub(crate) fn reused(ended: &Ended) -> Option<String> {
    let from = ended.adopted.as_ref()?;
    Some(format!("reused from run {}", from.run))
}

/// How long a node ran or has been running.
pub(crate) fn time_of(state: &NodeState, now: Timestamp) -> Option<Millis> {
    match state {
        NodeState::Running(live) => match &live.phase {
            AttemptPhase::Ticketed { since, .. } => Some(now.since(*since)),
            AttemptPhase::Seeking { .. }
            | AttemptPhase::Queued { .. }
            | AttemptPhase::Launching { .. }
            | AttemptPhase::Stopping { .. } => None,
        },
        NodeState::Done(ended) => ended.record.as_ref().map(|record| record.duration()),
        NodeState::Waiting
        | NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Deciding(_)
        | NodeState::Ready { .. }
        | NodeState::Backoff { .. }
        | NodeState::Skipped { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::Millis;

    use super::length;

    #[test]
    fn lengths_are_short() {
        let shown = [40, 12_345, 125_000, 3_720_000].map(|ms| length(Millis(ms)));
        assert_eq!(shown, ["0.0s", "12.3s", "2m05s", "1h02m"]);
    }
}
