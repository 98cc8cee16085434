//! Judges what is recorded of attempts: places, tickets, records, tries.

use pipekeeper_engine::Next;
use pipekeeper_model::{AttemptId, AttemptOutcome, AttemptRecord, Holder, Outcome, plan::Body};

use super::{book::Finally, facts::Check, reference::judges_outcomes};

/// How often an attempt that never had its ticket is made again.
const FREE_TRIES: u32 = 5;

impl Check<'_> {
    pub(super) fn attempt_scheduled(&mut self, attempt: AttemptId) {
        let id = attempt.node;
        self.may_go_on(id);
        let Some(node) = self.plan_node(id) else { return };
        let book = self.book.node(id).cloned().unwrap_or_default();
        self.ensure(book.ready && book.live.is_none(), "I2", "the node is not ready");
        self.ensure(
            attempt.number == book.attempts + 1,
            "I1",
            "it is not the next number",
        );
        self.ensure(matches!(node.body, Body::Work(_)), "I2", "only work has attempts");
        self.has_locks(id);
        let places = self
            .book
            .request
            .as_ref()
            .and_then(|request| request.plan.max_parallel);
        if let Some(places) = places {
            let taken = self.book.live();
            self.ensure(taken < places as usize, "I11", "all places are taken");
            if taken + 1 == places as usize {
                self.hit("guard I11 all places taken");
            }
        }
        self.ensure(book.paid < node.retry.attempts, "I11", "its tries are used up");
        self.ensure(book.free <= FREE_TRIES, "I11", "its free tries are used up");
        if book.paid > 0 {
            self.hit("guard I11 tried again");
        }
        if book.free == FREE_TRIES {
            self.hit("guard I11 last free try");
        }
        let at = self.event.at;
        self.set(id, |book| {
            book.ready = false;
            book.live = Some(attempt);
            book.scheduled_at = Some(at);
            book.stopping = None;
            book.seeks = false;
            book.inputs = None;
            book.attempts = attempt.number;
        });
    }

    pub(super) fn ticket_granted(&mut self, attempt: AttemptId, holder: &Holder) {
        let id = attempt.node;
        self.may_go_on(id);
        let is_first = !self.book.tickets.contains_key(&attempt);
        self.ensure(is_first, "I1", "the attempt has a ticket already");
        let live = self.book.node(id).and_then(|book| book.live);
        self.ensure(live == Some(attempt), "I1", "the attempt is not alive");
        let seeks = self.book.node(id).is_some_and(|book| book.seeks);
        self.ensure(!seeks, "I1", "it was not launched");
        let Some(node) = self.plan_node(id) else { return };
        let settled = self.book.needs_are_settled(&node);
        let satisfied = judges_outcomes(&node) || self.book.needs_are_satisfied(&node);
        self.ensure(settled && satisfied, "I2", "a need does not allow it");
        self.place_lets_start(&node);
        if let Finally::Open { deadline } = self.book.finally {
            self.ensure(deadline > self.event.at, "I5", "the time of `finally` is over");
        } else {
            let closed = self.book.closed_gates(id);
            self.ensure(closed.is_empty(), "I3", "a gate in front of it is not approved");
            self.approvals_still_count(id, &node);
            if node.needs.iter().any(|need| {
                self.book
                    .plan_node(*need)
                    .is_some_and(|need| matches!(need.body, Body::Approve(_)))
            }) {
                self.hit("guard I3 ticket behind a gate");
            }
        }
        self.has_locks(id);
        self.book.tickets.insert(attempt, holder.clone());
        if let Some(room) = self.shared.room {
            let taken = self.shared.at_work.len();
            self.ensure(taken < room.get(), "I11", "there is no room for it");
            if taken + 1 == room.get() {
                self.hit("guard I11 no room is left");
            }
            self.shared.at_work.insert(attempt);
        }
    }

    pub(super) fn attempt_finished(&mut self, attempt: AttemptId, record: &AttemptRecord, next: Next) {
        let id = attempt.node;
        self.shared.at_work.remove(&attempt);
        let book = self.book.node(id).cloned().unwrap_or_default();
        self.ensure(book.live == Some(attempt), "I1", "the attempt is not alive");
        let holder = self.book.tickets.get(&attempt).cloned();
        let lived = self.shared.lived.get(&attempt).cloned().unwrap_or_default();
        let is_true = match record.outcome {
            AttemptOutcome::Succeeded | AttemptOutcome::Failed => holder
                .as_ref()
                .is_some_and(|holder| lived.records.contains(&(holder.clone(), record.outcome))),
            AttemptOutcome::TimedOut
            | AttemptOutcome::Cancelled
            | AttemptOutcome::Errored
            | AttemptOutcome::Lost => true,
        };
        self.ensure(is_true, "I9", "the ticketed supervisor recorded no such end");
        match next {
            Next::Settled { outcome } => {
                if outcome == Outcome::Succeeded {
                    let recorded = record.outcome == AttemptOutcome::Succeeded;
                    self.ensure(recorded, "I9", "success without a record of it");
                    self.hit("guard I9 success recorded");
                    self.succeeded(attempt, record);
                }
                self.settle(id, outcome, false);
            }
            Next::Retried { paid, .. } => {
                self.ensure(paid == holder.is_some(), "I11", "who pays for the try is wrong");
                self.set(id, |book| {
                    book.live = None;
                    book.paid += u32::from(paid);
                    book.free += u32::from(!paid);
                });
            }
            Next::Withdrawn => {
                self.hit("guard I3 an attempt is withdrawn");
                self.ensure(holder.is_none(), "I1", "it has its ticket");
                let Some(node) = self.plan_node(id) else { return };
                let closed = self.gates_before(&node).into_iter().any(|gate| {
                    let settled = self.book.settled(gate);
                    settled.map(|settled| settled.outcome) != Some(Outcome::Succeeded)
                });
                let shut = self.book.is_shut(&node, self.event.at);
                if shut {
                    self.hit("guard I3 a window took an attempt back");
                }
                let stopped = self.book.is_halted() && !judges_outcomes(&node);
                let reason = "nothing is in front of it";
                self.ensure(closed || shut || stopped, "I3", reason);
                self.set(id, |book| {
                    book.live = None;
                    book.waits_again = true;
                    book.start_expires = None;
                    book.looked = None;
                    book.started_by_hand = false;
                    book.wait_until = None;
                    book.window_until = None;
                });
            }
        }
    }
}
