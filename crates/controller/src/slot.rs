//! One run in memory: inputs queue up while a commit is under way and are decided together when it is done.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use pipekeeper_engine::{
    Effect, EffectKey, Envelope, Event, Input, Rejection, Run, Snapshot, TicketAnswer, ticket_answer,
};
use pipekeeper_model::{AttemptId, Holder, RunId};
use pipekeeper_store::{Commit, DeliverySettlement};
use tokio::sync::oneshot;

use crate::{Rules, SubmitError, summary::summarise};

/// A snapshot is saved once so many events came after the last one.
const SNAPSHOT_EVERY: u64 = 100;

/// An input with what is to be done once it is decided and stored.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) envelope: Envelope<Input>,
    pub(crate) then: Then,
}

/// What follows when an input's consequences are stored.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing.
    Nothing,
    /// Somebody is told.
    Reply(oneshot::Sender<Result<(), SubmitError>>),
    /// Somebody is told the new run's number.
    Created(oneshot::Sender<Result<RunId, SubmitError>>),
    /// A supervisor is told.
    Answer { attempt: AttemptId, holder: Holder },
    /// An effect is settled.
    Settle(EffectKey),
}

impl Then {
    /// Whether somebody waits for it: then it may not be left out.
    pub(crate) fn is_owed(&self) -> bool {
        match self {
            Self::Reply(_) | Self::Created(_) | Self::Settle(_) => true,
            Self::Nothing | Self::Answer { .. } => false,
        }
    }
}

/// A run in memory.
pub(crate) struct Slot {
    pub(crate) state: SlotState,
    /// How many events the run has at least, as another server told.
    pub(crate) at_least: u64,
    pub(crate) queue: VecDeque<Queued>,
}

pub(crate) enum SlotState {
    /// Not in memory.
    Absent,
    /// Not in memory, and not asked for before the store had its pause.
    Resting,
    /// On its way into memory.
    Loading,
    /// In memory, as stored.
    Idle(Box<Loaded>),
    /// In memory, ahead of the store by a commit that is under way.
    Committing {
        loaded: Box<Loaded>,
        batch: Vec<Settled>,
        /// How many events of it are stored.
        from: u64,
    },
    /// Set aside.
    Quarantined(String),
}

/// A run with its number of events.
pub(crate) struct Loaded {
    pub(crate) run: Run,
    pub(crate) version: u64,
    pub(crate) snapshot_at: u64,
}

/// A decided input and its answer.
pub(crate) struct Settled {
    pub(crate) queued: Queued,
    pub(crate) result: Result<(), Rejection>,
}

/// What deciding the queue led to.
pub(crate) enum Decided {
    /// Something to store.
    Commit {
        commit: Box<Commit>,
        events: Arc<[Event]>,
    },
    /// Nothing to store; these are answered at once.
    Answers(Vec<Settled>),
    /// The rules failed on this run's data.
    Panicked { reason: String },
}

impl Slot {
    pub(crate) fn absent() -> Self {
        Self {
            state: SlotState::Absent,
            at_least: 0,
            queue: VecDeque::new(),
        }
    }

    /// A run that is not made yet.
    pub(crate) fn new(run: RunId) -> Self {
        Self::with(Loaded {
            run: Run::new(run),
            version: 0,
            snapshot_at: 0,
        })
    }

    pub(crate) fn with(loaded: Loaded) -> Self {
        Self {
            state: SlotState::Idle(Box::new(loaded)),
            at_least: 0,
            queue: VecDeque::new(),
        }
    }

    /// The run, if it is in memory; it may be ahead of the store. One that is being made is none yet: another server's may
    /// get its number.
    pub(crate) fn run(&self) -> Option<&Run> {
        match &self.state {
            SlotState::Committing { from: 0, .. } => None,
            SlotState::Idle(loaded) | SlotState::Committing { loaded, .. } => Some(&loaded.run),
            SlotState::Absent | SlotState::Resting | SlotState::Loading | SlotState::Quarantined(_) => None,
        }
    }

    /// Whether the run is in memory just as it is stored.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.state, SlotState::Idle(_))
    }

    /// Decides everything that is queued, if the run is in memory and nothing is under way.
    pub(crate) fn decide(&mut self, rules: &dyn Rules, settled: &mut BTreeSet<EffectKey>) -> Option<Decided> {
        if self.queue.is_empty() || !matches!(self.state, SlotState::Idle(_)) {
            return None;
        }
        let SlotState::Idle(mut loaded) = std::mem::replace(&mut self.state, SlotState::Absent) else {
            return None;
        };
        let mut batch = Vec::with_capacity(self.queue.len());
        let (mut events, mut effects) = (Vec::new(), Vec::new());
        while let Some(queued) = self.queue.pop_front() {
            // A run whose data makes the rules fail must not take the others with it.
            let decided = catch_unwind(AssertUnwindSafe(|| {
                let decision = rules.decide(&loaded.run, &queued.envelope)?;
                for event in &decision.events {
                    pipekeeper_engine::evolve(&mut loaded.run, event);
                }
                Ok(decision)
            }));
            let result = match decided {
                Ok(Ok(decision)) => {
                    events.extend(decision.events);
                    effects.extend(decision.effects);
                    Ok(())
                }
                Ok(Err(rejection)) => Err(rejection),
                Err(panic) => {
                    self.queue.push_front(queued);
                    return Some(Decided::Panicked {
                        reason: panic_text(panic.as_ref()),
                    });
                }
            };
            batch.push(Settled { queued, result });
        }
        if events.is_empty() {
            self.state = SlotState::Idle(loaded);
            return Some(Decided::Answers(batch));
        }
        let from = loaded.version;
        let commit = commit(&mut loaded, events.clone(), effects, std::mem::take(settled));
        let events = Arc::from(events);
        self.state = SlotState::Committing { loaded, batch, from };
        commit.map(|commit| Decided::Commit {
            commit: Box::new(commit),
            events,
        })
    }

    /// Queues an input, unless the same one waits already and nobody wants an answer to each.
    pub(crate) fn add(&mut self, queued: Queued) {
        let repeats = |known: &Queued| !known.then.is_owed() && known.envelope.body == queued.envelope.body;
        if queued.then.is_owed() || !self.queue.iter().any(repeats) {
            self.queue.push_back(queued);
        }
    }

    /// Puts a batch that was not stored back in front of the queue, to be decided anew.
    pub(crate) fn requeue(&mut self, batch: Vec<Settled>) {
        for settled in batch.into_iter().rev() {
            self.queue.push_front(settled.queued);
        }
        self.forget_standings();
    }

    /// What was not stored is decided later: where people stand then is asked then.
    pub(crate) fn forget_standings(&mut self) {
        for queued in &mut self.queue {
            if let Input::TicketAsked { standings, .. } = &mut queued.envelope.body {
                standings.clear();
            }
        }
    }
}

/// The transaction for some new events of a run that was folded already.
pub(crate) fn commit(
    loaded: &mut Loaded,
    events: Vec<Event>,
    effects: Vec<Effect>,
    settled: BTreeSet<EffectKey>,
) -> Option<Commit> {
    let expected = loaded.version;
    loaded.version += u64::try_from(events.len()).unwrap_or(u64::MAX);
    let rests = loaded.run.is_finished() || loaded.run.is_parked();
    let is_due = loaded.version - loaded.snapshot_at >= SNAPSHOT_EVERY
        || (rests && loaded.version - loaded.snapshot_at > 8);
    let snapshot = is_due.then(|| Snapshot::from(&loaded.run));
    if is_due {
        loaded.snapshot_at = loaded.version;
    }
    Some(Commit {
        summary: summarise(&loaded.run)?,
        expected,
        events,
        snapshot,
        effects,
        settled: settled.into_iter().collect(),
        delivery: None::<DeliverySettlement>,
    })
}

/// The answer to a check-in, by the run as stored.
pub(crate) fn answer(slot: &Slot, attempt: AttemptId, holder: &Holder) -> TicketAnswer {
    slot.run()
        .map_or(TicketAnswer::Exit, |run| ticket_answer(run, attempt, holder))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the rules failed".to_owned())
}
