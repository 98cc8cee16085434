//! The loop's part about deliveries: each ends in a visible outcome, one at a time per project, in order.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use pipekeeper_model::Name;
use pipekeeper_store::{Delivery, DeliveryId, DeliveryOutcome, Store, StoreError};

use crate::{
    Admitted, Controller, Intake, IntakeError, News,
    controller::{STORE_PAUSE, Timer},
    job::Done,
    recovery::LOOK_EVERY,
};

/// Deliveries that are looked for at once.
const PAGE: u32 = 1_000;
/// Deliveries that are prepared together, and about how large they may be together.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 4 << 20;
/// How often a delivery is tried again when something is in the way; the waits add up to about ten minutes.
const TRIES: u32 = 20;
/// What is said where our own code panicked; the process has written down why.
pub(crate) const BROKE: &str = "our side broke on it; hint: the server's log says where";

/// Waits for the intake; should what somebody pushed make it panic, the loop must live, and not meet it again.
pub(crate) async fn survive<T>(
    asked: impl Future<Output = Result<T, IntakeError>>,
) -> Result<T, IntakeError> {
    let answered = AssertUnwindSafe(asked).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        Err(IntakeError::Terminal {
            reason: BROKE.to_owned(),
        })
    })
}

/// The next deliveries of a project, as far as they could be read.
#[derive(Default)]
pub(crate) struct Batch {
    ready: Vec<Delivery>,
    /// Settled meanwhile, or unreadable.
    gone: Vec<DeliveryId>,
    failure: Option<StoreError>,
}

async fn read(store: &dyn Store, ids: Vec<DeliveryId>) -> Batch {
    let (mut batch, mut bytes) = (Batch::default(), 0);
    for id in ids {
        match store.delivery(id).await {
            Ok(Some(delivery)) if delivery.outcome.is_none() => {
                bytes += delivery.received.body.len();
                batch.ready.push(delivery);
            }
            Ok(Some(_) | None) => batch.gone.push(id),
            Err(StoreError::Corrupt { what, reason }) => {
                tracing::error!(delivery.id = id.0, "{what} cannot be read: {reason}");
                batch.gone.push(id);
            }
            Err(error @ (StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced)) => {
                batch.failure = Some(error);
                break;
            }
        }
        if bytes > BATCH_BYTES {
            break;
        }
    }
    batch
}

impl Controller {
    /// Looks for deliveries that wait.
    pub(crate) fn look_for_deliveries(&mut self) {
        if self.ports.intake.is_none() || self.draining || !self.performs() {
            return;
        }
        if self.intake.looking {
            self.intake.look_again = true;
            return;
        }
        self.intake.looking = true;
        self.intake.look_again = false;
        let store = Arc::clone(&self.ports.store);
        let after = self.intake.cursor.take();
        self.start(Box::pin(async move {
            Done::Pending {
                result: store.pending_deliveries(after, PAGE).await,
            }
        }));
    }

    pub(crate) fn pending(&mut self, result: Result<Vec<Delivery>, StoreError>) {
        self.intake.looking = false;
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("cannot look for deliveries: {error}");
                let at = self.now() + STORE_PAUSE;
                return self.arm(at, Timer::Intake);
            }
        };
        let is_full = found.len() >= PAGE as usize;
        self.intake.cursor = found.last().filter(|_| is_full).map(|delivery| delivery.id);
        let mut arrived = BTreeSet::new();
        for delivery in found {
            let project = delivery.received.project.clone();
            if self.intake.in_hand.insert(delivery.id, project.clone()).is_none() {
                let queue = self.intake.queues.entry(project.clone()).or_default();
                queue.waiting.push_back(delivery.id);
                arrived.insert(project);
            }
        }
        for project in arrived {
            self.admit_next(&project);
        }
        if is_full || self.intake.look_again {
            self.look_for_deliveries();
        } else if !self.timers.iter().any(|(_, timer)| *timer == Timer::Intake) {
            let at = self.now() + LOOK_EVERY;
            self.arm(at, Timer::Intake);
        }
    }

    /// Handles the project's next delivery, if none of it is in hand.
    pub(crate) fn admit_next(&mut self, project: &Name) {
        let Some(intake) = self.ports.intake.clone() else {
            return;
        };
        if self.draining || self.intake.busy.contains(project) {
            return;
        }
        let Some(queue) = self.intake.queues.get_mut(project) else {
            return;
        };
        let Some(delivery) = queue.ready.pop_front() else {
            return self.fetch_next(project, intake);
        };
        self.intake.busy.insert(project.clone());
        self.start(Box::pin(async move {
            let result = survive(intake.admit(&delivery)).await;
            Done::Admitted {
                delivery: Box::new(delivery),
                result,
            }
        }));
    }

    /// Reads the project's next deliveries from the store and has them prepared.
    fn fetch_next(&mut self, project: &Name, intake: Arc<dyn Intake>) {
        let Some(queue) = self.intake.queues.get_mut(project) else {
            return;
        };
        let ids: Vec<DeliveryId> = queue.waiting.iter().copied().take(BATCH).collect();
        if ids.is_empty() {
            self.intake.queues.remove(project);
            return;
        }
        self.intake.busy.insert(project.clone());
        let (store, project) = (Arc::clone(&self.ports.store), project.clone());
        self.start(Box::pin(async move {
            let batch = read(store.as_ref(), ids).await;
            if batch.ready.len() > 1 {
                // Should it panic, so will the admission of the one that is to blame.
                drop(
                    AssertUnwindSafe(intake.prepare(&batch.ready))
                        .catch_unwind()
                        .await,
                );
            }
            Done::Fetched { project, batch }
        }));
    }

    pub(crate) fn fetched(&mut self, project: &Name, batch: Batch) {
        self.intake.busy.remove(project);
        for id in &batch.gone {
            self.intake.in_hand.remove(id);
        }
        let queue = self.intake.queues.entry(project.clone()).or_default();
        queue.waiting.drain(..batch.ready.len() + batch.gone.len());
        queue.ready.extend(batch.ready);
        match batch.failure {
            Some(error) if queue.ready.is_empty() => {
                tracing::warn!("cannot read the next deliveries of `{project}`: {error}");
                let at = self.now() + STORE_PAUSE;
                self.arm(at, Timer::Delivery(project.clone()));
            }
            Some(_) | None => self.admit_next(project),
        }
    }

    pub(crate) fn admitted(&mut self, delivery: Delivery, result: Result<Admitted, IntakeError>) {
        pipekeeper_failpoint::hit("admitted");
        let id = delivery.id;
        match result {
            Ok(Admitted::Runs {
                requests,
                notes,
                moved,
            }) if !requests.is_empty() => {
                self.create_for(&delivery, requests, notes, moved);
            }
            Ok(Admitted::Runs { notes, moved, .. }) => {
                let reason = if notes.is_empty() {
                    "no pipeline is started by it".to_owned()
                } else {
                    notes.join("; ")
                };
                self.settle_delivery(&delivery, DeliveryOutcome::Ignored { reason }, moved);
            }
            Ok(Admitted::Nothing { outcome, moved }) => self.settle_delivery(&delivery, outcome, moved),
            Err(IntakeError::Transient { reason }) if self.failures(id) < TRIES => {
                tracing::info!(delivery.id = id.0, "cannot handle the delivery yet: {reason}");
                self.put_back(delivery);
            }
            Err(
                IntakeError::Transient { reason }
                | IntakeError::Terminal { reason }
                | IntakeError::NotFound { reason },
            ) => self.settle_delivery(&delivery, DeliveryOutcome::Errored { reason }, None),
        }
    }

    fn failures(&mut self, delivery: DeliveryId) -> u32 {
        let count = self.intake.failures.entry(delivery).or_default();
        *count += 1;
        *count
    }

    /// A delivery that something is in the way of keeps its place; its project waits with it.
    fn put_back(&mut self, delivery: Delivery) {
        let project = delivery.received.project.clone();
        let tries = self.intake.failures.get(&delivery.id).copied().unwrap_or(0);
        let queue = self.intake.queues.entry(project.clone()).or_default();
        queue.ready.push_front(delivery);
        self.intake.busy.remove(&project);
        let pause = pipekeeper_model::Millis(500_u64.saturating_mul(1 << tries.min(6)));
        let at = self.now() + pause;
        self.arm(at, Timer::Delivery(project));
    }

    /// The delivery is stored as settled, or will be found again.
    pub(crate) fn let_go(&mut self, delivery: DeliveryId) {
        self.intake.failures.remove(&delivery);
        self.publish(News::Delivery(delivery));
        if let Some(project) = self.intake.in_hand.remove(&delivery) {
            self.intake.busy.remove(&project);
            self.admit_next(&project);
        }
    }
}
