//! How a controller goes on where another one stopped: everything it needs is in the store, the backend tells the rest.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_model::{AttemptId, Millis, RunId, plan::defaults};
use pipekeeper_store::{RunFilter, Store, StoreError, StoredRun};

use crate::{
    Controller,
    caches::COLLECT_EVERY,
    controller::{STORE_PAUSE, SWEEP_EVERY, Timer},
    job::{Done, Job, Swept},
    runs::{live_attempts, restore},
    slot::{Slot, SlotState},
};

const PAGE: u32 = 500;

impl Controller {
    /// Loads active runs and waiting effects, and asks the backend about every live attempt.
    pub(crate) async fn recover(&mut self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.ports.store);
        self.next_run = store.last_run().await? + 1;
        let mut filter = RunFilter {
            active: true,
            ..RunFilter::default()
        };
        let mut active = Vec::new();
        loop {
            let page = store.runs(&filter, PAGE).await?;
            filter.before = page.last().map(|run| run.id);
            active.extend(page.iter().map(|run| run.id));
            if page.is_empty() {
                break;
            }
        }
        self.tools.handle.locks.clear();
        // What was decided about here before has somebody who waits, and goes on from what is stored now.
        for slot in self.slots.values_mut() {
            if slot.is_stored() {
                slot.state = SlotState::Absent;
            }
        }
        let in_hand: Vec<RunId> = self.slots.keys().copied().collect();
        for run in active.iter().copied() {
            self.keep_lease().await?;
            if self.slots.contains_key(&run) {
                let stored = store.load(run).await;
                self.note_locks_of(run, stored)?;
                continue;
            }
            let Some(slot) = found(run, store.load(run).await)? else {
                continue;
            };
            self.slots.insert(run, slot);
            self.note_at_work(run);
            self.note_claims(run);
        }
        // Only now is it known who has what.
        self.give_locks();
        let mut after = None;
        loop {
            let page = store.effects(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.sequence);
            self.duty.seen_effect = after;
            self.keep_lease().await?;
            for stored in page {
                self.take_in_hand(stored);
            }
        }
        for attempt in self.slots.values().flat_map(live_attempts).collect::<Vec<_>>() {
            if !self.outbox.has(&Self::attempt_lane(attempt)) {
                self.start(self.tools.observe(attempt));
            }
        }
        if !active.is_empty() {
            tracing::info!("took up {} active runs", active.len());
        }
        for run in active {
            self.rest(run);
        }
        self.made_room();
        self.sweep();
        in_hand.iter().for_each(|run| self.pump(*run));
        if !in_hand.is_empty() {
            // What these wait for is seen to once they are as stored.
            let at = self.now() + STORE_PAUSE;
            self.arm(at, Timer::Sweep);
        }
        // The quota may be smaller than before.
        self.tools
            .trim_caches(self.now())
            .into_iter()
            .for_each(|job| self.start(job));
        self.collect_caches();
        self.tidy_up_later();
        self.look_for_deliveries();
        Ok(())
    }

    /// Notes the locks of a run that is in hand already, by what is stored: what is in memory may be old.
    fn note_locks_of(
        &self,
        run: RunId,
        stored: Result<Option<StoredRun>, StoreError>,
    ) -> Result<(), StoreError> {
        match stored {
            Ok(Some(stored)) if stored.quarantined.is_none() => {
                // One that cannot be read is set aside when it is loaded.
                if let Ok(loaded) = restore(run, stored) {
                    self.note_stored(&loaded.run);
                }
                Ok(())
            }
            Ok(Some(_) | None) | Err(StoreError::Corrupt { .. }) => Ok(()),
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => {
                Err(error)
            }
        }
    }

    /// Compares object stores with the caches that are kept, now and every hour.
    pub(crate) fn collect_caches(&mut self) {
        if !self.performs() {
            return;
        }
        let Some(job) = self.tools.collect_caches(self.now()) else {
            return;
        };
        self.start(job);
        self.timers.retain(|(_, timer)| *timer != Timer::Collect);
        let at = self.now() + COLLECT_EVERY;
        self.arm(at, Timer::Collect);
    }

    /// Compares what store and backend have with what is in memory.
    pub(crate) fn sweep(&mut self) {
        if !self.performs() {
            return;
        }
        self.timers.retain(|(_, timer)| *timer != Timer::Sweep);
        let at = self.now() + SWEEP_EVERY;
        self.arm(at, Timer::Sweep);
        let (store, backend) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.backend));
        self.start(Box::pin(async move {
            let swept = async {
                let filter = RunFilter {
                    active: true,
                    ..RunFilter::default()
                };
                let active = store
                    .runs(&filter, u32::MAX)
                    .await
                    .map_err(|error| error.to_string())?;
                let effects = store
                    .effects(None, u32::MAX)
                    .await
                    .map_err(|error| error.to_string())?;
                let known = backend.list().await.map_err(|error| error.to_string())?;
                Ok::<_, String>(Swept {
                    active: active.iter().map(|run| run.id).collect(),
                    effects,
                    known,
                })
            };
            match swept.await {
                Ok(swept) => Done::Swept(swept),
                Err(error) => {
                    tracing::warn!("cannot compare store and backend: {error}");
                    Done::Quiet
                }
            }
        }));
    }

    /// Takes in hand what memory lost sight of; stops and removes attempts that no run wants.
    pub(crate) fn swept(&mut self, swept: Swept) {
        self.look_at_holders(&swept.active);
        for run in swept.active {
            if !self.slots.contains_key(&run) && !self.run_timers.contains_key(&run) {
                self.slots.insert(run, Slot::absent());
                self.pump(run);
            }
        }
        for stored in swept.effects {
            self.take_in_hand(stored);
        }
        let live: BTreeSet<AttemptId> = self.slots.values().flat_map(live_attempts).collect();
        let mut look_again = false;
        for attempt in swept.known {
            match self.slots.get(&attempt.run).map(|slot| &slot.state) {
                Some(SlotState::Absent | SlotState::Resting | SlotState::Loading) => look_again = true,
                Some(SlotState::Quarantined(_)) => {}
                Some(SlotState::Idle(_) | SlotState::Committing { .. }) | None => {
                    let is_wanted = live.contains(&attempt) || self.outbox.has(&Self::attempt_lane(attempt));
                    if !is_wanted {
                        self.start(self.remove(attempt));
                    }
                }
            }
        }
        if look_again {
            // Whether these are wanted shows when their run is in memory.
            let at = self.now() + STORE_PAUSE;
            self.arm(at, Timer::Sweep);
        }
        // A run that is ahead of the store may have attempts that are launched after its commit only: asked about now,
        // they would seem to be gone.
        let stored = self.slots.iter().filter(|(_, slot)| slot.is_stored());
        let stored: Vec<RunId> = stored.map(|(run, _)| *run).collect();
        self.observe_all(stored);
    }

    /// Removes an attempt, if what is stored now has no use for it: memory may be old, as of a server that slept and has yet
    /// to hear that another one performs. An attempt is stored before anything of it is made, and what ended stays so.
    fn remove(&self, attempt: AttemptId) -> Job {
        let (store, backend) = (Arc::clone(&self.ports.store), Arc::clone(&self.ports.backend));
        Box::pin(async move {
            match is_live(store.as_ref(), attempt).await {
                Ok(false) => {}
                Ok(true) => return Done::Quiet,
                Err(error) => {
                    tracing::warn!(attempt.id = %attempt, "cannot see whether anybody wants it: {error}");
                    return Done::LeftOver;
                }
            }
            let removed = async {
                backend.stop(attempt, defaults::GRACE).await?;
                backend.forget(attempt).await
            };
            if let Err(error) = removed.await {
                tracing::warn!(attempt.id = %attempt, "cannot remove an attempt that nobody wants: {error}");
            }
            Done::Quiet
        })
    }
}

/// A run as it was found in the store, which must answer; none if it is not there.
fn found(run: RunId, result: Result<Option<StoredRun>, StoreError>) -> Result<Option<Slot>, StoreError> {
    let mut slot = Slot::absent();
    slot.state = match result {
        Ok(Some(stored)) => match stored.quarantined.clone() {
            Some(reason) => SlotState::Quarantined(reason),
            None => match restore(run, stored) {
                Ok(loaded) => SlotState::Idle(Box::new(loaded)),
                Err(reason) => SlotState::Quarantined(reason),
            },
        },
        Ok(None) => return Ok(None),
        Err(StoreError::Corrupt { what, reason }) => {
            tracing::error!(run.id = %run, "{what} cannot be read: {reason}");
            SlotState::Quarantined(reason)
        }
        Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => {
            return Err(error);
        }
    };
    Ok(Some(slot))
}

/// Whether an attempt has not ended, by what is stored. Nothing is known of one whose run cannot be read.
async fn is_live(store: &dyn Store, attempt: AttemptId) -> Result<bool, String> {
    let stored = store.load(attempt.run).await.map_err(|error| error.to_string())?;
    let Some(stored) = stored else { return Ok(false) };
    if stored.quarantined.is_some() {
        return Ok(true);
    }
    let loaded = restore(attempt.run, stored)?;
    Ok(loaded.run.live(attempt).is_some())
}

/// The pause between two looks for deliveries that nobody told of.
pub(crate) const LOOK_EVERY: Millis = Millis::seconds(30);
