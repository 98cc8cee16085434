//! The loop's part about other servers of its store: what they stored is heard of, loaded and taken in hand.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_engine::{Event, Fact};
use pipekeeper_model::RunId;
use pipekeeper_store::{Hint, StoreError, StoredEffect};

use crate::{
    Controller, News,
    controller::{STORE_PAUSE, Timer},
    job::{Done, Job},
    runs::live_attempts,
    slot::{Queued, Slot, SlotState},
};

/// Effects that are looked for at once.
const PAGE: u32 = 500;

impl Controller {
    /// Another server stored something.
    pub(crate) fn hinted(&mut self, hint: Hint) {
        match hint {
            Hint::Delivery => self.look_for_deliveries(),
            Hint::Run { run, version, added } => {
                self.next_run = self.next_run.max(run.0 + 1);
                self.retell(run, version, added);
                if self.performs() {
                    self.moved_on(run, version);
                    self.catch_up();
                }
            }
            Hint::Missed if self.performs() => {
                let store = Arc::clone(&self.ports.store);
                self.start(Box::pin(async move {
                    Done::Listed {
                        result: store.active().await,
                    }
                }));
                self.catch_up();
                self.look_for_deliveries();
            }
            Hint::Missed => {}
        }
    }

    pub(crate) fn listed(&mut self, result: Result<Vec<(RunId, u64)>, StoreError>) {
        match result {
            Ok(active) => active
                .into_iter()
                .for_each(|(run, version)| self.moved_on(run, version)),
            Err(error) => tracing::warn!("cannot look at what others did: {error}"),
        }
    }

    /// A run has so many events now: what is in memory may be behind.
    fn moved_on(&mut self, run: RunId, version: u64) {
        if self.parked.get(&run).is_some_and(|known| *known >= version) {
            return;
        }
        let slot = self.slots.entry(run).or_insert_with(Slot::absent);
        slot.at_least = slot.at_least.max(version);
        match &slot.state {
            SlotState::Idle(loaded) if loaded.version < version => slot.state = SlotState::Absent,
            // One that commits on what is out of date hears of it.
            SlotState::Absent
            | SlotState::Idle(_)
            | SlotState::Resting
            | SlotState::Loading
            | SlotState::Committing { .. }
            | SlotState::Quarantined(_) => {}
        }
        self.pump(run);
    }

    /// Tells listeners here what happened there. The one who performs counts what it tells.
    fn retell(&self, run: RunId, version: u64, added: u64) {
        if !self.performs() {
            let events = Arc::new([]);
            return self.publish(News::Run { run, version, events });
        }
        let (store, news) = (Arc::clone(&self.ports.store), self.tools.handle.news.clone());
        self.start(Box::pin(async move {
            let limit = u32::try_from(added).unwrap_or(u32::MAX);
            match store.events(run, version.saturating_sub(added), limit).await {
                Ok(events) => {
                    let events: Arc<[Event]> = events.into_iter().map(|(_, event)| event).collect();
                    let ends = |event: &Event| matches!(event.fact, Fact::AttemptFinished { .. });
                    let any_ended = events.iter().any(ends);
                    // Nobody listening is no failure.
                    let _ = news.send(News::Run { run, version, events });
                    if any_ended {
                        // What is left of it is removed here alone.
                        return Done::LeftOver;
                    }
                }
                Err(error) => tracing::warn!(run.id = %run, "cannot tell of the run: {error}"),
            }
            Done::Quiet
        }));
    }

    /// Looks for effects that others stored.
    pub(crate) fn catch_up(&mut self) {
        if !self.performs() {
            return;
        }
        if self.duty.catching_up {
            self.duty.catch_up_again = true;
            return;
        }
        self.duty.catching_up = true;
        let (store, after) = (Arc::clone(&self.ports.store), self.duty.seen_effect);
        let unobserved = std::mem::take(&mut self.duty.unobserved);
        self.start(Box::pin(async move {
            Done::CaughtUp {
                unobserved,
                result: store.effects(after, PAGE).await,
            }
        }));
    }

    pub(crate) fn caught_up(
        &mut self,
        unobserved: BTreeSet<RunId>,
        result: Result<Vec<StoredEffect>, StoreError>,
    ) {
        self.duty.catching_up = false;
        let again = std::mem::take(&mut self.duty.catch_up_again);
        match result {
            Ok(found) => {
                let more = found.len() >= PAGE as usize;
                for stored in found {
                    self.duty.seen_effect = Some(stored.sequence);
                    self.take_in_hand(stored);
                }
                if more {
                    self.duty.unobserved.extend(unobserved);
                } else {
                    self.observe_now(unobserved);
                }
                if more || again {
                    self.catch_up();
                }
            }
            Err(error) => {
                tracing::warn!("cannot look for effects: {error}");
                self.duty.unobserved.extend(unobserved);
                let at = self.now() + STORE_PAUSE;
                self.arm(at, Timer::Sweep);
            }
        }
    }

    /// Has the backend asked about the live attempts of runs that were just loaded or looked at. Where others store too, one
    /// may be scheduled and its launch not known here yet: asked about before, it would seem to be gone.
    pub(crate) fn observe_all(&mut self, runs: impl IntoIterator<Item = RunId>) {
        if self.ports.sharing.is_none() {
            return self.observe_now(runs);
        }
        self.duty.unobserved.extend(runs);
        self.catch_up();
    }

    fn observe_now(&mut self, runs: impl IntoIterator<Item = RunId>) {
        for run in runs {
            let Some(slot) = self.slots.get(&run) else {
                continue;
            };
            if !slot.is_stored() {
                // It is ahead of the store, and may have attempts that are launched after its commit only.
                if self.ports.sharing.is_some() {
                    self.duty.unobserved.insert(run);
                }
                continue;
            }
            for attempt in live_attempts(slot) {
                if !self.outbox.has(&Self::attempt_lane(attempt)) {
                    self.start(self.tools.observe(attempt));
                }
            }
        }
    }

    /// A commit met somebody else's: there may be effects of it.
    pub(crate) fn look_at_effects(&mut self) {
        if self.ports.sharing.is_some() {
            return self.catch_up();
        }
        let at = self.now();
        self.arm(at, Timer::Sweep);
    }

    /// Takes a stored effect in hand, unless it is already.
    pub(crate) fn take_in_hand(&mut self, stored: StoredEffect) {
        let key = stored.effect.key();
        let lane = (stored.run, stored.effect.lane());
        let is_settled = self.settled.values().any(|keys| keys.contains(&key));
        if is_settled || self.outbox.holds(&lane, &stored.effect) {
            return;
        }
        if self.ports.sharing.is_some()
            && let Some(slot) = self.slots.get_mut(&stored.run)
            && slot.is_stored()
        {
            // Whoever stored it may have moved the run on: what is in memory would take it for done.
            slot.state = SlotState::Absent;
        }
        self.add_effect(stored.run, stored.effect);
    }

    /// Finds out which numbers runs may have after another server took one, then makes these runs again.
    pub(crate) fn count_runs(&self, wanted: Vec<Queued>) -> Job {
        let store = Arc::clone(&self.ports.store);
        Box::pin(async move {
            Done::Counted {
                wanted,
                result: store.last_run().await,
            }
        })
    }
}
