//! Why a node is where it is: the answer of `pipe why` and of the "why" lines of the pages.

use std::fmt;

use pipekeeper_model::{NodeId, Outcome, SkipReason, Timestamp, plan::Section};

use crate::{
    Run, RunPhase,
    run::FinallyPhase,
    state::{AttemptPhase, Ended, LiveAttempt, NodeState},
};

/// Why a node is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no such run or node.
    Unknown,
    /// The run waits for its turn.
    AwaitsTurn {
        /// In this group.
        group: String,
    },
    /// It needs nodes that are not settled.
    AwaitsNeeds {
        /// Their names with the words for their states, the first few.
        needs: Vec<(String, &'static str)>,
        /// How many more there are.
        more: usize,
    },
    /// It comes after everything else.
    AwaitsFinally,
    /// A person is to start it.
    AwaitsStart {
        /// Until when.
        expires: Timestamp,
        /// Whether the first of two looks was taken.
        looked: bool,
    },
    /// People are to decide.
    AwaitsApproval {
        /// How many approved.
        approved: usize,
        /// How many are needed.
        needed: u32,
        /// Until when.
        expires: Timestamp,
    },
    /// It waits for a time.
    AwaitsTime {
        /// Which.
        until: Timestamp,
    },
    /// All places are taken.
    AwaitsPlace {
        /// How many there are.
        places: u32,
    },
    /// An earlier success with the same inputs is looked for.
    Seeks,
    /// There is no room for it.
    Queued {
        /// Until when it waits for some.
        expires: Timestamp,
    },
    /// It is being launched.
    Launching {
        /// Since when.
        since: Timestamp,
        /// Which attempt.
        attempt: u32,
    },
    /// It runs.
    Runs {
        /// Since when.
        since: Timestamp,
        /// Which attempt.
        attempt: u32,
    },
    /// It is being stopped.
    Stops {
        /// When it counts as stopped.
        deadline: Timestamp,
    },
    /// It is tried again.
    Retries {
        /// When.
        until: Timestamp,
        /// How the last attempt ended.
        last: Outcome,
    },
    /// It ended.
    Ended {
        /// How.
        outcome: Outcome,
        /// Why, where that is known.
        reason: Option<String>,
    },
    /// It never ran.
    Skipped {
        /// Why.
        reason: SkipReason,
    },
}

const NEEDS_SHOWN: usize = 3;

/// Explains one node of a run.
pub fn explain(run: &Run, id: NodeId) -> Why {
    let (Some(body), Some(state)) = (run.existing(), run.node(id)) else {
        return Why::Unknown;
    };
    let Some(node) = body.request.plan.node(id) else {
        return Why::Unknown;
    };
    match state {
        NodeState::Waiting if body.phase == RunPhase::Pending => {
            let group = body
                .request
                .group
                .as_ref()
                .map(|group| group.key.clone())
                .unwrap_or_default();
            Why::AwaitsTurn { group }
        }
        NodeState::Waiting if node.section == Section::Finally && body.finally == FinallyPhase::Before => {
            Why::AwaitsFinally
        }
        NodeState::Waiting => {
            let open: Vec<_> = node
                .needs
                .iter()
                .filter_map(|need| Some((body.request.plan.node(*need)?.name.clone(), run.node(*need)?)))
                .filter(|(_, state)| !state.is_settled())
                .map(|(name, state)| (name, state.word()))
                .collect();
            let more = open.len().saturating_sub(NEEDS_SHOWN);
            Why::AwaitsNeeds {
                needs: open.into_iter().take(NEEDS_SHOWN).collect(),
                more,
            }
        }
        NodeState::AwaitingStart { expires, looked, .. } => Why::AwaitsStart {
            expires: *expires,
            looked: looked.is_some(),
        },
        NodeState::AwaitingTime { until, .. } => Why::AwaitsTime { until: *until },
        NodeState::Deciding(gate) => {
            let needed = match &node.body {
                pipekeeper_model::plan::Body::Approve(rule) => rule.count,
                pipekeeper_model::plan::Body::Work(_)
                | pipekeeper_model::plan::Body::Wait(_)
                | pipekeeper_model::plan::Body::Promote(_)
                | pipekeeper_model::plan::Body::Sync(_)
                | pipekeeper_model::plan::Body::Call(_) => 1,
            };
            Why::AwaitsApproval {
                approved: gate.approvals.len(),
                needed,
                expires: gate.expires,
            }
        }
        NodeState::Ready { .. } => Why::AwaitsPlace {
            places: body.request.plan.max_parallel.unwrap_or(u32::MAX),
        },
        NodeState::Running(live) => under_way(live),
        NodeState::Backoff { last, until, .. } => Why::Retries {
            until: *until,
            last: *last,
        },
        NodeState::Done(ended) => Why::Ended {
            outcome: ended.outcome,
            reason: reason(ended),
        },
        NodeState::Skipped { reason, .. } => Why::Skipped {
            reason: reason.clone(),
        },
    }
}

fn under_way(live: &LiveAttempt) -> Why {
    let attempt = live.attempt.number;
    match &live.phase {
        AttemptPhase::Seeking { .. } => Why::Seeks,
        AttemptPhase::Queued { expires, .. } => Why::Queued { expires: *expires },
        AttemptPhase::Launching { since, .. } => Why::Launching {
            since: *since,
            attempt,
        },
        AttemptPhase::Ticketed { since, .. } => Why::Runs {
            since: *since,
            attempt,
        },
        AttemptPhase::Stopping { deadline, .. } => Why::Stops { deadline: *deadline },
    }
}

fn reason(ended: &Ended) -> Option<String> {
    if let Some(from) = &ended.adopted {
        return Some(format!("reused from run {}", from.run));
    }
    let decided = || {
        let names: Vec<_> = ended
            .decisions
            .iter()
            .map(|approval| approval.by.to_string())
            .collect();
        (!names.is_empty()).then(|| format!("approved by {}", names.join(", ")))
    };
    let recorded = || ended.record.as_ref().and_then(|record| record.reason.clone());
    ended.reason.clone().or_else(recorded).or_else(decided)
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such run or action"),
            Self::AwaitsTurn { group } => write!(f, "waits for an older run of the group `{group}` to end"),
            Self::AwaitsNeeds { needs, more } => {
                f.write_str("waits for ")?;
                for (at, (name, word)) in needs.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}`{name}` ({word})")?;
                }
                if *more > 0 {
                    write!(f, " and {more} more")
                } else {
                    Ok(())
                }
            }
            Self::AwaitsFinally => f.write_str("runs after everything else has ended"),
            Self::AwaitsStart { looked: false, .. } => f.write_str("waits for a person to start it"),
            Self::AwaitsStart { looked: true, .. } => f.write_str("waits for a person to confirm the start"),
            Self::AwaitsApproval { approved, needed, .. } => {
                write!(f, "waits for approval: {approved} of {needed}")
            }
            Self::AwaitsTime { .. } => f.write_str("waits for its time"),
            Self::AwaitsPlace { places } => write!(f, "waits for a place: `max_parallel` is {places}"),
            Self::Seeks => f.write_str("looks for an earlier success with the same inputs"),
            Self::Queued { .. } => f.write_str("waits to be launched"),
            Self::Launching { attempt, .. } => write!(f, "attempt {attempt} is starting"),
            Self::Runs { attempt, .. } => write!(f, "attempt {attempt} is running"),
            Self::Stops { .. } => f.write_str("is being stopped"),
            Self::Retries { last, .. } => write!(f, "{last}; waits before its next attempt"),
            Self::Ended {
                outcome,
                reason: None,
            } => write!(f, "{outcome}"),
            Self::Ended {
                outcome,
                reason: Some(reason),
            } => write!(f, "{outcome}: {reason}"),
            Self::Skipped { reason } => write!(f, "skipped: {reason}"),
        }
    }
}
