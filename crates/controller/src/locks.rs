//! The loop's part about locks: what all runs have and wait for, and whose turn it is. Entry type: [`Locks`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pipekeeper_engine::{Claim, ClaimId, ClaimState, Effect, Event, Fact, HoldState, Input, Run};
use pipekeeper_model::{Actor, AttemptId, Millis, RunId};

use crate::{
    AttemptNews, Controller, News,
    controller::Timer,
    outbox::{LaneKey, Performed},
    slot::{Slot, SlotState, Then},
};

/// How long until those are asked again who have a lock besides this controller's runs.
const OTHERS_PAUSE: Millis = Millis(500);

/// What is remembered between a turn and what a run makes of it.
#[derive(Default)]
pub(crate) struct Line {
    /// Locks that were given and whose runs have not stored that yet.
    given: BTreeSet<ClaimId>,
    /// Locks that were taken from others besides.
    taken: BTreeMap<ClaimId, Box<dyn Send + Sync>>,
    /// What was told of others who have some.
    told: BTreeMap<ClaimId, String>,
}

/// The claims of all active runs, as the runs are stored; cheap to clone, all clones are one. It is no truth of its own:
/// whoever starts anew reads it from the runs.
#[derive(Clone, Debug, Default)]
pub struct Locks(Arc<Mutex<BTreeMap<RunId, Vec<Claim>>>>);

impl Locks {
    /// All claims, by run.
    pub fn claims(&self) -> Vec<Claim> {
        self.all().values().flatten().cloned().collect()
    }

    /// The runs that have or want locks.
    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.all().keys().copied().collect()
    }

    /// Forgets all: what is noted then is complete once every active run was read.
    pub(crate) fn clear(&self) {
        self.all().clear();
    }

    /// Notes what a run has and wants; tells whether that is news.
    fn note(&self, run: RunId, claims: Vec<Claim>) -> bool {
        let mut all = self.all();
        let before = if claims.is_empty() {
            all.remove(&run)
        } else {
            all.insert(run, claims.clone())
        };
        before.unwrap_or_default() != claims
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<RunId, Vec<Claim>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller {
    /// Follows up what was stored of a run's locks.
    pub(crate) fn locks_changed(&mut self, run: RunId, events: &[Event]) {
        let mut settled = Vec::new();
        let mut is_news = false;
        for event in events {
            if let Fact::LocksTaken { hold } | Fact::LocksReleased { hold } = &event.fact {
                settled.push(lane(ClaimId { run, hold: *hold }));
            }
            is_news |= matches!(event.fact, Fact::LocksAwaited { .. });
        }
        if is_news || !settled.is_empty() {
            self.follow_claims(run);
            for lane in settled {
                self.perform(&lane);
            }
        }
    }

    /// Notes what a run has and wants, and gives locks to whoever's turn that makes it.
    pub(crate) fn follow_claims(&mut self, run: RunId) {
        if self.note_claims(run) {
            self.give_locks();
        }
    }

    /// Notes what a run has and wants, if it is in memory just as it is stored; a run that was set aside has nothing. Tells
    /// whether that is news.
    pub(crate) fn note_claims(&mut self, run: RunId) -> bool {
        let claims = match self.slots.get(&run).map(|slot| &slot.state) {
            Some(SlotState::Idle(loaded)) => loaded.run.claims(),
            Some(SlotState::Quarantined(_)) => Vec::new(),
            Some(
                SlotState::Absent | SlotState::Resting | SlotState::Loading | SlotState::Committing { .. },
            )
            | None => return false,
        };
        let has = |claim: &ClaimId| {
            let is_held = |known: &Claim| known.id == *claim && known.state == ClaimState::Held;
            claims.iter().any(is_held)
        };
        let given = &self.line.given;
        self.line
            .taken
            .retain(|claim, _| claim.run != run || given.contains(claim) || has(claim));
        self.tools.handle.locks.note(run, claims)
    }

    /// Takes everything that a run has and wants out of the line.
    pub(crate) fn forget_claims(&mut self, run: RunId) {
        self.line.given.retain(|claim| claim.run != run);
        self.follow_claims(run);
    }

    /// Notes what the stored form of a run has and wants, whatever is in memory of it.
    pub(crate) fn note_stored(&self, run: &Run) {
        self.tools.handle.locks.note(run.id(), run.claims());
    }

    /// Loads the runs that have or want locks and rest, or have ended as far as the store says: another server may have
    /// moved them on.
    pub(crate) fn look_at_holders(&mut self, active: &[RunId]) {
        for run in self.tools.handle.locks.runs() {
            let has_ended = !active.contains(&run);
            let slot = self.slots.entry(run).or_insert_with(Slot::absent);
            if has_ended && slot.is_stored() {
                slot.state = SlotState::Absent;
            }
            self.pump(run);
        }
        self.give_locks();
    }

    /// A run heard that it has its locks, and has stored that or refused it.
    pub(crate) fn locks_answered(&mut self, claim: ClaimId) {
        self.line.given.remove(&claim);
    }

    /// Looks whose turn it is. Locks are given by an input, and the effect is performed once its hold has stored that: so
    /// nothing that is lost in between is lost for good.
    pub(crate) fn await_locks(&mut self, claim: ClaimId) -> Performed {
        let run = self.slots.get(&claim.run).and_then(Slot::run);
        if !matches!(
            run.and_then(|run| run.hold(claim.hold)),
            Some(HoldState::Waiting { .. })
        ) {
            return Performed::Done;
        }
        self.give_locks();
        Performed::Blocked
    }

    /// Gives locks to all whose turn it is. Only the one server that performs does, so that none is given twice.
    pub(crate) fn give_locks(&mut self) {
        if !self.performs() {
            return;
        }
        let mut claims = self.tools.handle.locks.claims();
        for claim in &mut claims {
            // Also before the run has stored it.
            if self.line.given.contains(&claim.id) {
                claim.state = ClaimState::Held;
            }
        }
        for id in self.ports.rules.turns(&claims) {
            let claim = claims.iter().find(|claim| claim.id == id);
            if claim.is_some_and(|claim| self.take_from_others(claim)) && self.line.given.insert(id) {
                let input = Input::LocksGiven { hold: id.hold };
                self.queue(id.run, Actor::System, input, Then::Nothing);
            }
        }
    }

    /// Takes a claim's locks from whoever else might have them, where there is anybody.
    fn take_from_others(&mut self, claim: &Claim) -> bool {
        let Some(others) = &self.ports.outer_locks else {
            return true;
        };
        match others.take(claim) {
            Ok(taken) => {
                self.line.told.remove(&claim.id);
                self.line.taken.insert(claim.id, taken);
                true
            }
            Err(reason) => {
                let attempt = AttemptId {
                    run: claim.id.run,
                    node: claim.id.hold,
                    number: 1,
                };
                if self.line.told.insert(claim.id, reason.clone()).as_ref() != Some(&reason) {
                    let what = AttemptNews::Waiting { reason };
                    self.publish(News::Attempt { attempt, what });
                }
                let at = self.now() + OTHERS_PAUSE;
                self.arm(at, Timer::Locks);
                false
            }
        }
    }
}

fn lane(claim: ClaimId) -> LaneKey {
    (claim.run, Effect::locks_lane(claim.run, claim.hold))
}
