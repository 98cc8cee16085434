//! Why a node is where it is: the answer of `pipe why` and of the "why" lines of the pages.

use std::fmt;

use pipekeeper_model::{
    Actor, Approver, Name, NodeId, Outcome, SkipReason, Timestamp,
    plan::{Node, Section, Start},
};

use crate::{
    HoldState, LockKey, Run, RunPhase,
    approval::{self, Rule},
    daytime,
    run::{Body, FinallyPhase},
    state::{AttemptPhase, Before, Ended, LiveAttempt, NodeState, OpenGate},
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
        /// Who may not confirm the start, having asked for it.
        not_by: Option<Actor>,
    },
    /// People are to decide.
    AwaitsApproval(Progress),
    /// It waits for a time.
    AwaitsTime {
        /// Which.
        until: Timestamp,
    },
    /// Other runs, or other entries of this one, hold what it takes.
    AwaitsLocks {
        /// The locks.
        locks: Vec<LockKey>,
    },
    /// The windows of its environment are closed.
    AwaitsWindow {
        /// The environment.
        environment: Name,
        /// When they open.
        until: Timestamp,
        /// The same as clocks show it there.
        opens: String,
    },
    /// Nothing is to start yet in the environment that it is the gate of.
    AwaitsEntry {
        /// The environment.
        environment: Name,
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
        NodeState::Waiting => waiting(run, body, id, node),
        NodeState::AwaitingStart { expires, looked, .. } => Why::AwaitsStart {
            expires: *expires,
            looked: looked.is_some(),
            not_by: match node.start {
                Start::Confirm { by_other: true } => looked.clone(),
                Start::Auto | Start::Manual | Start::Confirm { by_other: false } | Start::Timed(_) => None,
            },
        },
        NodeState::AwaitingTime {
            before: Before::Window,
            since,
            until,
        } => window(body, id, (*since, *until)),
        NodeState::AwaitingTime {
            before: Before::Start | Before::End,
            until,
            ..
        } => Why::AwaitsTime { until: *until },
        NodeState::Deciding(gate) => deciding(body, id, gate),
        NodeState::Ready { .. } => ready(run, body, node),
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

/// Why a node waits for its turn.
fn waiting(run: &Run, body: &Body, id: NodeId, node: &Node) -> Why {
    let plan = &body.request.plan;
    if body.phase == RunPhase::Pending {
        let group = body.request.group.as_ref();
        return Why::AwaitsTurn {
            group: group.map(|group| group.key.clone()).unwrap_or_default(),
        };
    }
    if node.section == Section::Finally && body.finally == FinallyPhase::Before {
        return Why::AwaitsFinally;
    }
    if let Some(environment) = plan.guarded_by(id).cloned() {
        return Why::AwaitsEntry { environment };
    }
    let front = body.index.gates_of(id).collect();
    // The gate of its environment waits for it before it asks.
    let own = plan.environment_of(id).and_then(|(_, rule)| rule.gate);
    let asking = own.filter(|gate| matches!(run.node(*gate), Some(NodeState::Deciding(_))));
    // What stands between it and a gate that opened again may have ended.
    let gates = body
        .again
        .gates
        .intersection(&front)
        .filter(|gate| !node.needs.contains(gate) && Some(**gate) != own);
    awaits(run, body, node.needs.iter().chain(gates).chain(&asking))
}

fn awaits<'n>(run: &Run, body: &Body, needs: impl Iterator<Item = &'n NodeId>) -> Why {
    let open: Vec<_> = needs
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

/// Nothing in the run is between it and its work but locks and a place.
fn ready(run: &Run, body: &Body, node: &Node) -> Why {
    let party = node
        .hold
        .and_then(|hold| Some((hold, body.index.parties.get(&hold)?)));
    match party {
        Some((hold, party)) if !body.holds.let_run(node) => match body.holds.get(hold) {
            Some(HoldState::Waiting { .. } | HoldState::Held { .. }) => Why::AwaitsLocks {
                locks: party.keys(&body.request.project).into_keys().collect(),
            },
            // Its locks are asked for once other locked entries in front of it have ended.
            None => awaits(run, body, party.behind.iter()),
        },
        Some(_) | None => Why::AwaitsPlace {
            places: body.request.plan.max_parallel.unwrap_or(u32::MAX),
        },
    }
}

fn window(body: &Body, id: NodeId, (since, until): (Timestamp, Timestamp)) -> Why {
    let Some((environment, rule)) = body.request.plan.environment_of(id) else {
        return Why::AwaitsTime { until };
    };
    let zone = rule
        .windows
        .first()
        .map_or("UTC", |window| window.timezone.as_str());
    Why::AwaitsWindow {
        environment: environment.clone(),
        until,
        opens: daytime::shown(until, zone, since),
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
            Self::AwaitsStart {
                looked: true,
                not_by: None,
                ..
            } => f.write_str("waits for a person to confirm the start"),
            Self::AwaitsStart {
                not_by: Some(first), ..
            } => write!(f, "waits for another person than {first} to confirm the start"),
            Self::AwaitsApproval(progress) => write!(f, "waits for people: {progress}"),
            Self::AwaitsTime { .. } => f.write_str("waits for its time"),
            Self::AwaitsLocks { locks } => {
                let noun = if locks.len() == 1 { "lock" } else { "locks" };
                let names: Vec<String> = locks.iter().map(LockKey::to_string).collect();
                write!(f, "waits for the {noun} {}", names.join(", "))
            }
            Self::AwaitsWindow {
                environment, opens, ..
            } => write!(f, "the window of {environment} opens {opens}"),
            Self::AwaitsEntry { environment } => {
                write!(f, "is asked as soon as something is to start in {environment}")
            }
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
