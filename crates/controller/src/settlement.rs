//! The loop's part about the ends of deliveries: their runs and their outcome are stored together.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use pipekeeper_engine::{Envelope, Input, Run};
use pipekeeper_model::{Actor, RunId};
use pipekeeper_store::{
    Commit, CommitError, Delivery, DeliveryId, DeliveryOutcome, DeliverySettlement, RefMove, StoreError,
};

use crate::{
    Controller, News,
    controller::{STORE_PAUSE, Timer},
    deliveries::BROKE,
    job::{Done, NewRun},
    slot::{Loaded, Slot, commit},
};

impl Controller {
    /// Makes all runs of a delivery and settles it, in one transaction.
    pub(crate) fn create_for(
        &mut self,
        delivery: &Delivery,
        requests: Vec<(Actor, Arc<pipekeeper_engine::RunRequest>)>,
        mut notes: Vec<String>,
        moved: Option<RefMove>,
    ) {
        let mut runs = Vec::new();
        let mut commits: Vec<Commit> = Vec::new();
        for (actor, request) in requests {
            let pipeline = request.plan.pipeline.clone();
            if let Err(error) = self.check_supported(&request) {
                notes.push(format!("{pipeline}: {error}"));
                continue;
            }
            let id = self.new_run();
            let envelope = Envelope {
                at: self.now(),
                actor,
                body: Input::RunRequested(request),
            };
            let mut loaded = Loaded {
                run: Run::new(id),
                version: 0,
                snapshot_at: 0,
            };
            let decided = catch_unwind(AssertUnwindSafe(|| {
                let decision = self.ports.rules.decide(&loaded.run, &envelope)?;
                for event in &decision.events {
                    pipekeeper_engine::evolve(&mut loaded.run, event);
                }
                Ok::<_, pipekeeper_engine::Rejection>(decision)
            }));
            match decided {
                Ok(Ok(decision)) => {
                    let (events, effects) = (decision.events, decision.effects);
                    let made = commit(&mut loaded, events.clone(), effects.clone(), BTreeSet::new());
                    commits.extend(made);
                    runs.push(NewRun {
                        run: loaded.run,
                        version: loaded.version,
                        events: events.into(),
                        effects,
                    });
                }
                Ok(Err(rejection)) => notes.push(format!("{pipeline}: {rejection}")),
                Err(_) => notes.push(format!("{pipeline}: {BROKE}")),
            }
        }
        let ids: Vec<RunId> = runs.iter().map(|new| new.run.id()).collect();
        let Some(last) = commits.last_mut() else {
            let outcome = DeliveryOutcome::Errored {
                reason: notes.join("; "),
            };
            return self.settle_delivery(delivery, outcome, moved);
        };
        let id = delivery.id;
        last.delivery = Some(DeliverySettlement {
            delivery: id,
            outcome: DeliveryOutcome::Ran { runs: ids, notes },
            moved,
        });
        let store = Arc::clone(&self.ports.store);
        self.start(Box::pin(async move {
            let result = match commits.len() {
                1 => match commits.pop() {
                    Some(only) => store.commit(only).await,
                    None => Ok(()),
                },
                _ => store.commit_all(commits).await,
            };
            Done::Created {
                delivery: id,
                runs,
                result,
            }
        }));
    }

    pub(crate) fn created(
        &mut self,
        delivery: DeliveryId,
        runs: Vec<NewRun>,
        result: Result<(), CommitError>,
    ) {
        match result {
            Ok(()) => {
                for new in runs {
                    let id = new.run.id();
                    tracing::info!(delivery.id = delivery.0, run.id = %id, "a delivery started a run");
                    let loaded = Loaded {
                        run: new.run,
                        version: new.version,
                        snapshot_at: 0,
                    };
                    // Somebody may have read of the run in the store and asked it something before this reply came: what
                    // is in memory since then is newer.
                    self.slots.entry(id).or_insert_with(|| Slot::with(loaded));
                    self.publish(News::Run {
                        run: id,
                        version: new.version,
                        events: Arc::clone(&new.events),
                    });
                    self.after(id, &new.events, new.effects);
                    self.rest(id);
                }
                self.let_go(delivery);
            }
            // Handled by another server, or asked about again: the store knows.
            // Another server's run took a number: the delivery waits still.
            Err(CommitError::Conflict { .. }) => {
                self.let_go(delivery);
                self.start(self.count_runs(Vec::new()));
            }
            Err(CommitError::Finished { .. } | CommitError::NotPending { .. }) => {
                self.let_go(delivery);
                let at = self.now();
                self.arm(at, Timer::Sweep);
            }
            Err(CommitError::Store(error)) => {
                tracing::warn!(
                    delivery.id = delivery.0,
                    "cannot store the delivery's runs: {error}"
                );
                self.let_go(delivery);
                let at = self.now() + STORE_PAUSE;
                self.arm(at, Timer::Intake);
                self.arm(at, Timer::Sweep);
            }
        }
    }

    pub(crate) fn settle_delivery(
        &mut self,
        delivery: &Delivery,
        outcome: DeliveryOutcome,
        moved: Option<RefMove>,
    ) {
        let store = Arc::clone(&self.ports.store);
        let id = delivery.id;
        let settlement = DeliverySettlement {
            delivery: id,
            outcome,
            moved,
        };
        self.start(Box::pin(async move {
            Done::SettledDelivery {
                delivery: id,
                result: store.settle_delivery(settlement).await,
            }
        }));
    }

    pub(crate) fn settled_delivery(&mut self, delivery: DeliveryId, result: Result<(), StoreError>) {
        if let Err(error) = result {
            tracing::warn!(delivery.id = delivery.0, "cannot settle the delivery: {error}");
            let at = self.now() + STORE_PAUSE;
            self.arm(at, Timer::Intake);
        }
        self.let_go(delivery);
    }
}
