//! Judges each recorded fact in its turn: is it allowed here, by the naive model?

use pipekeeper_engine::{Before, CancelReason, Event, Fact, NodeState};
use pipekeeper_model::{
    NodeId, Outcome, SkipReason,
    plan::{Body, Node, OnNew, Section, defaults},
};

use super::{
    Ask, Shared,
    book::{Book, Finally, NodeBook, Settled},
    reference::{is_guard, judges_outcomes},
};
use crate::sim::Violation;

/// One fact under judgement.
pub(super) struct Check<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) book: &'a mut Book,
    pub(super) event: &'a Event,
    pub(super) violation: Option<Violation>,
    pub(super) hits: &'a mut Vec<&'static str>,
}

/// A state's name among the counts.
pub(super) fn state_name(state: &NodeState) -> &'static str {
    match state {
        NodeState::Waiting => "state Waiting",
        NodeState::AwaitingStart { .. } => "state AwaitingStart",
        NodeState::AwaitingTime { .. } => "state AwaitingTime",
        NodeState::Deciding(_) => "state Deciding",
        NodeState::Ready { .. } => "state Ready",
        NodeState::Running(_) => "state Running",
        NodeState::Backoff { .. } => "state Backoff",
        NodeState::Done(_) => "state Done",
        NodeState::Skipped { .. } => "state Skipped",
    }
}

impl Check<'_> {
    pub(super) fn ensure(&mut self, holds: bool, invariant: &'static str, why: &str) {
        if holds || self.violation.is_some() {
            return;
        }
        let text = format!("run {}: {:?}: {why}", self.book.run.id(), self.event.fact);
        self.violation = Some(Violation { invariant, text });
    }

    pub(super) fn hit(&mut self, what: &'static str) {
        self.hits.push(what);
    }

    pub(super) fn set(&mut self, node: NodeId, change: impl FnOnce(&mut NodeBook)) {
        if let Some(book) = self.book.nodes.get_mut(node.index()) {
            change(book);
        }
    }

    pub(super) fn plan_node(&self, node: NodeId) -> Option<Node> {
        self.book.plan_node(node).cloned()
    }

    pub(super) fn asked(&self, ask: Ask) -> bool {
        let run = self.book.run.id();
        self.shared.asked.contains(&(run, self.event.actor.clone(), ask))
    }

    /// Judges the fact and writes it down.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each fact reads best in one place"
    )]
    pub(super) fn fact(&mut self) {
        self.ensure(self.book.finished.is_none(), "I4", "the run has ended");
        if let Some(node) = self.event.fact.node()
            && !matches!(
                self.event.fact,
                Fact::RunHalted { .. }
                    | Fact::GateVoided { .. }
                    | Fact::LocksAwaited { .. }
                    | Fact::LocksTaken { .. }
                    | Fact::LocksReleased { .. }
            )
        {
            self.ensure(
                self.book.settled(node).is_none(),
                "I4",
                "the node is settled already",
            );
        }
        match &self.event.fact {
            Fact::RunCreated { request } => {
                self.hit("fact RunCreated");
                self.ensure(self.book.request.is_none(), "I4", "the run exists");
                self.book.plan_digest = Some(request.plan.digest());
                self.book.nodes = vec![NodeBook::default(); request.plan.nodes.len()];
                self.book.created_at = self.event.at;
                self.book.pending = request
                    .group
                    .as_ref()
                    .is_some_and(|group| group.on_new != OnNew::CancelRunning);
                self.book.request = Some(request.clone());
            }
            Fact::TurnAwaited => {
                self.hit("fact TurnAwaited");
                self.book.pending = true;
            }
            Fact::TurnCame => {
                self.hit("fact TurnCame");
                self.turn_came();
            }
            Fact::NodeReadied { node } => {
                self.hit("fact NodeReadied");
                let begun = |node: &NodeBook| node.attempts > 0 && !node.waits_again;
                let again = self.book.node(*node).is_some_and(begun);
                self.may_begin(*node, again);
                self.set(*node, |book| {
                    book.ready = true;
                    book.waits_again = false;
                    book.window_until = None;
                });
            }
            Fact::NodeSkipped { node, reason, passes } => {
                self.hit("fact NodeSkipped");
                self.skipped(*node, reason, *passes);
            }
            Fact::NodeAdopted { node } => {
                self.hit("fact NodeAdopted");
                self.adopted(*node);
            }
            Fact::StartAwaited { node, expires } => {
                self.hit("fact StartAwaited");
                self.may_begin(*node, false);
                self.set(*node, |book| book.start_expires = Some(*expires));
            }
            Fact::StartLooked { node } => {
                self.hit("fact StartLooked");
                self.looked(*node);
            }
            Fact::StartGiven { node } => {
                self.hit("fact StartGiven");
                self.start_given(*node);
            }
            Fact::WaitBegan { node, before, until } => {
                self.hit("fact WaitBegan");
                let is_window = *before == Before::Window;
                if is_window {
                    self.hit("guard I3 a window is waited for");
                }
                // What was ready may have to wait again when it has its place or its locks.
                let begun =
                    |node: &NodeBook| is_window && (node.ready || (node.attempts > 0 && !node.waits_again));
                let again = self.book.node(*node).is_some_and(begun);
                self.may_begin(*node, again);
                if *before == Before::End {
                    self.has_locks(*node);
                }
                self.set(*node, |book| {
                    book.ready = false;
                    book.passes_time = *before == Before::End;
                    if is_window {
                        book.window_until = Some(*until);
                    } else {
                        book.wait_until = Some(*until);
                    }
                });
            }
            Fact::GateOpened {
                node,
                subject,
                expires,
            } => {
                self.hit("fact GateOpened");
                self.gate_opened(*node, subject, *expires);
            }
            Fact::GateApproved { node, subject, .. } => {
                self.hit("fact GateApproved");
                self.gate_approved(*node, subject);
            }
            Fact::GateBypassed {
                node,
                subject,
                comment,
                ..
            } => {
                self.hit("fact GateBypassed");
                self.gate_bypassed(*node, subject, comment.as_deref());
            }
            Fact::GateVoided {
                node,
                subject,
                lost,
                expires,
                ..
            } => {
                self.hit("fact GateVoided");
                self.gate_voided(*node, subject, lost, *expires);
            }
            Fact::GateRejected { node, comment, .. } => {
                self.hit("fact GateRejected");
                self.gate_rejected(*node, comment.as_deref());
            }
            Fact::AttemptScheduled { attempt, .. } => {
                self.hit("fact AttemptScheduled");
                self.attempt_scheduled(*attempt);
            }
            Fact::SearchBegan { attempt } => {
                self.hit("fact SearchBegan");
                self.search_began(*attempt);
            }
            Fact::InputsKnown { attempt, inputs, .. } => {
                self.hit("fact InputsKnown");
                self.inputs_known(*attempt, inputs.as_ref());
            }
            Fact::LaunchHeldUp { attempt, .. } => {
                self.hit("fact LaunchHeldUp");
                self.queued(*attempt);
            }
            Fact::LaunchWentOn { attempt, .. } => {
                self.hit("fact LaunchWentOn");
                self.queued(*attempt);
            }
            Fact::NodeReused {
                attempt,
                inputs,
                result,
            } => {
                self.hit("fact NodeReused");
                self.reused(*attempt, inputs, result);
            }
            Fact::TicketGranted { attempt, holder, .. } => {
                self.hit("fact TicketGranted");
                self.ticket_granted(*attempt, holder);
            }
            Fact::StopAsked { attempt, outcome, .. } => {
                self.hit("fact StopAsked");
                let ticketed = self.book.tickets.contains_key(attempt);
                self.ensure(ticketed, "I1", "it has no ticket");
                self.set(attempt.node, |book| book.stopping = Some(*outcome));
            }
            Fact::AttemptFinished {
                attempt,
                record,
                next,
            } => {
                self.hit("fact AttemptFinished");
                self.attempt_finished(*attempt, record, *next);
            }
            Fact::NodeFinished { node, outcome, .. } => {
                self.hit("fact NodeFinished");
                self.node_finished(*node, *outcome);
            }
            Fact::RunHalted { .. } => {
                self.hit("fact RunHalted");
                self.ensure(self.book.is_halted(), "I2", "nothing failed");
            }
            Fact::LocksAwaited { hold, expires } => {
                self.hit("fact LocksAwaited");
                self.locks_awaited(*hold, *expires);
            }
            Fact::LocksTaken { hold } => {
                self.hit("fact LocksTaken");
                self.locks_taken(*hold);
            }
            Fact::LocksReleased { hold } => {
                self.hit("fact LocksReleased");
                self.locks_released(*hold);
            }
            Fact::CancelBegan { reason } => {
                self.hit("fact CancelBegan");
                self.cancel_began(reason);
            }
            Fact::FinallyBegan { deadline } => {
                self.hit("fact FinallyBegan");
                self.finally_began();
                self.book.finally = Finally::Open { deadline: *deadline };
            }
            Fact::FinallyStopped => {
                self.hit("fact FinallyStopped");
                self.finally_stopped();
                self.book.finally = Finally::Stopped;
            }
            Fact::RunFinished { outcome } => {
                self.hit("fact RunFinished");
                self.run_finished(*outcome);
            }
        }
    }

    pub(super) fn settle(&mut self, node: NodeId, outcome: Outcome, passes: bool) {
        let settled = Settled {
            outcome,
            passes,
            adopted: false,
        };
        self.set(node, |book| {
            book.settled = Some(settled);
            book.live = None;
            book.ready = false;
        });
    }

    /// Whether a node may take its first step: cancel, needs, gates, conditions.
    pub(super) fn may_begin(&mut self, id: NodeId, again: bool) {
        self.may_go_on(id);
        let Some(node) = self.plan_node(id) else {
            return self.ensure(false, "I2", "the plan has no such node");
        };
        let has_tried = self.book.node(id).is_some_and(|book| book.paid + book.free > 0);
        if node.section == Section::Main && !judges_outcomes(&node) && !has_tried {
            self.ensure(!self.book.is_halted(), "I2", "an earlier failure stops it");
        }
        let has_waited = |book: &NodeBook| {
            book.wait_until.is_some() || book.window_until.is_some() || book.started_by_hand
        };
        let was_begun = again || self.book.node(id).is_some_and(has_waited);
        if was_begun {
            return;
        }
        let settled = self.book.needs_are_settled(&node);
        self.ensure(settled, "I2", "a need is not settled");
        let satisfied = judges_outcomes(&node) || self.book.needs_are_satisfied(&node);
        self.ensure(satisfied, "I2", "a need does not allow it");
        let holds = self.book.conditions_hold(&node);
        self.ensure(holds == Some(true), "I2", "a condition does not hold");
        if !node.conditions.is_empty() {
            self.hit("guard I2 condition judged");
        }
        if node.section == Section::Main {
            let closed = self.book.closed_gates(id);
            self.ensure(closed.is_empty(), "I3", "a gate in front of it is not approved");
        }
        // What is taken over starts nothing.
        if !matches!(self.event.fact, Fact::NodeAdopted { .. }) {
            self.may_enter(&node);
        }
    }

    /// Whether anything of this section may start at all.
    pub(super) fn may_go_on(&mut self, id: NodeId) {
        self.ensure(!self.book.pending, "I11", "it is not the run's turn");
        match self.plan_node(id).map(|node| node.section) {
            Some(Section::Main) => {
                self.ensure(self.book.cancels.is_empty(), "I4", "the run is being stopped");
            }
            Some(Section::Finally) => {
                let open = matches!(self.book.finally, Finally::Open { .. });
                self.ensure(open, "I4", "`finally` is not open");
                if !self.book.cancels.is_empty() {
                    self.hit("guard I4 finally after cancel");
                }
            }
            None => self.ensure(false, "I2", "the plan has no such node"),
        }
    }

    fn turn_came(&mut self) {
        let id = self.book.run.id();
        let key = self
            .book
            .request
            .as_ref()
            .and_then(|request| request.group.as_ref())
            .map(|group| group.key.clone());
        let older = self
            .shared
            .active
            .range(..id)
            .any(|(_, group)| group.is_some() && *group == key);
        self.ensure(!older, "I11", "an older run of its group is active");
        self.ensure(self.book.pending, "I4", "it did not wait");
        self.book.pending = false;
    }

    fn skipped(&mut self, id: NodeId, reason: &SkipReason, passes: bool) {
        let Some(node) = self.plan_node(id) else { return };
        let attempts = self.book.node(id).map_or(0, |node| node.attempts);
        self.ensure(attempts == 0, "I4", "it was tried before");
        let satisfied = self.book.needs_are_satisfied(&node);
        let mut may_pass = false;
        match reason {
            SkipReason::Condition { .. } => {
                let holds = self.book.conditions_hold(&node);
                self.ensure(holds == Some(false), "I2", "its conditions hold");
                may_pass = satisfied && !is_guard(&node);
            }
            SkipReason::Need { .. } => {
                let closed = !self.book.own_closed_gates(id).is_empty() || self.book.place_is_closed(&node);
                self.ensure(!satisfied || closed, "I2", "all its needs allow it");
            }
            SkipReason::EarlierFailure { .. } => {
                self.ensure(self.book.is_halted(), "I2", "nothing failed");
            }
            SkipReason::NotStarted => {
                let expires = self.book.node(id).and_then(|book| book.start_expires);
                let late = expires.is_some_and(|at| at <= self.event.at);
                self.ensure(late, "I5", "its start has not expired");
                self.hit("guard I5 start expired");
            }
            SkipReason::RunStopped => match node.section {
                Section::Main => {
                    self.ensure(!self.book.cancels.is_empty(), "I4", "nobody stopped the run");
                }
                Section::Finally => {
                    let stopped = self.book.finally == Finally::Stopped;
                    self.ensure(stopped, "I4", "`finally` must run");
                }
            },
            SkipReason::NothingStarted => {
                let nothing_ran = self.book.tickets.is_empty();
                let is_finally = node.section == Section::Finally;
                self.ensure(nothing_ran && is_finally, "I4", "`finally` must run");
            }
            SkipReason::NotSelected => self.ensure(false, "I2", "nobody selected nodes"),
            SkipReason::NotAdmitted { .. } | SkipReason::MergeRequestNotAdmitted { .. } => {
                self.not_admitted(&node);
            }
            SkipReason::NothingToStart { environment } => self.nothing_to_start(id, environment),
            SkipReason::NeedsPromotion => {
                let asks = matches!(node.body, Body::Promote(_) | Body::Sync(_));
                self.ensure(asks, "I2", "it is no promotion");
            }
        }
        self.ensure(
            passes == may_pass,
            "I2",
            "whether it passes its needs through is wrong",
        );
        if passes {
            self.hit("guard I2 skipped passes");
        }
        self.settle(id, Outcome::Skipped, passes);
    }

    fn cancel_began(&mut self, reason: &CancelReason) {
        self.ensure(
            self.book.cancels.is_empty(),
            "I4",
            "the run is being stopped already",
        );
        let newer = |by: &pipekeeper_model::RunId| *by > self.book.run.id();
        let (is_due, outcome) = match reason {
            CancelReason::Superseded { by } => (newer(by) && !self.is_past_gate(), Outcome::Superseded),
            CancelReason::SupersededAtGate { by, .. } => (newer(by), Outcome::Superseded),
            CancelReason::Asked => (self.asked(Ask::Cancel), Outcome::Cancelled),
            CancelReason::Expired => (
                self.event.at >= self.book.created_at + defaults::RUN,
                Outcome::TimedOut,
            ),
            CancelReason::GivenUp { .. } => (false, Outcome::Errored),
        };
        self.ensure(is_due, "I11", "nobody may stop it for this reason");
        match reason {
            CancelReason::Superseded { .. } => self.hit("guard I11 superseded"),
            CancelReason::SupersededAtGate { .. } => self.hit("guard I11 superseded at gate"),
            CancelReason::Asked => self.hit("guard I4 cancelled"),
            CancelReason::Expired | CancelReason::GivenUp { .. } => {}
        }
        self.book.cancels.push(outcome);
    }

    fn is_past_gate(&self) -> bool {
        let pairs = self.book.plan_nodes().iter().zip(&self.book.nodes);
        pairs.into_iter().any(|(node, state)| {
            matches!(node.body, Body::Approve(_))
                && (state.voided || state.settled.map(|settled| settled.outcome) == Some(Outcome::Succeeded))
        })
    }

    fn finally_began(&mut self) {
        let before = self.book.finally == Finally::Before;
        self.ensure(before, "I4", "`finally` had its time");
        self.ensure(!self.book.tickets.is_empty(), "I2", "nothing ever started");
        let mut main = self.book.plan_nodes().iter().zip(&self.book.nodes);
        let settled = main.all(|(node, state)| node.section == Section::Finally || state.settled.is_some());
        self.ensure(settled, "I2", "main entries are not settled");
    }

    fn finally_stopped(&mut self) {
        let mut nodes = self.book.plan_nodes().iter();
        let has_finally = nodes.any(|node| node.section == Section::Finally);
        let is_late = match self.book.finally {
            Finally::Open { deadline } => deadline <= self.event.at,
            Finally::Before | Finally::Stopped => false,
        };
        let asked = self.asked(Ask::Cancel) || !self.book.cancels.is_empty();
        let nothing = !has_finally || self.book.tickets.is_empty();
        self.ensure(
            nothing || is_late || asked,
            "I4",
            "`finally` is stopped for nothing",
        );
        if is_late {
            self.hit("guard I5 finally expired");
        }
    }

    fn run_finished(&mut self, outcome: Outcome) {
        let all = self.book.nodes.iter().all(|node| node.settled.is_some());
        self.ensure(all, "I4", "a node is not settled");
        let keeps = self.holds_of_run();
        self.ensure(!keeps, "I12", "it keeps locks, or its place in a line");
        let expected = self.book.roll_up();
        self.ensure(outcome == expected, "I9", "its nodes add up to another outcome");
        self.book.finished = Some(outcome);
    }
}
