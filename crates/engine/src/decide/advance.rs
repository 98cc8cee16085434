//! What follows from a change: halting, arrivals, places, `finally`, the end.

use pipekeeper_model::{
    AttemptId, NodeId, Outcome, SkipReason,
    plan::{Body, OnFailure, Section, Start, defaults},
};

use super::{Draft, environment, judge};
use crate::{
    Before, Effect, Fact, daytime,
    fold::Fold,
    roll_up::roll_up,
    run::FinallyPhase,
    state::{NodeState, Tries},
    subject,
};

impl Draft<'_> {
    /// Draws every consequence of what was recorded so far.
    pub(super) fn advance(&mut self) {
        loop {
            if let Some(node) = self.settled.pop_first() {
                self.halt_after(node);
                self.look_again(node);
                self.tell_environment(node);
            } else if let Some(node) = self.arrivals.pop_first() {
                self.arrive(node);
            } else if self.open_main() == 0 && self.finally() == FinallyPhase::Before {
                self.begin_finally();
            } else if !self.touched.is_empty() {
                self.look_at_locks();
            } else if self.open_main() == 0 && self.open_finally() == 0 {
                break;
            } else if !self.fill_place() {
                return;
            }
        }
        if !self.is_finished() {
            self.finish();
        }
    }

    /// One failure stops what has not started, unless the pipeline says otherwise.
    fn halt_after(&mut self, node: NodeId) {
        let fails = self
            .node(node)
            .is_some_and(|node| node.section == Section::Main && !node.allow_failure)
            && match self.state(node).and_then(NodeState::outcome) {
                Some(
                    Outcome::Failed
                    | Outcome::Errored
                    | Outcome::Lost
                    | Outcome::TimedOut
                    | Outcome::Rejected,
                ) => true,
                Some(Outcome::Succeeded | Outcome::Skipped | Outcome::Superseded | Outcome::Cancelled)
                | None => false,
            };
        if !fails || self.is_halted() || self.is_stopping() || self.plan().on_failure == OnFailure::Continue {
            return;
        }
        self.record(Fact::RunHalted { node });
        let failed = self.name(node);
        for other in self.open_nodes(Section::Main) {
            if !self.has_begun(other) && !judge::judges_outcomes(self.node(other)) {
                let reason = SkipReason::EarlierFailure { node: failed.clone() };
                self.leave_out(other, reason);
            }
        }
    }

    /// Ends a node that is not to start: what had attempts is told as cancelled, whatever became of these.
    fn leave_out(&mut self, node: NodeId, reason: SkipReason) {
        if self.was_tried(node) {
            self.record(Fact::NodeFinished {
                node,
                outcome: Outcome::Cancelled,
                reason: Some(reason.to_string()),
            });
        } else {
            self.record(Fact::NodeSkipped {
                node,
                reason,
                passes: false,
            });
        }
    }

    /// After a failure, nodes that judge outcomes may wait for more than their needs, and behind a gate that opened again
    /// nodes wait for that: each end is a reason to look again.
    fn look_again(&mut self, settled: NodeId) {
        if !self.is_halted() && !self.was_voided(settled) {
            return;
        }
        let waits = |id: &NodeId| {
            let is_waiting = self.state(*id) == Some(&NodeState::Waiting) && self.unsettled(*id) == 0;
            is_waiting || self.is_unlocked(*id)
        };
        let again: Vec<NodeId> = self.open_nodes(Section::Main).into_iter().filter(waits).collect();
        self.arrivals.extend(again);
    }

    /// Whether a node had attempts, or has one.
    fn was_tried(&self, node: NodeId) -> bool {
        match self.state(node) {
            Some(NodeState::Running(_) | NodeState::Done(_)) => true,
            Some(_) | None => self.tries(node).made() > 0,
        }
    }

    /// Whether a node goes on after a failure elsewhere: what was only taken back before it ran does not.
    fn has_begun(&self, node: NodeId) -> bool {
        match self.state(node) {
            Some(NodeState::Running(_) | NodeState::Done(_)) => true,
            Some(_) | None => self.tries(node).begun() > 0,
        }
    }

    pub(super) fn tries(&self, node: NodeId) -> Tries {
        match self.state(node) {
            Some(NodeState::Ready { tries, .. } | NodeState::Backoff { tries, .. }) => *tries,
            Some(NodeState::Running(live)) => live.tries,
            Some(NodeState::Waiting | NodeState::AwaitingStart { .. } | NodeState::AwaitingTime { .. }) => {
                self.kept_tries(node)
            }
            Some(NodeState::Deciding(_) | NodeState::Done(_) | NodeState::Skipped { .. }) | None => {
                Tries::default()
            }
        }
    }

    /// All needs of a node are settled: it is judged, and started if nothing else is waited for.
    fn arrive(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        let (is_waiting, is_unlocked) = (self.state(id) == Some(&NodeState::Waiting), self.is_unlocked(id));
        if !(is_waiting || is_unlocked) || self.is_pending() {
            return;
        }
        match (node.section, self.finally()) {
            (Section::Finally, FinallyPhase::Before | FinallyPhase::Stopped) => return,
            (Section::Finally, FinallyPhase::Open { .. }) | (Section::Main, _) => {}
        }
        match judge::judge(self, id, node) {
            // It had an attempt, before a gate in front opened again.
            judge::Verdict::Skip { reason, .. } if self.was_tried(id) => self.record(Fact::NodeFinished {
                node: id,
                outcome: Outcome::Cancelled,
                reason: Some(reason.to_string()),
            }),
            judge::Verdict::Skip { reason, passes } => self.record(Fact::NodeSkipped {
                node: id,
                reason,
                passes,
            }),
            judge::Verdict::Broken { reason } => {
                self.record(Fact::NodeFinished {
                    node: id,
                    outcome: Outcome::Errored,
                    reason: Some(reason),
                });
            }
            judge::Verdict::Wait => {}
            judge::Verdict::Ask(gate) => self.begin(gate),
            judge::Verdict::Go if self.is_adopted(id) => self.record(Fact::NodeAdopted { node: id }),
            judge::Verdict::Go if is_unlocked => self.begin(id),
            judge::Verdict::Go => self.await_start(id),
        }
    }

    pub(super) fn is_adopted(&self, id: NodeId) -> bool {
        let is_work = self
            .node(id)
            .is_some_and(|node| matches!(node.body, Body::Work(_)));
        is_work
            && self
                .body()
                .request
                .adopted
                .as_ref()
                .is_some_and(|adoption| adoption.nodes.contains_key(&id))
    }

    fn await_start(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        match &node.start {
            Start::Auto => self.begin(id),
            Start::Manual | Start::Confirm { .. } => {
                self.record(Fact::StartAwaited {
                    node: id,
                    expires: self.at() + defaults::GATE,
                });
            }
            Start::Timed(when) => match daytime::instant(when, self.at()) {
                Ok(until) if until > self.at() => self.record(Fact::WaitBegan {
                    node: id,
                    before: Before::Start,
                    until,
                }),
                Ok(_) => self.begin(id),
                Err(reason) => {
                    self.record(Fact::NodeFinished {
                        node: id,
                        outcome: Outcome::Errored,
                        reason: Some(reason),
                    });
                }
            },
        }
    }

    /// Nothing but locks, a place, people or the node's own time is between it and its work.
    pub(super) fn begin(&mut self, id: NodeId) {
        let Some(node) = self.node(id) else { return };
        match &node.body {
            // Windows come before locks, so that nobody has a lock over a weekend.
            Body::Work(_) => self.ready(id),
            Body::Approve(_) | Body::Wait(_) if self.lacks_locks(id) => {
                self.record(Fact::NodeReadied { node: id });
            }
            Body::Approve(gate) => {
                let subject = subject(&self.body().request, node);
                self.record(Fact::GateOpened {
                    node: id,
                    subject,
                    expires: self.at() + node.timeout,
                });
                if !gate.keep_all {
                    self.perform(Effect::SupersedeAtGate {
                        run: self.run(),
                        gate: node.name.clone(),
                    });
                }
            }
            Body::Wait(wait) => match daytime::instant(&wait.wait_for, self.at()) {
                Ok(until) if until > self.at() => self.record(Fact::WaitBegan {
                    node: id,
                    before: Before::End,
                    until,
                }),
                Ok(_) => {
                    self.record(Fact::NodeFinished {
                        node: id,
                        outcome: Outcome::Succeeded,
                        reason: None,
                    });
                }
                Err(reason) => {
                    self.record(Fact::NodeFinished {
                        node: id,
                        outcome: Outcome::Errored,
                        reason: Some(reason),
                    });
                }
            },
            Body::Promote(_) | Body::Sync(_) => {
                self.record(Fact::NodeSkipped {
                    node: id,
                    reason: SkipReason::NeedsPromotion,
                    passes: false,
                });
            }
            Body::Call(call) => {
                let reason = Some(format!("this version cannot call `{}`", call.pipeline));
                self.record(Fact::NodeFinished {
                    node: id,
                    outcome: Outcome::Errored,
                    reason,
                });
            }
        }
    }

    /// Gives a free place to a ready node, first in the plan first; tells whether there was one.
    fn fill_place(&mut self) -> bool {
        let places = self.plan().max_parallel.unwrap_or(u32::MAX);
        if self.running() >= places {
            return false;
        }
        let Some(id) = self.first_ready() else {
            return false;
        };
        // It may have waited long for its place or its locks.
        if environment::is_closed(self, id) {
            self.ready(id);
            return true;
        }
        let attempt = AttemptId {
            run: self.run(),
            node: id,
            number: self.tries(id).made() + 1,
        };
        self.record(Fact::AttemptScheduled {
            attempt,
            check_in_by: self.at() + defaults::CHECK_IN,
        });
        self.seek_or_launch(attempt);
        true
    }

    fn begin_finally(&mut self) {
        if !self.has_finally() {
            return self.record(Fact::FinallyStopped);
        }
        if self.any_ticket() {
            self.record(Fact::FinallyBegan {
                deadline: self.at() + defaults::FINALLY,
            });
            let free = self
                .open_nodes(Section::Finally)
                .into_iter()
                .filter(|id| self.unsettled(*id) == 0)
                .collect();
            self.arrivals = free;
        } else {
            self.skip_open(Section::Finally, &SkipReason::NothingStarted);
            self.record(Fact::FinallyStopped);
        }
    }

    /// Settles every node of a section that has no live attempt; the reason is for those that never had one.
    pub(super) fn skip_open(&mut self, section: Section, reason: &SkipReason) {
        for node in self.open_nodes(section) {
            if matches!(self.state(node), Some(NodeState::Running(_))) {
                continue;
            }
            if self.was_tried(node) {
                let reason = Some("stopped before its next attempt".to_owned());
                self.record(Fact::NodeFinished {
                    node,
                    outcome: Outcome::Cancelled,
                    reason,
                });
            } else {
                self.record(Fact::NodeSkipped {
                    node,
                    reason: reason.clone(),
                    passes: false,
                });
            }
        }
    }

    fn finish(&mut self) {
        let outcome = self.outcome_so_far();
        self.record(Fact::RunFinished { outcome });
        self.perform(Effect::Notify {
            run: self.run(),
            outcome,
        });
    }

    pub(super) fn outcome_so_far(&self) -> Outcome {
        roll_up(self.plan(), self.phase(), |id| self.state(id))
    }
}
