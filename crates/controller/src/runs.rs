//! The loop's part about runs: load, decide, store, and what follows.

use std::sync::Arc;

use pipekeeper_backend::{Observation, What};
use pipekeeper_engine::{ClaimId, Effect, EffectKey, Event, Fact, Input, NodeState, Run, Seen};
use pipekeeper_model::{Actor, AttemptId, RunId, plan::Body};
use pipekeeper_store::{CommitError, StoreError, StoredRun};

use crate::{
    AttemptNews, Controller, News, SubmitError,
    controller::{STORE_PAUSE, Timer},
    job::{Done, unavailable},
    slot::{Decided, Loaded, Queued, Settled, Slot, SlotState, Then},
};

impl Controller {
    /// Does what can be done for a run at once: loads it, or decides what is queued.
    pub(crate) fn pump(&mut self, run: RunId) {
        let Some(slot) = self.slots.get_mut(&run) else {
            return;
        };
        match &slot.state {
            SlotState::Absent => {
                slot.state = SlotState::Loading;
                self.start(self.tools.load(run));
                return;
            }
            SlotState::Quarantined(reason) => {
                let reason = reason.clone();
                for queued in std::mem::take(&mut slot.queue) {
                    tell(
                        queued.then,
                        run,
                        Err(SubmitError::Quarantined {
                            run,
                            reason: reason.clone(),
                        }),
                    );
                }
                return;
            }
            SlotState::Resting | SlotState::Loading | SlotState::Committing { .. } => return,
            SlotState::Idle(_) => {}
        }
        let mut settled = self.settled.remove(&run).unwrap_or_default();
        let decided = slot.decide(self.ports.rules.as_ref(), &mut settled);
        if !settled.is_empty() {
            self.settled.insert(run, settled);
        }
        match decided {
            Some(Decided::Commit { commit, events }) => self.start(self.tools.commit(*commit, events)),
            Some(Decided::Answers(batch)) => {
                self.answer(run, batch);
                if !self.performs() {
                    self.rest(run);
                }
            }
            Some(Decided::Panicked { reason }) => self.quarantine(run, reason),
            None => {}
        }
    }

    /// The store had its pause.
    pub(crate) fn reload(&mut self, run: RunId) {
        if let Some(slot) = self.slots.get_mut(&run)
            && matches!(slot.state, SlotState::Resting)
        {
            slot.state = SlotState::Absent;
        }
        self.pump(run);
    }

    pub(crate) fn loaded(&mut self, run: RunId, result: Result<Option<Box<StoredRun>>, StoreError>) {
        let Some(slot) = self.slots.get_mut(&run) else {
            return;
        };
        let stored = match result {
            Ok(Some(stored)) => *stored,
            Ok(None) => {
                for queued in std::mem::take(&mut slot.queue) {
                    tell(queued.then, run, Err(SubmitError::NoSuchRun(run)));
                }
                self.slots.remove(&run);
                return;
            }
            Err(StoreError::Corrupt { what, reason }) => {
                return self.quarantine(run, format!("{what} cannot be read: {reason}"));
            }
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => {
                return self.store_failed(run, &error);
            }
        };
        if let Some(reason) = stored.quarantined {
            slot.state = SlotState::Quarantined(reason);
        } else {
            match restore(run, stored) {
                Ok(loaded) => slot.state = SlotState::Idle(Box::new(loaded)),
                Err(reason) => return self.quarantine(run, reason),
            }
        }
        if let SlotState::Idle(loaded) = &slot.state
            && loaded.version < slot.at_least
        {
            // A hint may be wrong, as after a failover that lost what it told of: it is believed once.
            slot.at_least = 0;
            slot.state = SlotState::Resting;
            let at = self.now() + STORE_PAUSE;
            return self.arm(at, Timer::Reload(run));
        }
        self.parked.remove(&run);
        self.next_run = self.next_run.max(run.0 + 1);
        if !self.performs() {
            self.pump(run);
            return self.rest(run);
        }
        self.observe_all([run]);
        self.note_at_work(run);
        self.follow_claims(run);
        self.pump(run);
        for lane in self.outbox.of_run(run) {
            self.perform(&lane);
        }
        self.rest(run);
    }

    pub(crate) fn committed(
        &mut self,
        (run, expected): (RunId, u64),
        events: &Arc<[Event]>,
        effects: Vec<Effect>,
        settled: Vec<EffectKey>,
        result: Result<(), CommitError>,
    ) {
        let Some(slot) = self.slots.get_mut(&run) else {
            return;
        };
        let is_its_own = matches!(&slot.state, SlotState::Committing { from, .. } if *from == expected);
        if !is_its_own {
            return;
        }
        let SlotState::Committing { loaded, batch, .. } =
            std::mem::replace(&mut slot.state, SlotState::Absent)
        else {
            return;
        };
        match result {
            Err(CommitError::Conflict { expected: 0, .. }) => self.renumber(run, batch),
            Ok(()) => {
                let version = loaded.version;
                slot.state = SlotState::Idle(loaded);
                self.publish(News::Run {
                    run,
                    version,
                    events: Arc::clone(events),
                });
                self.after(run, events, effects);
                self.answer(run, batch);
                self.pump(run);
                self.perform_waiting(run);
                self.rest(run);
            }
            // Somebody else moved it on: what is in memory is out of date, and the inputs are decided anew.
            Err(
                CommitError::Conflict { .. } | CommitError::Finished { .. } | CommitError::NotPending { .. },
            ) => {
                slot.requeue(batch);
                settled.into_iter().for_each(|key| self.settle(run, key));
                self.look_at_effects();
                self.pump(run);
            }
            Err(CommitError::Store(error)) => {
                slot.requeue(batch);
                settled.into_iter().for_each(|key| self.settle(run, key));
                self.store_failed(run, &error);
            }
        }
    }

    /// Those who wait for an answer get one now; observations and timers wait for the store.
    fn store_failed(&mut self, run: RunId, error: &StoreError) {
        tracing::warn!(run.id = %run, "the store does not work: {error}");
        if *error == StoreError::Fenced {
            self.claim();
        }
        if let Some(slot) = self.slots.get_mut(&run) {
            // Every input would ask the store again, and every load would observe again.
            slot.state = SlotState::Resting;
            let (asked, kept): (Vec<Queued>, Vec<Queued>) = std::mem::take(&mut slot.queue)
                .into_iter()
                .partition(|queued| match queued.then {
                    Then::Reply(_) | Then::Created(_) => true,
                    Then::Nothing | Then::Answer { .. } | Then::Settle(_) => false,
                });
            slot.queue = kept.into();
            slot.forget_standings();
            for queued in asked {
                tell(queued.then, run, Err(unavailable(error)));
            }
        }
        // A commit may have been stored although its reply was lost: its effects are looked for too.
        let at = self.now() + STORE_PAUSE;
        self.arm(at, Timer::Reload(run));
        self.arm(at, Timer::Sweep);
    }

    /// What follows from stored events: effects are performed, timers set, leftovers removed.
    pub(crate) fn after(&mut self, run: RunId, events: &[Event], effects: Vec<Effect>) {
        for event in events {
            if let Some(point) = point_after(&event.fact) {
                pipekeeper_failpoint::hit(point);
            }
        }
        if !self.performs() {
            return;
        }
        // An effect that is performed at once may let the run leave memory.
        let may_have_saved = events.iter().any(|event| {
            matches!(&event.fact, Fact::AttemptFinished { attempt, .. } if self.may_have_saved_caches(*attempt))
        });
        // Before effects, one of which may move the run ahead of the store at once.
        let any_claims = events.iter().any(|event| is_about_locks(&event.fact)) && self.note_claims(run);
        for event in events {
            if let Fact::AttemptFinished { attempt, .. } = &event.fact {
                self.room.leave(*attempt);
            }
        }
        for effect in effects {
            self.add_effect(run, effect);
        }
        if any_claims {
            self.give_locks();
        }
        self.locks_changed(run, events);
        if may_have_saved && let Some(job) = self.tools.trim_caches(self.now()) {
            self.start(job);
        }
        let (mut ended, mut made_room) = (false, false);
        for event in events {
            if let Fact::AttemptFinished { attempt, .. } = &event.fact {
                self.start(self.tools.forget(*attempt));
                made_room = true;
            }
            if let Fact::RunFinished { outcome, .. } = &event.fact {
                tracing::info!(run.id = %run, "the run ended: {}", outcome.as_str());
                ended = true;
            }
        }
        if ended {
            for lane in self.outbox.awaiting_turn() {
                self.perform(&lane);
            }
        }
        if made_room {
            self.made_room();
        }
    }

    fn may_have_saved_caches(&self, attempt: AttemptId) -> bool {
        let run = self.slots.get(&attempt.run).and_then(Slot::run);
        let node = run.and_then(|run| run.plan()?.node(attempt.node));
        match node.map(|node| &node.body) {
            Some(Body::Work(work)) => !work.caches.is_empty(),
            Some(Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_))
            | None => false,
        }
    }

    fn answer(&mut self, run: RunId, batch: Vec<Settled>) {
        for Settled { queued, result } in batch {
            if let Input::LocksGiven { hold } = queued.envelope.body {
                self.locks_answered(ClaimId { run, hold });
            }
            match queued.then {
                Then::Answer { attempt, holder } => {
                    if result.is_err() && self.knows_too_little(&queued.envelope.body) {
                        self.checked_in(attempt, holder);
                    } else {
                        self.answer_check_in(run, attempt, holder);
                    }
                }
                Then::Settle(key) => self.settle(run, key),
                then @ (Then::Reply(_) | Then::Created(_) | Then::Nothing) => {
                    tell(then, run, result.map_err(SubmitError::Rejected));
                }
            }
        }
    }

    /// Arms the run's timer, and lets it leave memory if nothing moves.
    pub(crate) fn rest(&mut self, run: RunId) {
        let Some(slot) = self.slots.get(&run) else { return };
        let Some(known) = slot.run() else { return };
        let SlotState::Idle(loaded) = &slot.state else {
            return;
        };
        let version = loaded.version;
        let is_quiet = slot.queue.is_empty() && self.outbox.of_run(run).is_empty();
        let (is_parked, is_finished) = (known.is_parked(), known.is_finished());
        let deadline = known.next_deadline().map(|(at, _)| at);
        if !self.performs() {
            // Others move it on: the next to ask loads it anew.
            if is_quiet {
                self.slots.remove(&run);
            }
            return;
        }
        if is_quiet && (is_parked || is_finished) {
            self.slots.remove(&run);
            if !is_finished {
                self.parked.insert(run, version);
            }
        }
        if self.run_timers.get(&run).copied() != deadline {
            if let Some(at) = self.run_timers.remove(&run) {
                self.timers.remove(&(at, Timer::Run(run)));
            }
            if let Some(at) = deadline {
                self.run_timers.insert(run, at);
                self.arm(at, Timer::Run(run));
            }
        }
    }

    fn quarantine(&mut self, run: RunId, reason: String) {
        tracing::error!(run.id = %run, "the run is set aside: {reason}");
        if let Some(slot) = self.slots.get_mut(&run) {
            slot.state = SlotState::Quarantined(reason.clone());
        }
        self.forget_claims(run);
        self.leave_ended(run);
        let store = Arc::clone(&self.ports.store);
        let kept = reason.clone();
        self.start(Box::pin(async move {
            if let Err(error) = store.quarantine(run, kept).await {
                tracing::error!(run.id = %run, "cannot note the quarantine: {error}");
            }
            Done::Quiet
        }));
        self.pump(run);
    }

    pub(crate) fn seen(&mut self, observation: Observation) {
        if !self.performs() {
            return;
        }
        let attempt = observation.attempt;
        let run = attempt.run;
        let tell = |what| self.publish(News::Attempt { attempt, what });
        match observation.what {
            What::Waiting { reason } => {
                self.tools.handle.obstacles.note(attempt, reason.clone());
                tell(AttemptNews::Waiting { reason });
            }
            What::StepStarted { step } => tell(AttemptNews::StepStarted { step }),
            What::LogGrew { bytes } => {
                pipekeeper_failpoint::hit("log_grew");
                tell(AttemptNews::LogGrew { bytes });
            }
            What::Silent { seconds, processes } => tell(AttemptNews::Silent { seconds, processes }),
            What::Held { until } => {
                self.tools.handle.held.note(attempt, until);
                if until.is_none() {
                    self.made_room();
                }
            }
            What::CheckedIn { holder } => {
                self.tools.handle.obstacles.clear(attempt);
                pipekeeper_failpoint::hit("ticket_asked");
                self.checked_in(attempt, holder);
            }
            What::Finished { holder, record } => {
                self.tools.handle.obstacles.clear(attempt);
                pipekeeper_failpoint::hit("end_seen");
                let seen = Seen::Finished { holder, record };
                self.queue(
                    run,
                    Actor::System,
                    Input::AttemptObserved { attempt, seen },
                    Then::Nothing,
                );
            }
            What::Hopeless { reason } => {
                self.tools.handle.obstacles.clear(attempt);
                let seen = Seen::Hopeless { reason };
                self.queue(
                    run,
                    Actor::System,
                    Input::AttemptObserved { attempt, seen },
                    Then::Nothing,
                );
            }
            What::Gone { reason } => {
                self.tools.handle.obstacles.clear(attempt);
                let seen = Seen::Gone { reason };
                self.queue(
                    run,
                    Actor::System,
                    Input::AttemptObserved { attempt, seen },
                    Then::Nothing,
                );
            }
        }
    }
}

/// The attempts of a run in memory that have not ended.
pub(crate) fn live_attempts(slot: &Slot) -> Vec<AttemptId> {
    let live = |state: &NodeState| match state {
        NodeState::Running(live) => Some(live.attempt),
        NodeState::Waiting
        | NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Deciding(_)
        | NodeState::Ready { .. }
        | NodeState::Backoff { .. }
        | NodeState::Done(_)
        | NodeState::Skipped { .. } => None,
    };
    slot.run()
        .map(|run| run.nodes().iter().filter_map(live).collect())
        .unwrap_or_default()
}

/// Whether a fact changes what a run has or wants of locks.
fn is_about_locks(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::LocksAwaited { .. } | Fact::LocksTaken { .. } | Fact::LocksReleased { .. }
    )
}

/// The failpoint right after a fact is stored.
fn point_after(fact: &Fact) -> Option<&'static str> {
    match fact {
        Fact::RunCreated { .. } => Some("run_created"),
        Fact::TicketGranted { .. } => Some("ticket_granted"),
        Fact::AttemptFinished { .. } => Some("end_committed"),
        Fact::GateOpened { .. } => Some("gate_opened"),
        Fact::GateApproved { .. } => Some("approved"),
        Fact::CancelBegan { .. } => Some("cancelled"),
        Fact::RunFinished { .. } => Some("run_finished"),
        Fact::TurnAwaited
        | Fact::TurnCame
        | Fact::NodeReadied { .. }
        | Fact::NodeSkipped { .. }
        | Fact::NodeAdopted { .. }
        | Fact::StartAwaited { .. }
        | Fact::StartLooked { .. }
        | Fact::StartGiven { .. }
        | Fact::WaitBegan { .. }
        | Fact::GateRejected { .. }
        | Fact::GateBypassed { .. }
        | Fact::GateVoided { .. }
        | Fact::AttemptScheduled { .. }
        | Fact::SearchBegan { .. }
        | Fact::InputsKnown { .. }
        | Fact::LaunchHeldUp { .. }
        | Fact::LaunchWentOn { .. }
        | Fact::NodeReused { .. }
        | Fact::StopAsked { .. }
        | Fact::NodeFinished { .. }
        | Fact::RunHalted { .. }
        | Fact::LocksAwaited { .. }
        | Fact::LocksTaken { .. }
        | Fact::LocksReleased { .. }
        | Fact::FinallyBegan { .. }
        | Fact::FinallyStopped => None,
    }
}

/// Folds what is stored of a run.
pub(crate) fn restore(id: RunId, stored: StoredRun) -> Result<Loaded, String> {
    let tail = u64::try_from(stored.tail.len()).unwrap_or(u64::MAX);
    let snapshot_at = stored.version.saturating_sub(tail);
    let start = stored.snapshot.map_or_else(|| Run::new(id), Run::from);
    let run = pipekeeper_engine::replay(start, &stored.tail).map_err(|error| error.to_string())?;
    Ok(Loaded {
        run,
        version: stored.version,
        snapshot_at,
    })
}

/// Tells whoever waits for an input's answer.
fn tell(then: Then, run: RunId, result: Result<(), SubmitError>) {
    // Whoever asked may have gone.
    match then {
        Then::Reply(reply) => drop(reply.send(result)),
        Then::Created(reply) => drop(reply.send(result.map(|()| run))),
        Then::Nothing | Then::Answer { .. } | Then::Settle(_) => {}
    }
}
