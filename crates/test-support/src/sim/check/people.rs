//! Judges what is recorded of people, gates, waits and adopted results.

use std::collections::BTreeSet;

use pipekeeper_model::{
    Actor, Approver, Digest, Name, NodeId, Outcome, Timestamp,
    plan::{Body, Gate, Node, Section, Start},
};

use super::{
    Ask,
    book::{GateBook, Settled},
    facts::Check,
};
use crate::sim::{people::may_bypass, plans::before};

/// Whether a gate asks a person with these roles.
fn is_meant(rule: &Gate, person: &Name, roles: &BTreeSet<Name>) -> bool {
    rule.by.is_empty()
        || rule.by.iter().any(|approver| match approver {
            Approver::User(user) => user == person,
            Approver::Role(role) => roles.contains(role),
        })
}

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
                Some(first) => {
                    let people = &self.shared.people;
                    !by_other || people.known(first) != people.known(&self.event.actor)
                }
                None => false,
            };
            self.ensure(is_enough, "I3", "it wants a second look");
            self.hit("guard I3 start confirmed");
            if by_other {
                self.hit("guard I3 start confirmed by another");
            }
        }
        self.set(id, |book| book.started_by_hand = true);
    }

    pub(super) fn gate_opened(&mut self, id: NodeId, subject: &Digest, expires: Timestamp) {
        self.may_begin(id, false);
        let Some(node) = self.plan_node(id) else { return };
        if !self.yields(id) {
            self.has_locks(id);
        }
        let Some(request) = self.book.request.clone() else {
            return;
        };
        let is_gate = matches!(node.body, Body::Approve(_));
        self.ensure(is_gate, "I3", "it is no gate");
        self.place_is_wanted(id);
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
            book.ready = false;
            book.gate = Some(GateBook {
                subject: subject.clone(),
                expires,
                approved_by: Default::default(),
                bypassed_by: None,
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
        let Some(person) = self.decider(id) else { return };
        let is_new = !gate.approved_by.contains(&person);
        self.ensure(is_new, "I3", "the same person approves twice");
        let own = self.shared.people.known(&self.book.requester()) == Some(person.clone());
        let may = !own || self.rule(id).is_some_and(|rule| !rule.self_approval.is_refused());
        self.ensure(may, "I3", "whoever asked for the run approves it");
        self.set(id, |book| {
            if let Some(gate) = &mut book.gate {
                gate.approved_by.insert(person);
            }
        });
    }

    fn rule(&self, id: NodeId) -> Option<Gate> {
        match self.plan_node(id)?.body {
            Body::Approve(rule) => Some(rule),
            Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => None,
        }
    }

    /// The person who decides, if the gate asks them.
    fn decider(&mut self, id: NodeId) -> Option<Name> {
        let person = self.shared.people.known(&self.event.actor);
        self.ensure(person.is_some(), "I3", "nobody knows who decides");
        let (person, rule) = (person?, self.rule(id)?);
        let is_asked = self.was_said(&person, Timestamp(0), |roles| is_meant(&rule, &person, roles));
        if !rule.by.is_empty() {
            self.hit("guard I3 a rule names who decides");
        }
        self.ensure(is_asked, "I3", "the gate does not ask this person");
        Some(person)
    }

    /// Whether it was said since then that a person has such roles.
    fn was_said(&self, person: &Name, since: Timestamp, fits: impl Fn(&BTreeSet<Name>) -> bool) -> bool {
        let told = self.shared.told.get(person);
        let mut told = told.into_iter().flatten();
        told.any(|(at, roles)| *at >= since && roles.as_ref().is_some_and(&fits))
    }

    /// Of those who approved, whoever still may, by what was said since.
    fn still_may(&self, gate: NodeId, rule: &Gate, since: Timestamp) -> BTreeSet<Name> {
        let approved = self.book.node(gate).and_then(|book| book.gate.as_ref());
        let approved = approved.map(|gate| gate.approved_by.clone()).unwrap_or_default();
        let may = |person: &Name| self.was_said(person, since, |roles| is_meant(rule, person, roles));
        approved.into_iter().filter(may).collect()
    }

    /// The gates in front of a node, near or far.
    pub(super) fn gates_before(&self, node: &Node) -> Vec<NodeId> {
        let found = before(self.book.plan_nodes(), &node.needs);
        let own = self.book.gate_of_place(node);
        let found = found.into_iter().chain(own);
        found.filter(|id| self.rule(*id).is_some()).collect()
    }

    /// At a ticket: enough of those who approved may do so by what was said since the attempt was scheduled.
    pub(super) fn approvals_still_count(&mut self, id: NodeId, node: &Node) {
        let since = self.book.node(id).and_then(|book| book.scheduled_at);
        let since = since.unwrap_or(self.event.at);
        for gate in self.gates_before(node) {
            let settled = self.book.settled(gate).map(|settled| settled.outcome);
            let Some(rule) = self.rule(gate).filter(|_| settled == Some(Outcome::Succeeded)) else {
                continue;
            };
            let counting = self.still_may(gate, &rule, since).len();
            let needed = self.needed(&rule);
            let stands = counting >= needed || self.still_bypassed(gate, since);
            self.ensure(stands, "I3", "not enough of the approvals still count");
        }
    }

    pub(super) fn gate_voided(
        &mut self,
        id: NodeId,
        subject: &Digest,
        lost: &BTreeSet<Name>,
        expires: Timestamp,
    ) {
        self.may_go_on(id);
        let settled = self.book.settled(id).map(|settled| settled.outcome);
        self.ensure(settled == Some(Outcome::Succeeded), "I4", "it was not approved");
        let (Some(rule), Some(gate)) = (
            self.rule(id),
            self.book.node(id).and_then(|book| book.gate.clone()),
        ) else {
            return self.ensure(false, "I3", "it is no gate");
        };
        self.ensure(
            gate.subject == *subject,
            "I3",
            "the gate asks about another subject",
        );
        let nodes = self.book.plan_nodes().iter().zip(&self.book.nodes);
        let behind =
            nodes.filter(|(node, book)| book.live.is_some() && self.gates_before(node).contains(&id));
        let since = behind.filter_map(|(_, book)| book.scheduled_at).min();
        let since = since.unwrap_or(self.event.at);
        let may = self.still_may(id, &rule, since);
        let kept: BTreeSet<Name> = gate.approved_by.difference(lost).cloned().collect();
        self.ensure(
            kept.is_subset(&may),
            "I3",
            "an approval is kept that does not count",
        );
        let needed = self.needed(&rule);
        self.ensure(kept.len() < needed, "I3", "enough approvals still count");
        self.set(id, |book| {
            book.settled = None;
            book.voided = true;
            book.gate = Some(GateBook {
                approved_by: kept,
                bypassed_by: None,
                expires,
                ..gate
            });
        });
    }

    /// How many must agree.
    fn needed(&mut self, rule: &Gate) -> usize {
        let requester = self.book.requester();
        let is_stranger =
            matches!(requester, Actor::Forge { .. }) && self.shared.people.known(&requester).is_none();
        if is_stranger && rule.self_approval.is_refused() {
            self.hit("guard I3 two approvals for a stranger");
            rule.count.max(2) as usize
        } else {
            rule.count as usize
        }
    }

    pub(super) fn gate_bypassed(&mut self, id: NodeId, subject: &Digest, comment: Option<&str>) {
        self.may_go_on(id);
        let asked = self.asked(Ask::Bypass(id, subject.clone()));
        self.ensure(asked, "I3", "nobody bypassed this subject");
        self.ensure(comment.is_some(), "I3", "nobody knows why it is bypassed");
        let is_open = self.book.node(id).and_then(|book| book.gate.as_ref());
        let is_open = is_open.is_some_and(|gate| gate.subject == *subject && gate.expires > self.event.at);
        self.ensure(is_open, "I3", "the gate does not ask about this");
        let Some(person) = self.shared.people.known(&self.event.actor) else {
            return self.ensure(false, "I3", "nobody knows who decides");
        };
        let may = self.was_said(&person, Timestamp(0), |roles| may_bypass(&person, roles));
        self.ensure(may, "I3", "this person may not bypass gates");
        self.set(id, |book| {
            if let Some(gate) = &mut book.gate {
                gate.bypassed_by = Some(person);
            }
        });
    }

    /// Whether a gate was bypassed by somebody who may still do that, by what was said since.
    fn still_bypassed(&self, gate: NodeId, since: Timestamp) -> bool {
        let book = self.book.node(gate).and_then(|book| book.gate.as_ref());
        let person = book.and_then(|gate| gate.bypassed_by.as_ref());
        person.is_some_and(|person| self.was_said(person, since, |roles| may_bypass(person, roles)))
    }

    pub(super) fn gate_rejected(&mut self, id: NodeId, comment: Option<&str>) {
        let gate = self.book.node(id).and_then(|book| book.gate.clone());
        let Some(gate) = gate else {
            return self.ensure(false, "I3", "the gate is not open");
        };
        let asked = self.asked(Ask::Reject(id, gate.subject));
        self.ensure(asked, "I3", "nobody rejected");
        self.ensure(comment.is_some(), "I3", "nobody knows why it is rejected");
        if self.decider(id).is_none() {
            return;
        }
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
                let is_bypassed = book.gate.as_ref().is_some_and(|gate| gate.bypassed_by.is_some());
                (is_bypassed || approvals >= self.needed(rule))
                    && book.gate.as_ref().is_some_and(|gate| !gate.rejected)
            }
            (Body::Approve(_), Outcome::Rejected) => book.gate.is_some_and(|gate| gate.rejected),
            (_, Outcome::TimedOut) if self.waited_too_long(id) => {
                self.hit("guard I5 locks expired");
                book.ready
            }
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
