//! Work that the loop does not wait for: each job is a future that ends in one [`Done`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use pipekeeper_backend::{
    Backend, DebugOrder, EnterOrder, Entered, LaunchError, SecretValue, Terminal, Ticket, Told,
};
use pipekeeper_engine::{Effect, Event, Run, RunRequest, Signature, Standing};
use pipekeeper_model::{Actor, AttemptId, Holder, Name, RunId, Timestamp, plan::Body};
use pipekeeper_store::{
    Claimed, Commit, CommitError, Delivery, DeliveryId, Epoch, Store, StoreError, StoredEffect, StoredRun,
};

use tokio::sync::{mpsc, oneshot};

use crate::{
    Admitted, DebugWish, Handle, IntakeError, Layout, LookInto, SubmitError, Supplies, Upkeep,
    caches::{CacheQuota, CacheStore},
    deliveries::Batch,
    launch,
    outbox::{LaneKey, Performed},
    slot::Queued,
};

/// A job.
pub(crate) type Job = BoxFuture<'static, Done>;

/// The end of a job.
pub(crate) enum Done {
    Loaded {
        run: RunId,
        result: Result<Option<Box<StoredRun>>, StoreError>,
    },
    Committed {
        run: RunId,
        /// How many events the run had before.
        expected: u64,
        events: Arc<[Event]>,
        effects: Vec<Effect>,
        settled: Vec<pipekeeper_engine::EffectKey>,
        result: Result<(), CommitError>,
    },
    Created {
        delivery: DeliveryId,
        runs: Vec<NewRun>,
        result: Result<(), CommitError>,
    },
    Performed {
        lane: LaneKey,
        effect: Effect,
        result: Performed,
    },
    Pending {
        result: Result<Vec<Delivery>, StoreError>,
    },
    Admitted {
        delivery: Box<Delivery>,
        result: Result<Admitted, IntakeError>,
    },
    Fetched {
        project: Name,
        batch: Batch,
    },
    SettledDelivery {
        delivery: DeliveryId,
        result: Result<(), StoreError>,
    },
    Flushed {
        keys: Vec<pipekeeper_engine::EffectKey>,
        result: Result<(), StoreError>,
    },
    Swept(Swept),
    Claimed {
        /// What was held when it was asked.
        held: Option<Epoch>,
        asked_at: Timestamp,
        result: Result<Claimed, StoreError>,
    },
    Listed {
        result: Result<Vec<(RunId, u64)>, StoreError>,
    },
    CaughtUp {
        /// Runs whose attempts are to be asked about now.
        unobserved: BTreeSet<RunId>,
        result: Result<Vec<StoredEffect>, StoreError>,
    },
    Counted {
        /// Runs that are to be made with other numbers.
        wanted: Vec<Queued>,
        result: Result<u64, StoreError>,
    },
    Wished {
        wished: Wished,
        result: Result<Arc<RunRequest>, SubmitError>,
    },
    /// Something could not be removed.
    LeftOver,
    /// Where those stand whose approvals let an attempt get so far.
    Stood {
        attempt: AttemptId,
        holder: Holder,
        standings: BTreeMap<Signature, Option<Standing>>,
    },
    /// A supervisor waits for a ticket that it has.
    Unanswered {
        attempt: AttemptId,
        reason: String,
    },
    /// It spoke for itself.
    Quiet,
}

/// What store and backend have, side by side.
pub(crate) struct Swept {
    pub(crate) active: Vec<RunId>,
    pub(crate) effects: Vec<StoredEffect>,
    pub(crate) known: Vec<AttemptId>,
}

/// A run that is being created together with others.
pub(crate) struct NewRun {
    pub(crate) run: Run,
    pub(crate) version: u64,
    pub(crate) events: Arc<[Event]>,
    pub(crate) effects: Vec<Effect>,
}

/// A wished run on its way to its request.
pub(crate) struct Wished {
    pub(crate) actor: Actor,
    pub(crate) reply: oneshot::Sender<Result<RunId, SubmitError>>,
}

/// What jobs work with; cheap to clone.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) supplies: Arc<dyn Supplies>,
    pub(crate) handle: Handle,
    pub(crate) layout: Arc<Layout>,
    pub(crate) upkeep: Option<Upkeep>,
    /// Held by who looks what may go.
    pub(crate) tidying: Arc<tokio::sync::Mutex<()>>,
    pub(crate) cache_quota: Option<CacheQuota>,
    pub(crate) cache_stores: Arc<[Arc<dyn CacheStore>]>,
    /// Held by who looks at them.
    pub(crate) collecting: Arc<tokio::sync::Mutex<()>>,
}

impl Tools {
    pub(crate) fn load(&self, run: RunId) -> Job {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            Done::Loaded {
                run,
                result: store.load(run).await.map(|stored| stored.map(Box::new)),
            }
        })
    }

    pub(crate) fn commit(&self, commit: Commit, events: Arc<[Event]>) -> Job {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            let (run, expected) = (commit.summary.id, commit.expected);
            let (effects, settled) = (commit.effects.clone(), commit.settled.clone());
            Done::Committed {
                run,
                expected,
                events,
                effects,
                settled,
                result: store.commit(commit).await,
            }
        })
    }

    pub(crate) fn launch(&self, lane: LaneKey, effect: Effect, draft: launch::Draft) -> Job {
        let tools = self.clone();
        Box::pin(async move {
            let launched = async {
                // They are given with the ticket; that one cannot be had is better known before anything is made.
                tools.check_secrets(&draft.request, draft.attempt).await?;
                let launch = draft.complete(tools.supplies.as_ref(), &tools.layout).await?;
                tools.backend.launch(launch).await
            };
            let result = performed(launched.await);
            Done::Performed { lane, effect, result }
        })
    }

    /// Opens a shell for a person. Should they leave meanwhile, it is removed again.
    pub(crate) fn debug(
        &self,
        wish: DebugWish,
        told: mpsc::Sender<Told>,
        reply: oneshot::Sender<Result<Terminal, LaunchError>>,
    ) -> Job {
        let tools = self.clone();
        Box::pin(async move {
            // A terminal that nobody takes is dropped, and what it stands on with it.
            drop(reply.send(tools.open(wish, told).await));
            Done::Quiet
        })
    }

    async fn open(&self, wish: DebugWish, told: mpsc::Sender<Told>) -> Result<Terminal, LaunchError> {
        let DebugWish { run, hold, .. } = &wish;
        let own = hold.own_place(run).filter(|_| wish.into == LookInto::Held);
        // Whoever left is missed where the shell opens.
        if let Some((project, cluster)) = own {
            let order = EnterOrder {
                attempt: hold.attempt(),
                project,
                cluster,
                limit: wish.limit,
                size: wish.size,
                term: wish.term.clone(),
                told: told.clone(),
            };
            match self.backend.enter(order).await? {
                Entered::Open(terminal) => return Ok(terminal),
                Entered::NotHeld => {
                    let why = hold.why_not_held(run, self.supplies.as_ref());
                    drop(told.send(Told::Note(why)).await);
                }
                Entered::NeverHeld => {}
            }
        }
        drop(told.send(Told::Note(hold.note())).await);
        let launch = hold.launch(run, self.supplies.as_ref(), &self.layout).await?;
        let order = DebugOrder {
            launch,
            limit: wish.limit,
            size: wish.size,
            term: wish.term,
            told,
        };
        self.backend.debug(order).await
    }

    pub(crate) fn stop(&self, lane: LaneKey, effect: Effect) -> Job {
        let backend = Arc::clone(&self.backend);
        Box::pin(async move {
            let result = match &effect {
                Effect::StopAttempt { attempt, grace } => performed(backend.stop(*attempt, *grace).await),
                Effect::FindEarlier { .. }
                | Effect::RememberSuccess { .. }
                | Effect::LaunchAttempt { .. }
                | Effect::SupersedeOlder { .. }
                | Effect::SupersedeAtGate { .. }
                | Effect::AwaitTurn { .. }
                | Effect::AwaitLocks { .. }
                | Effect::Notify { .. } => Performed::Done,
            };
            Done::Performed { lane, effect, result }
        })
    }

    async fn check_secrets(&self, request: &RunRequest, attempt: AttemptId) -> Result<(), LaunchError> {
        match request.plan.node(attempt.node).map(|node| &node.body) {
            Some(Body::Work(work)) => self.supplies.check_secrets(request, work).await,
            Some(Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_))
            | None => Ok(()),
        }
    }

    async fn secrets(
        &self,
        request: &RunRequest,
        attempt: AttemptId,
    ) -> Result<Vec<SecretValue>, LaunchError> {
        match request.plan.node(attempt.node).map(|node| &node.body) {
            Some(Body::Work(work)) => self.supplies.secrets(request, work).await,
            Some(Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_))
            | None => Ok(Vec::new()),
        }
    }

    /// Answers a check-in; a ticket brings the secrets with it.
    pub(crate) fn answer_go(&self, request: Arc<RunRequest>, attempt: AttemptId, holder: Holder) -> Job {
        let tools = self.clone();
        Box::pin(async move {
            let answered = async {
                let secrets = tools.secrets(&request, attempt).await?;
                tools
                    .backend
                    .answer(attempt, &holder, Ticket::Go { secrets })
                    .await
            };
            if let Err(error) = answered.await {
                tracing::warn!(attempt.id = %attempt, "cannot hand over the ticket: {error}");
                let reason = error.to_string();
                return Done::Unanswered { attempt, reason };
            }
            pipekeeper_failpoint::hit("ticket_given");
            Done::Quiet
        })
    }

    pub(crate) fn answer_exit(&self, attempt: AttemptId, holder: Holder) -> Job {
        let backend = Arc::clone(&self.backend);
        Box::pin(async move {
            if let Err(error) = backend.answer(attempt, &holder, Ticket::Exit).await {
                tracing::warn!(attempt.id = %attempt, "cannot refuse the ticket: {error}");
            }
            Done::Quiet
        })
    }

    pub(crate) fn observe(&self, attempt: AttemptId) -> Job {
        let backend = Arc::clone(&self.backend);
        Box::pin(async move {
            if let Err(error) = backend.observe(attempt).await {
                tracing::warn!(attempt.id = %attempt, "cannot observe: {error}");
            }
            Done::Quiet
        })
    }

    /// Removes what a backend keeps of attempts that nobody needs any more.
    pub(crate) fn forget(&self, attempt: AttemptId) -> Job {
        let backend = Arc::clone(&self.backend);
        Box::pin(async move {
            if let Err(error) = backend.forget(attempt).await {
                tracing::warn!(attempt.id = %attempt, "cannot remove what is left: {error}");
                return Done::LeftOver;
            }
            Done::Quiet
        })
    }
}

pub(crate) fn unavailable(error: impl ToString) -> SubmitError {
    SubmitError::Unavailable {
        reason: error.to_string(),
    }
}

fn performed(result: Result<(), LaunchError>) -> Performed {
    match result {
        Ok(()) => Performed::Done,
        Err(LaunchError::Transient { reason }) => Performed::Transient { reason },
        Err(LaunchError::Occupied { reason, .. }) => Performed::Occupied { reason },
        Err(LaunchError::Terminal { reason }) => Performed::Terminal { reason },
    }
}
