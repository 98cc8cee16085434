//! The fold: how a fact changes a run. No rules here, and nothing that can fail.
//!
//! [`evolve`] folds into a [`Run`]; `decide` folds into its draft the same way, so both always agree.

mod body;
mod gates;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{NodeId, Outcome, RunId};
use thiserror::Error;

use crate::{
    AdoptedNode, Event, Fact, HoldState, Next, Run, RunPhase, RunRequest,
    hold::Holds,
    run::{Again, Body, FinallyPhase, Index, Tickets},
    state::{AdoptedFrom, AttemptPhase, Ended, LiveAttempt, NodeState, OpenGate, Tries},
};

/// Folds one event into a run.
pub fn evolve(run: &mut Run, event: &Event) {
    if let Fact::RunCreated { request } = &event.fact {
        if run.body.is_none() {
            run.body = Some(created(Arc::clone(request), event));
        }
    } else if let Some(body) = &mut run.body {
        fold(body, event);
    }
}

/// A stored log of events that no run can have written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CorruptLog {
    /// It is empty, or does not begin with the run's creation.
    #[error("replay the run: its log does not begin with `run_created`")]
    NoBeginning,
    /// An event names a node that the plan does not have.
    #[error("replay the run: event {sequence} names a node that its plan does not have")]
    UnknownNode {
        /// The event's number, from 1.
        sequence: usize,
    },
}

/// Folds a whole log into a run.
///
/// # Errors
/// If the log cannot have been written by [`crate::decide()`].
pub fn replay<'a>(mut run: Run, events: impl IntoIterator<Item = &'a Event>) -> Result<Run, CorruptLog> {
    for (at, event) in events.into_iter().enumerate() {
        if let Some(node) = event.fact.node()
            && run.node(node).is_none()
        {
            return Err(CorruptLog::UnknownNode { sequence: at + 1 });
        }
        evolve(&mut run, event);
    }
    if run.body.is_some() {
        Ok(run)
    } else {
        Err(CorruptLog::NoBeginning)
    }
}

/// What a fact is folded into.
pub(crate) trait Fold {
    fn request(&self) -> &Arc<RunRequest>;
    fn state(&self, node: NodeId) -> Option<&NodeState>;
    fn set_state(&mut self, node: NodeId, state: NodeState);
    fn set_phase(&mut self, phase: RunPhase);
    fn set_halted(&mut self, by: NodeId);
    fn set_finally(&mut self, phase: FinallyPhase);
    fn set_ticketed(&mut self);
    fn set_voided(&mut self, gate: NodeId);
    /// The attempts of a node that waits behind a gate that opened again.
    fn kept_tries(&self, node: NodeId) -> Tries;
    fn keep_tries(&mut self, node: NodeId, tries: Tries);
    fn set_hold(&mut self, hold: NodeId, state: Option<HoldState>);
}

pub(crate) fn created(request: Arc<RunRequest>, event: &Event) -> Body {
    let nodes = vec![NodeState::Waiting; request.plan.nodes.len()];
    let index = Index::of(&request.plan, &nodes, &Holds::default());
    Body {
        request,
        actor: event.actor.clone(),
        created_at: event.at,
        phase: RunPhase::Running,
        halted_by: None,
        finally: FinallyPhase::Before,
        tickets: Tickets::None,
        again: Again::default(),
        holds: Holds::default(),
        nodes,
        index,
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm for each fact reads best in one place"
)]
pub(crate) fn fold(into: &mut impl Fold, event: &Event) {
    let at = event.at;
    match &event.fact {
        Fact::RunCreated { .. } | Fact::StartGiven { .. } | Fact::GateRejected { .. } => {}
        Fact::TurnAwaited => into.set_phase(RunPhase::Pending),
        Fact::TurnCame => into.set_phase(RunPhase::Running),
        Fact::NodeReadied { node } => {
            let tries = tries(into, *node);
            into.set_state(*node, NodeState::Ready { since: at, tries });
        }
        Fact::NodeSkipped { node, reason, passes } => {
            into.set_state(
                *node,
                NodeState::Skipped {
                    reason: reason.clone(),
                    passes: *passes,
                },
            );
        }
        Fact::NodeAdopted { node } => adopt(into, *node, event),
        Fact::StartAwaited { node, expires } => {
            into.set_state(
                *node,
                NodeState::AwaitingStart {
                    since: at,
                    expires: *expires,
                    looked: None,
                },
            );
        }
        Fact::StartLooked { node } => {
            if let Some(NodeState::AwaitingStart { since, expires, .. }) = into.state(*node) {
                let looked = Some(event.actor.clone());
                into.set_state(
                    *node,
                    NodeState::AwaitingStart {
                        since: *since,
                        expires: *expires,
                        looked,
                    },
                );
            }
        }
        Fact::WaitBegan { node, before, until } => {
            let tries = tries(into, *node);
            if tries.made() > 0 {
                into.keep_tries(*node, tries);
            }
            into.set_state(
                *node,
                NodeState::AwaitingTime {
                    before: *before,
                    since: at,
                    until: *until,
                },
            );
        }
        Fact::GateOpened {
            node,
            subject,
            expires,
        } => {
            let gate = OpenGate {
                subject: subject.clone(),
                since: at,
                expires: *expires,
                approvals: Vec::new(),
                needed: 0,
                lost: BTreeSet::new(),
            };
            into.set_state(*node, NodeState::Deciding(gate));
        }
        Fact::GateApproved { node, needed, .. } => gates::approve(into, *node, event, *needed),
        Fact::GateBypassed { node, .. } => gates::approve(into, *node, event, 1),
        Fact::GateVoided { .. } => gates::reopen(into, event),
        Fact::AttemptScheduled { attempt, check_in_by } => {
            let tries = tries(into, attempt.node);
            let phase = AttemptPhase::Launching {
                since: at,
                check_in_by: *check_in_by,
            };
            into.set_state(
                attempt.node,
                NodeState::Running(LiveAttempt {
                    attempt: *attempt,
                    tries,
                    inputs: None,
                    phase,
                }),
            );
        }
        Fact::SearchBegan { attempt } => {
            if let Some(NodeState::Running(live)) = into.state(attempt.node) {
                let phase = AttemptPhase::Seeking {
                    since: at,
                    check_in_by: live.phase.deadline(),
                };
                set_attempt_phase(into, attempt.node, phase);
            }
        }
        Fact::InputsKnown {
            attempt,
            inputs,
            check_in_by,
        } => {
            if let Some(NodeState::Running(live)) = into.state(attempt.node) {
                let live = LiveAttempt {
                    attempt: live.attempt,
                    tries: live.tries,
                    inputs: inputs.clone(),
                    phase: AttemptPhase::Launching {
                        since: at,
                        check_in_by: *check_in_by,
                    },
                };
                into.set_state(attempt.node, NodeState::Running(live));
            }
        }
        Fact::LaunchHeldUp { attempt, expires } => {
            let phase = AttemptPhase::Queued {
                since: at,
                expires: *expires,
            };
            set_attempt_phase(into, attempt.node, phase);
        }
        Fact::LaunchWentOn { attempt, check_in_by } => {
            let phase = AttemptPhase::Launching {
                since: at,
                check_in_by: *check_in_by,
            };
            set_attempt_phase(into, attempt.node, phase);
        }
        Fact::NodeReused { attempt, result, .. } => {
            let attempts = tries(into, attempt.node).made();
            let state = adopted(result.attempt.run, result, attempts, event);
            into.set_state(attempt.node, state);
        }
        Fact::TicketGranted {
            attempt,
            holder,
            deadline,
        } => {
            into.set_ticketed();
            let phase = AttemptPhase::Ticketed {
                holder: holder.clone(),
                since: at,
                deadline: *deadline,
            };
            set_attempt_phase(into, attempt.node, phase);
        }
        Fact::StopAsked {
            attempt,
            outcome,
            deadline,
        } => {
            if let Some(NodeState::Running(live)) = into.state(attempt.node)
                && let Some(holder) = live.phase.holder().cloned()
            {
                let phase = AttemptPhase::Stopping {
                    holder,
                    outcome: *outcome,
                    deadline: *deadline,
                };
                set_attempt_phase(into, attempt.node, phase);
            }
        }
        Fact::AttemptFinished { .. } => finish_attempt(into, event),
        Fact::NodeFinished {
            node,
            outcome,
            reason,
        } => finish_node(into, *node, *outcome, reason.clone(), event),
        Fact::RunHalted { node } => into.set_halted(*node),
        Fact::LocksAwaited { hold, expires } => {
            let (since, expires) = (at, *expires);
            into.set_hold(*hold, Some(HoldState::Waiting { since, expires }));
        }
        Fact::LocksTaken { hold } => into.set_hold(*hold, Some(HoldState::Held { since: at })),
        Fact::LocksReleased { hold } => into.set_hold(*hold, None),
        Fact::CancelBegan { reason } => into.set_phase(RunPhase::Stopping {
            reason: reason.clone(),
        }),
        Fact::FinallyBegan { deadline } => into.set_finally(FinallyPhase::Open { deadline: *deadline }),
        Fact::FinallyStopped => into.set_finally(FinallyPhase::Stopped),
        Fact::RunFinished { outcome } => into.set_phase(RunPhase::Finished {
            outcome: *outcome,
            at,
        }),
    }
}

fn tries(into: &impl Fold, node: NodeId) -> Tries {
    match into.state(node) {
        Some(NodeState::Ready { tries, .. } | NodeState::Backoff { tries, .. }) => *tries,
        Some(NodeState::Running(live)) => live.tries,
        // What was withdrawn waits again, also for whoever starts it and for its time.
        Some(NodeState::Waiting | NodeState::AwaitingStart { .. } | NodeState::AwaitingTime { .. }) => {
            into.kept_tries(node)
        }
        Some(NodeState::Deciding(_) | NodeState::Done(_) | NodeState::Skipped { .. }) | None => {
            Tries::default()
        }
    }
}

fn set_attempt_phase(into: &mut impl Fold, node: NodeId, phase: AttemptPhase) {
    if let Some(NodeState::Running(live)) = into.state(node) {
        let live = LiveAttempt {
            attempt: live.attempt,
            tries: live.tries,
            inputs: live.inputs.clone(),
            phase,
        };
        into.set_state(node, NodeState::Running(live));
    }
}

fn finish_attempt(into: &mut impl Fold, event: &Event) {
    let Fact::AttemptFinished {
        attempt,
        record,
        next,
    } = &event.fact
    else {
        return;
    };
    let before = tries(into, attempt.node);
    let state = match next {
        Next::Settled { outcome } => NodeState::Done(Box::new(Ended {
            outcome: *outcome,
            at: event.at,
            reason: None,
            attempts: attempt.number,
            record: Some(record.clone()),
            adopted: None,
            decisions: Vec::new(),
            values: BTreeMap::new(),
        })),
        Next::Retried { until, paid } => NodeState::Backoff {
            tries: Tries {
                paid: before.paid + u32::from(*paid),
                free: before.free + u32::from(!*paid),
                ..before
            },
            last: record.outcome.to_outcome(),
            until: *until,
        },
        Next::Withdrawn => {
            let tries = Tries {
                withdrawn: before.withdrawn + 1,
                ..before
            };
            into.keep_tries(attempt.node, tries);
            NodeState::Waiting
        }
    };
    into.set_state(attempt.node, state);
}

fn finish_node(into: &mut impl Fold, node: NodeId, outcome: Outcome, reason: Option<String>, event: &Event) {
    let decisions = match into.state(node) {
        Some(NodeState::Deciding(gate)) => gate.approvals.clone(),
        Some(
            NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. }
            | NodeState::Done(_)
            | NodeState::Skipped { .. },
        )
        | None => Vec::new(),
    };
    let attempts = tries(into, node).made();
    let ended = Ended {
        outcome,
        at: event.at,
        reason,
        attempts,
        record: None,
        adopted: None,
        values: gates::values(&decisions),
        decisions,
    };
    into.set_state(node, NodeState::Done(Box::new(ended)));
}

fn adopt(into: &mut impl Fold, node: NodeId, event: &Event) {
    let request = Arc::clone(into.request());
    let Some(adoption) = &request.adopted else { return };
    let Some(result) = adoption.nodes.get(&node) else {
        return;
    };
    let state = adopted(adoption.from, result, 0, event);
    into.set_state(node, state);
}

fn adopted(run: RunId, result: &AdoptedNode, attempts: u32, event: &Event) -> NodeState {
    let adopted = AdoptedFrom {
        run,
        attempt: result.attempt,
        outputs: result.outputs.clone(),
        artifacts: result.artifacts.clone(),
    };
    NodeState::Done(Box::new(Ended {
        outcome: Outcome::Succeeded,
        at: event.at,
        reason: None,
        attempts,
        record: None,
        adopted: Some(adopted),
        decisions: Vec::new(),
        values: BTreeMap::new(),
    }))
}
