//! Judges what is recorded of `reuse:`: searches, and results that stand in for attempts.

use pipekeeper_engine::{AdoptedNode, Earlier};
use pipekeeper_model::{
    AttemptId, AttemptRecord, Digest, Outcome,
    plan::{Body, Node},
};

use super::{facts::Check, reference::judges_outcomes};

impl Check<'_> {
    pub(super) fn search_began(&mut self, attempt: AttemptId) {
        let id = attempt.node;
        let live = self.book.node(id).and_then(|book| book.live);
        self.ensure(live == Some(attempt), "I1", "the attempt is not alive");
        let reuses = self.plan_node(id).is_some_and(|node| reuses(&node));
        self.ensure(reuses, "I9", "its action reuses nothing");
        self.set(id, |book| book.seeks = true);
    }

    pub(super) fn inputs_known(&mut self, attempt: AttemptId, inputs: Option<&Digest>) {
        self.answers(attempt);
        if let Some(inputs) = inputs {
            self.same_inputs(attempt, inputs);
        }
        let inputs = inputs.cloned();
        self.set(attempt.node, |book| {
            book.seeks = false;
            book.inputs = inputs;
        });
    }

    /// What waits for its place, or found it, had no ticket.
    pub(super) fn queued(&mut self, attempt: AttemptId) {
        let ticketed = self.book.tickets.contains_key(&attempt);
        self.ensure(!ticketed, "I1", "it runs already");
    }

    /// An earlier result stands in: as much is asked as for a ticket, and that it is a success with these inputs.
    pub(super) fn reused(&mut self, attempt: AttemptId, inputs: &Digest, result: &AdoptedNode) {
        let id = attempt.node;
        self.answers(attempt);
        self.may_go_on(id);
        let Some(node) = self.plan_node(id) else { return };
        let settled = self.book.needs_are_settled(&node);
        let satisfied = judges_outcomes(&node) || self.book.needs_are_satisfied(&node);
        self.ensure(settled && satisfied, "I2", "a need does not allow it");
        let closed = self.book.closed_gates(id);
        self.ensure(closed.is_empty(), "I3", "a gate in front of it is not approved");
        let request = self.book.request.clone();
        let may = request.is_some_and(|request| request.earlier == Earlier::Adopt);
        self.ensure(may, "I9", "the run wants everything done");
        self.same_inputs(attempt, inputs);
        let success = self.shared.successes.get(&(inputs.clone(), result.attempt));
        let is_true = success.is_some_and(|outputs| *outputs == result.outputs);
        self.ensure(is_true, "I9", "nothing succeeded so with these inputs");
        if !self.shared.reused.insert(result.attempt) {
            self.hit("guard I9 a reused result was reused again");
        }
        self.settle(id, Outcome::Succeeded, false);
    }

    /// A success is there for later runs.
    pub(super) fn succeeded(&mut self, attempt: AttemptId, record: &AttemptRecord) {
        let inputs = self.book.node(attempt.node).and_then(|book| book.inputs.clone());
        if let Some(inputs) = inputs {
            let key = (inputs, attempt);
            self.shared.successes.insert(key, record.outputs.clone());
        }
    }

    fn answers(&mut self, attempt: AttemptId) {
        let book = self.book.node(attempt.node).cloned().unwrap_or_default();
        let asked = book.live == Some(attempt) && book.seeks;
        self.ensure(asked, "I1", "nobody looked for an earlier success");
    }

    /// Equal digests mean equal inputs, by a naive list of what a simulated action depends on.
    fn same_inputs(&mut self, attempt: AttemptId, inputs: &Digest) {
        let Some(request) = self.book.request.clone() else {
            return;
        };
        let Some(node) = self.plan_node(attempt.node) else {
            return;
        };
        let what = format!(
            "{} {} {} {:?} {:?}",
            request.project,
            request.plan.pipeline,
            node.name,
            node.body,
            request.context.event.revision.git_ref
        );
        let known = self
            .shared
            .inputs
            .entry(inputs.clone())
            .or_insert_with(|| what.clone());
        let is_same = *known == what;
        self.ensure(is_same, "I9", "the digest does not say what the inputs are");
    }
}

fn reuses(node: &Node) -> bool {
    matches!(&node.body, Body::Work(work) if work.reuse.is_some())
}
