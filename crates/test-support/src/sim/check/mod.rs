//! The checker: it hears of everything that is stored and of everything that happens in the world, judges each fact by
//! a naive model of its own, and never asks the engine what is right. Entry type: [`Ledger`].

mod attempts;
mod book;
mod environments;
mod facts;
mod locks;
mod people;
mod reference;
mod rest;
mod reuse;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    num::NonZeroUsize,
};

use pipekeeper_engine::{Run, Standing, evolve, replay};
use pipekeeper_model::{
    Actor, AttemptId, AttemptOutcome, Digest, Holder, Name, NodeId, OutputValue, RunId, Timestamp,
};
use pipekeeper_store::{Commit, DeliveryId, DeliveryOutcome, StoredRun};

pub(crate) use book::Book;
use facts::Check;

use super::{Violation, intake::CANARY, people::People};

/// What people asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ask {
    Approve(NodeId, Digest),
    Reject(NodeId, Digest),
    Bypass(NodeId, Digest),
    Press(NodeId),
    Cancel,
}

/// What happened in the world to an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lived {
    pub(crate) starts: Vec<Holder>,
    pub(crate) records: Vec<(Holder, AttemptOutcome)>,
}

/// The roles that somebody was said to have; none if they were gone.
pub(crate) type Told = Option<BTreeSet<Name>>;

/// Everything that the checker knows besides the runs' books.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) people: People,
    /// What was said of each person, and when.
    pub(crate) told: BTreeMap<Name, Vec<(Timestamp, Told)>>,
    pub(crate) asked: BTreeSet<(RunId, Actor, Ask)>,
    pub(crate) lived: BTreeMap<AttemptId, Lived>,
    pub(crate) subjects: BTreeMap<Digest, String>,
    pub(crate) named: BTreeMap<String, Digest>,
    pub(crate) active: BTreeMap<RunId, Option<String>>,
    /// What stands for each digest of inputs, and what succeeded with them.
    pub(crate) inputs: BTreeMap<Digest, String>,
    pub(crate) successes: BTreeMap<(Digest, AttemptId), BTreeMap<String, OutputValue>>,
    pub(crate) reused: BTreeSet<AttemptId>,
    /// How many may have a ticket at once, and who has.
    pub(crate) room: Option<NonZeroUsize>,
    pub(crate) at_work: BTreeSet<AttemptId>,
    /// Who has locks or waits for some.
    pub(crate) holds: BTreeMap<(RunId, NodeId), locks::HoldBook>,
}

/// The checker.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) books: BTreeMap<RunId, Book>,
    pub(crate) shared: Shared,
    pub(crate) settled: BTreeMap<DeliveryId, DeliveryOutcome>,
    /// The pushes that were delivered.
    pub(crate) delivered: BTreeSet<u64>,
    pushed: BTreeMap<String, RunId>,
    violation: Option<Violation>,
    hits: Vec<&'static str>,
}

impl Ledger {
    /// An empty book in a world of these people, with so much room.
    pub(crate) fn new(people: People, room: Option<NonZeroUsize>) -> Self {
        let shared = Shared {
            people,
            room,
            ..Shared::default()
        };
        Self {
            shared,
            ..Self::default()
        }
    }

    /// What was found since the last time.
    pub(crate) fn take_findings(&mut self) -> (Option<Violation>, Vec<&'static str>) {
        (self.violation.take(), std::mem::take(&mut self.hits))
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, text: String) {
        self.violation.get_or_insert(Violation { invariant, text });
    }

    /// A person is about to ask for something.
    pub(crate) fn asks(&mut self, run: RunId, actor: &Actor, ask: Ask) {
        self.shared.asked.insert((run, actor.clone(), ask));
    }

    /// Where somebody stands in a run now, who is about to decide.
    pub(crate) fn decider(&mut self, run: RunId, actor: &Actor, at: Timestamp) -> Option<Standing> {
        let requester = self.books.get(&run)?.requester();
        let person = self.shared.people.known(actor)?;
        self.tell(&person, &requester, at)
    }

    /// Tells where somebody stands now in what this actor asked for.
    pub(crate) fn tell(&mut self, person: &Name, requester: &Actor, at: Timestamp) -> Option<Standing> {
        let roles = self.shared.people.roles(person, at);
        self.shared
            .told
            .entry(person.clone())
            .or_default()
            .push((at, roles));
        self.shared.people.standing(person, requester, at)
    }

    /// User code starts.
    pub(crate) fn started(&mut self, attempt: AttemptId, holder: &Holder) {
        let granted = self
            .books
            .get(&attempt.run)
            .and_then(|book| book.tickets.get(&attempt));
        if granted != Some(holder) {
            let text = format!("{attempt}: user code of {holder} starts, the ticket is {granted:?}");
            self.violate("I1", text);
        }
        let lived = self.shared.lived.entry(attempt).or_default();
        lived.starts.push(holder.clone());
        if lived.starts.len() > 1 {
            let text = format!("{attempt}: user code starts {} times", lived.starts.len());
            self.violate("I1", text);
        }
    }

    /// A supervisor that ran user code leaves its record.
    pub(crate) fn recorded(&mut self, attempt: AttemptId, holder: &Holder, outcome: AttemptOutcome) {
        let lived = self.shared.lived.entry(attempt).or_default();
        lived.records.push((holder.clone(), outcome));
    }

    /// A commit landed.
    pub(crate) fn committed(&mut self, commit: &Commit) {
        let id = commit.summary.id;
        let mut book = match self.books.remove(&id) {
            Some(book) => book,
            None => Book::new(id),
        };
        self.keeps_secrets(&commit.events);
        self.keeps_secrets(&commit.effects);
        for event in &commit.events {
            let mut check = Check {
                shared: &mut self.shared,
                book: &mut book,
                event,
                violation: None,
                hits: &mut self.hits,
            };
            check.fact();
            let violation = check.violation;
            if self.violation.is_none() {
                self.violation = violation;
            }
            evolve(&mut book.run, event);
            book.events.push(event.clone());
            if let Some(state) = event.fact.node().and_then(|node| book.run.node(node)) {
                self.hits.push(facts::state_name(state));
            }
        }
        if let Some(snapshot) = &commit.snapshot
            && Run::from(snapshot.clone()) != book.run
        {
            self.violate(
                "I6",
                format!("run {id}: the snapshot is not the fold of its events"),
            );
        }
        if book.finished.is_some() {
            self.shared.active.remove(&id);
            match replay(Run::new(id), &book.events) {
                Ok(again) if again == book.run => self.hits.push("guard I6 replayed"),
                Ok(_) | Err(_) => self.violate("I6", format!("run {id}: a replay gives another run")),
            }
        } else if let Some(request) = &book.request {
            let group = request.group.as_ref().map(|group| group.key.clone());
            self.shared.active.insert(id, group);
        }
        self.books.insert(id, book);
    }

    /// I10: what goes anywhere but to a supervisor holds no secret.
    pub(crate) fn keeps_secrets(&mut self, what: &impl Debug) {
        let text = format!("{what:?}");
        if text.contains(CANARY) {
            self.violate("I10", format!("a secret is in {text}"));
        }
    }

    /// A run was read back.
    pub(crate) fn loaded(&mut self, run: RunId, stored: Option<&StoredRun>) {
        let (Some(stored), Some(book)) = (stored, self.books.get(&run)) else {
            return;
        };
        let start = match &stored.snapshot {
            Some(snapshot) => Run::from(snapshot.clone()),
            None => Run::new(run),
        };
        if stored.snapshot.is_some() {
            self.hits.push("guard I6 snapshot loaded");
        }
        let same = replay(start, &stored.tail).is_ok_and(|again| again == book.run);
        if !same {
            self.violate("I6", format!("run {run}: snapshot and tail give another run"));
        }
    }

    /// A run was set aside: no plan of a simulation deserves that.
    pub(crate) fn quarantined(&mut self, run: RunId, reason: &str) {
        self.violate("engine", format!("run {run} is quarantined: {reason}"));
    }

    /// A delivery was settled together with some commits.
    pub(crate) fn settled_delivery(&mut self, commits: &[Commit]) {
        let mut told = None;
        for settlement in commits.iter().filter_map(|commit| commit.delivery.as_ref()) {
            told = Some(settlement.outcome.clone());
            let before = self
                .settled
                .insert(settlement.delivery, settlement.outcome.clone());
            if before.is_some() {
                let text = format!("delivery {} is settled again", settlement.delivery.0);
                self.violate("delivery", text);
            }
        }
        if let Some(DeliveryOutcome::Ran { runs, .. }) = &told {
            self.hits.push("guard delivery ran");
            let missing: Vec<&RunId> = runs.iter().filter(|run| !self.books.contains_key(run)).collect();
            if !missing.is_empty() {
                let text = format!("a delivery is settled with runs that are not there: {missing:?}");
                self.violate("delivery", text);
            }
        }
        for commit in commits {
            let from_push = matches!(commit.summary.actor, Actor::Forge { .. }) && commit.expected == 0;
            if !from_push {
                continue;
            }
            let id = commit.summary.id;
            let is_told = matches!(&told, Some(DeliveryOutcome::Ran { runs, .. }) if runs.contains(&id));
            if !is_told {
                self.violate(
                    "delivery",
                    format!("run {id} is of a delivery that does not know it"),
                );
            }
            if let Some(other) = self.pushed.insert(commit.summary.subject.clone(), id) {
                let text = format!("`{}` made run {other} and run {id}", commit.summary.subject);
                self.violate("delivery", text);
            }
        }
    }
}
