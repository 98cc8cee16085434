//! How a controller goes on where another one stopped: everything it needs is in the store, the backend tells the rest.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_model::{AttemptId, Millis, plan::defaults};
use pipekeeper_store::{RunFilter, StoreError};

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
        for run in active.iter().copied() {
            let mut slot = Slot::absent();
            slot.state = match store.load(run).await {
                Ok(Some(stored)) => match stored.quarantined.clone() {
                    Some(reason) => SlotState::Quarantined(reason),
                    None => match restore(run, stored) {
                        Ok(loaded) => SlotState::Idle(Box::new(loaded)),
                        Err(reason) => SlotState::Quarantined(reason),
                    },
                },
                Ok(None) => continue,
                Err(StoreError::Corrupt { what, reason }) => {
                    tracing::error!(run.id = %run, "{what} cannot be read: {reason}");
                    SlotState::Quarantined(reason)
                }
                Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed)) => return Err(error),
            };
            self.slots.insert(run, slot);
        }
        let mut after = None;
        loop {
            let page = store.effects(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.sequence);
            for stored in page {
                self.add_effect(stored.run, stored.effect);
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
        self.sweep();
        // The quota may be smaller than before.
        self.tools
            .trim_caches(self.now())
            .into_iter()
            .for_each(|job| self.start(job));
        self.collect_caches();
        self.look_for_deliveries();
        Ok(())
    }

    /// Compares object stores with the caches that are kept, now and every hour.
    pub(crate) fn collect_caches(&mut self) {
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
        for run in swept.active {
            if !self.slots.contains_key(&run) && !self.run_timers.contains_key(&run) {
                self.slots.insert(run, Slot::absent());
                self.pump(run);
            }
        }
        for stored in swept.effects {
            let is_settled = self
                .settled
                .values()
                .any(|keys| keys.contains(&stored.effect.key()));
            if !is_settled && !self.outbox.has(&(stored.run, stored.effect.lane())) {
                self.add_effect(stored.run, stored.effect);
            }
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
        let stored = self.slots.values().filter(|slot| slot.is_stored());
        for attempt in stored.flat_map(live_attempts) {
            if !self.outbox.has(&Self::attempt_lane(attempt)) {
                self.start(self.tools.observe(attempt));
            }
        }
    }

    fn remove(&self, attempt: AttemptId) -> Job {
        let backend = Arc::clone(&self.ports.backend);
        Box::pin(async move {
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

/// The pause between two looks for deliveries that nobody told of.
pub(crate) const LOOK_EVERY: Millis = Millis::seconds(30);
