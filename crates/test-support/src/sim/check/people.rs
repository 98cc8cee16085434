//! Judges what is recorded of people, gates, waits and adopted results.

use pipekeeper_model::{
    Digest, NodeId, Outcome, Timestamp,
    plan::{Body, Section, Start},
};

use super::{
    Ask,
    book::{GateBook, Settled},
    facts::Check,
};

impl Check<'_> {
    pub(super) fn adopted(&mut self, id: NodeId) {
        self.may_begin(id, false);
        let Some(node) = self.plan_node(id) else { return };
        let adoption = self
            .book
            .request
            .as_ref()
            .and_then(|request| request.adopted.as_ref());
        let known = adoption.is_some_and(|adoption| adoption.nodes.contains_key(&id));
        self.ensure(known, "I9", "there is nothing to take over");
        let is_main_work = matches!(node.body, Body::Work(_)) && node.section == Section::Main;
        self.ensure(is_main_work, "I3", "only results of main entries are taken over");
        let stands_on_old = node.needs.iter().all(|need| {
            let is_work = self
                .book
                .plan_node(*need)
                .is_some_and(|need| matches!(need.body, Body::Work(_)));
            let settled = self.book.settled(*need);
            !is_work || settled.is_some_and(|settled| settled.adopted || settled.outcome == Outcome::Skipped)
        });
        self.ensure(stands_on_old, "I9", "what it stands on was done again");
        self.set(id, |book| {
            book.settled = Some(Settled {
                outcome: Outcome::Succeeded,
                passes: false,
                adopted: true,
            });
        });
    }

    pub(super) fn looked(&mut self, id: NodeId) {
        self.ensure(self.asked(Ask::Press(id)), "I3", "nobody pressed");
        let actor = self.event.actor.clone();
        self.set(id, |book| book.looked = Some(actor));
    }

    pub(super) fn start_given(&mut self, id: NodeId) {
        self.may_go_on(id);
        self.ensure(self.asked(Ask::Press(id)), "I3", "nobody pressed");
        let Some(node) = self.plan_node(id) else { return };
        let book = self.book.node(id).cloned().unwrap_or_default();
        let waits = book.start_expires.is_some_and(|at| at > self.event.at);
        self.ensure(waits, "I3", "it does not wait for a person");
        if let Start::Confirm { by_other } = node.start {
            let is_enough = match &book.looked {
                Some(first) => !by_other || *first != self.event.actor,
                None => false,
            };
            self.ensure(is_enough, "I3", "it wants a second look");
            self.hit("guard I3 start confirmed");
        }
        self.set(id, |book| book.started_by_hand = true);
    }

    pub(super) fn gate_opened(&mut self, id: NodeId, subject: &Digest, expires: Timestamp) {
        self.may_begin(id, false);
        let Some(node) = self.plan_node(id) else { return };
        let Some(request) = self.book.request.clone() else {
            return;
        };
        let is_gate = matches!(node.body, Body::Approve(_));
        self.ensure(is_gate, "I3", "it is no gate");
        let what = format!(
            "{:?} {:?} {}",
            self.book.plan_digest, request.context.event.revision.sha, node.name
        );
        let known = self.shared.subjects.insert(subject.clone(), what.clone());
        let named = self.shared.named.insert(what.clone(), subject.clone());
        let is_same = known.is_none_or(|known| known == what) && named.is_none_or(|named| named == *subject);
        self.ensure(is_same, "I3", "the subject does not say what is approved");
        if request.adopted.is_some() {
            self.hit("guard I3 a retried run asks again");
        }
        self.set(id, |book| {
            book.gate = Some(GateBook {
                subject: subject.clone(),
                expires,
                approved_by: Default::default(),
                rejected: false,
            });
        });
    }

    pub(super) fn gate_approved(&mut self, id: NodeId, subject: &Digest) {
        self.may_go_on(id);
        let asked = self.asked(Ask::Approve(id, subject.clone()));
        self.ensure(asked, "I3", "nobody approved this subject");
        let gate = self.book.node(id).and_then(|book| book.gate.clone());
        let Some(gate) = gate else {
            return self.ensure(false, "I3", "the gate is not open");
        };
        self.ensure(
            gate.subject == *subject,
            "I3",
            "the gate asks about another subject",
        );
        self.ensure(gate.expires > self.event.at, "I3", "the gate has expired");
        let actor = self.event.actor.clone();
        let is_new = !gate.approved_by.contains(&actor);
        self.ensure(is_new, "I3", "the same person approves twice");
        self.set(id, |book| {
            if let Some(gate) = &mut book.gate {
                gate.approved_by.insert(actor);
            }
        });
    }

    pub(super) fn gate_rejected(&mut self, id: NodeId) {
        let gate = self.book.node(id).and_then(|book| book.gate.clone());
        let Some(gate) = gate else {
            return self.ensure(false, "I3", "the gate is not open");
        };
        let asked = self.asked(Ask::Reject(id, gate.subject));
        self.ensure(asked, "I3", "nobody rejected");
        self.set(id, |book| {
            if let Some(gate) = &mut book.gate {
                gate.rejected = true;
            }
        });
    }

    /// A node ended without an attempt of its own, or between two.
    pub(super) fn node_finished(&mut self, id: NodeId, outcome: Outcome) {
        let Some(node) = self.plan_node(id) else { return };
        let book = self.book.node(id).cloned().unwrap_or_default();
        let at = self.event.at;
        let is_due = match (&node.body, outcome) {
            (Body::Approve(rule), Outcome::Succeeded) => {
                let approvals = book.gate.as_ref().map_or(0, |gate| gate.approved_by.len());
                if rule.count > 1 {
                    self.hit("guard I3 two approvals");
                }
                approvals >= rule.count as usize && book.gate.as_ref().is_some_and(|gate| !gate.rejected)
            }
            (Body::Approve(_), Outcome::Rejected) => book.gate.is_some_and(|gate| gate.rejected),
            (Body::Approve(_), Outcome::TimedOut) => {
                self.hit("guard I5 gate expired");
                book.gate.is_some_and(|gate| gate.expires <= at)
            }
            (Body::Wait(_), Outcome::Succeeded) => {
                self.may_begin(id, false);
                book.wait_until.is_none_or(|until| until <= at)
            }
            (Body::Work(_), Outcome::Cancelled) => book.attempts > 0 && book.live.is_none(),
            (Body::Call(_), Outcome::Errored) => true,
            _ => false,
        };
        self.ensure(is_due, "I9", "it cannot end like this");
        self.settle(id, outcome, false);
    }
}
