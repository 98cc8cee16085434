//! Why a node is where it is: the answer of `pipe why` and of the "why" lines of the pages.

use std::fmt;

use pipekeeper_model::{Actor, Approver, Name, NodeId, Outcome, SkipReason, Timestamp, plan::Section};

use crate::{
    Run, RunPhase,
    approval::{self, Rule},
    run::{Body, FinallyPhase},
    state::{AttemptPhase, Ended, LiveAttempt, NodeState, OpenGate},
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
    AwaitsApproval(Progress),
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

/// How far a gate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many approved.
    pub approved: usize,
    /// How many are needed.
    pub needed: u32,
    /// Who is asked; empty if whoever may approve is.
    pub by: Vec<Approver>,
    /// Who may not approve, having asked for the run.
    pub not_by: Option<Actor>,
    /// Whose approvals do not count any more.
    pub lost: Vec<Name>,
    /// Until when it is open.
    pub expires: Timestamp,
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
            let front = body.index.gates_of(id).collect();
            // What stands between it and a gate that opened again may have ended.
            let gates = body
                .again
                .gates
                .intersection(&front)
                .filter(|gate| !node.needs.contains(gate));
            let open: Vec<_> = node
                .needs
                .iter()
                .chain(gates)
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
        NodeState::Deciding(gate) => deciding(body, id, gate),
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

fn deciding(body: &Body, id: NodeId, open: &OpenGate) -> Why {
    let Some(rule) = Rule::of(body, id) else {
        return Why::Unknown;
    };
    Why::AwaitsApproval(Progress {
        approved: open.approvals.len(),
        needed: rule.gate.count.max(open.needed),
        by: rule.gate.by.clone(),
        not_by: rule.not_by().cloned(),
        lost: open.lost.iter().cloned().collect(),
        expires: open.expires,
    })
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
    if let Some(bypass) = ended.bypass() {
        let why = bypass.comment.as_deref().unwrap_or_default();
        return Some(format!("bypassed by {}: {why}", bypass.by));
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
            Self::AwaitsApproval(progress) => write!(f, "waits for people: {progress}"),
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

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.needed == 1 { "approval" } else { "approvals" };
        write!(f, "{} of {} {noun}", self.approved, self.needed)?;
        if !self.by.is_empty() {
            write!(f, ", needs {}", approval::named(&self.by))?;
        }
        if let Some(actor) = &self.not_by {
            write!(f, "; not by {actor}, who asked for it")?;
        }
        match self.lost.as_slice() {
            [] => Ok(()),
            lost => {
                let names: Vec<&str> = lost.iter().map(Name::as_str).collect();
                write!(
                    f,
                    "; open again, as {} may not approve it any more",
                    names.join(" and ")
                )
            }
        }
    }
}
