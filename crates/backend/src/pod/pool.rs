//! Pods that stand by after an attempt for the next one of their kind. Entry type: [`Pool`].
//!
//! A pod is kept only after a success, and only if its attempt said that others may use it. Between two attempts its
//! supervisor ends and empties everything; one that cannot is removed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pipekeeper_agent::protocol::{FromAgent, Incoming, ToAgent};
use pipekeeper_model::AttemptId;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use super::{
    backend::Shared,
    wire::{Need, Wire},
};

/// How long a supervisor may take to make room.
const CLEANING: Duration = Duration::from_secs(6);
/// No pod is kept that is older: it would reach its deadline.
const OLDEST: Duration = Duration::from_secs(3600);
/// How long one may take to leave.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// How pods stand by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// How long one waits for its next attempt.
    pub idle: Duration,
    /// How many wait at once.
    pub max: usize,
}

/// The pods that stand by.
#[derive(Default)]
pub(super) struct Pool {
    /// By the last attempt that each served, whose name it still has.
    pods: Mutex<BTreeMap<AttemptId, Standing>>,
}

/// How a pod stands.
enum Standing {
    /// Anybody may have it.
    Free {
        likeness: String,
        since: Instant,
        take: oneshot::Sender<()>,
        warm: oneshot::Receiver<Warm>,
    },
    /// Somebody has it, but it still has its old name; or it is about to be removed.
    Spoken,
}

/// A pod that is ready for an attempt.
pub(super) struct Warm {
    /// The attempt it served last.
    pub(super) from: AttemptId,
    pub(super) wire: Wire,
    /// What its supervisor said.
    pub(super) ready: FromAgent,
    /// When the pod was made.
    pub(super) made_at: Instant,
}

impl Pool {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Standing>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the pod of this attempt is none of this attempt's business any more.
    pub(super) fn holds(&self, attempt: AttemptId) -> bool {
        self.pods().contains_key(&attempt)
    }

    /// Whoever took the pod of this attempt has given it another name, or removed it.
    pub(super) fn release(&self, attempt: AttemptId) {
        self.pods().remove(&attempt);
    }

    /// Takes a pod of this kind, the one that has waited longest; none if there is none.
    pub(super) async fn take(&self, likeness: &str) -> Option<Warm> {
        let warm = {
            let mut pods = self.pods();
            let alike = pods.iter().filter_map(|(attempt, standing)| match standing {
                Standing::Free {
                    likeness: own, since, ..
                } if own == likeness => Some((*since, *attempt)),
                Standing::Free { .. } | Standing::Spoken => None,
            });
            let (_, attempt) = alike.min()?;
            let Some(Standing::Free { take, warm, .. }) = pods.insert(attempt, Standing::Spoken) else {
                return None;
            };
            // One that is gone already gives nothing.
            let _ = take.send(());
            warm
        };
        warm.await.ok()
    }

    /// Takes a pod back that nobody took; false if somebody did.
    fn retire(&self, attempt: AttemptId) -> bool {
        let mut pods = self.pods();
        match pods.get_mut(&attempt) {
            Some(standing @ Standing::Free { .. }) => {
                *standing = Standing::Spoken;
                true
            }
            Some(Standing::Spoken) | None => false,
        }
    }
}

impl Shared {
    /// Keeps the pod of an attempt that ended well for the next one that wants the like; or gives it back.
    pub(super) fn keep_pod(
        self: &Arc<Self>,
        attempt: AttemptId,
        likeness: String,
        wire: Wire,
        made_at: Instant,
    ) -> Result<(), Box<Wire>> {
        let Some(options) = self.options.pool.filter(|_| made_at.elapsed() < OLDEST) else {
            return Err(Box::new(wire));
        };
        let (take, taken) = oneshot::channel();
        let (give, warm) = oneshot::channel();
        let since = Instant::now();
        {
            let mut pods = self.pool.pods();
            if pods.len() >= options.max {
                return Err(Box::new(wire));
            }
            let standing = Standing::Free {
                likeness,
                since,
                take,
                warm,
            };
            pods.insert(attempt, standing);
        }
        let shared = Arc::clone(self);
        let until = since + options.idle;
        let standing = async move {
            if let Some((wire, ready)) = shared.stand_by(attempt, wire, taken, until).await {
                let warm = Warm {
                    from: attempt,
                    wire,
                    ready,
                    made_at,
                };
                // Who took it may be gone itself: then a sweep finds the pod.
                if give.send(warm).is_err() {
                    shared.discard(attempt, None).await;
                }
            }
        };
        self.spawn(standing);
        Ok(())
    }

    /// Looks after a pod until somebody takes it; none if it is removed because nobody did, or it is of no use.
    async fn stand_by(
        &self,
        attempt: AttemptId,
        mut wire: Wire,
        taken: oneshot::Receiver<()>,
        until: Instant,
    ) -> Option<(Wire, FromAgent)> {
        if let Ok(Some(ready)) = timeout(CLEANING, recycle(&mut wire)).await {
            let is_well = wait(&mut wire, taken, until).await;
            if is_well && !self.pool.retire(attempt) {
                return Some((wire, ready));
            }
        }
        self.pool.retire(attempt);
        self.discard(attempt, Some(wire)).await;
        None
    }

    /// Removes a pod that was kept, or taken from those.
    pub(super) async fn discard(&self, attempt: AttemptId, wire: Option<Wire>) {
        if let Some(wire) = wire
            && send_away(wire).await
        {
            self.host.has_left(attempt);
        }
        if let Err(error) = self.host.remove(attempt).await {
            tracing::info!(attempt.id = %attempt, "its pod is removed later: {error}");
        }
        self.pool.release(attempt);
    }
}

/// Lets a supervisor leave: a cluster takes its time to end containers that do not end themselves. Whether it did.
pub(super) async fn send_away(mut wire: Wire) -> bool {
    let leaving = async {
        let told = wire.send(&ToAgent::Leave).await.is_ok();
        while told && wire.next().await.is_some() {}
        told
    };
    timeout(FAREWELL, leaving).await.unwrap_or(false)
}

/// Has everything emptied; what the supervisor says then.
async fn recycle(wire: &mut Wire) -> Option<FromAgent> {
    wire.send(&ToAgent::Recycle).await.ok()?;
    loop {
        if let Incoming::Message(ready @ FromAgent::Ready { .. }) = wire.next().await? {
            return Some(ready);
        }
    }
}

/// Waits until somebody takes the pod or its time is over; false if it is of no use any more.
async fn wait(wire: &mut Wire, mut taken: oneshot::Receiver<()>, until: Instant) -> bool {
    loop {
        let due = wire.due();
        tokio::select! {
            _ = &mut taken => return true,
            said = wire.next() => if said.is_none() { return false },
            () = sleep_until(until) => return true,
            () = sleep_until(due) => match wire.need() {
                Need::Nothing => {}
                Need::Ping => if wire.send(&ToAgent::Ping).await.is_err() { return false },
                Need::End => return false,
            },
        }
    }
}
