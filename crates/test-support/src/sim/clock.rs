//! Virtual time: it stands still while anything can run and jumps to the next timer when nothing can.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use pipekeeper_controller::Clock;
use pipekeeper_model::Timestamp;

/// The one clock of a world; its clones are the same clock.
#[derive(Clone)]
pub(crate) struct SimClock(Arc<Mutex<Inner>>);

struct Inner {
    now: Timestamp,
    next: u64,
    timers: BTreeMap<(Timestamp, u64), Waker>,
}

impl SimClock {
    pub(crate) fn new(now: Timestamp) -> Self {
        let timers = BTreeMap::new();
        Self(Arc::new(Mutex::new(Inner { now, next: 0, timers })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jumps to the next timer, but not beyond `limit`; tells whether there was one.
    pub(crate) fn jump(&self, limit: Timestamp) -> bool {
        let waker = {
            let mut inner = self.inner();
            match inner.timers.first_key_value() {
                Some(((at, _), _)) if *at <= limit => inner.timers.pop_first().map(|((at, _), waker)| {
                    inner.now = inner.now.max(at);
                    waker
                }),
                Some(_) | None => None,
            }
        };
        waker.map(Waker::wake).is_some()
    }

    /// Goes on to a moment; timers on the way must have been taken before.
    pub(crate) fn set(&self, at: Timestamp) {
        let mut inner = self.inner();
        inner.now = inner.now.max(at);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.inner().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(Sleep {
            clock: self.clone(),
            at,
            key: None,
        })
    }
}

struct Sleep {
    clock: SimClock,
    at: Timestamp,
    key: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let key = {
            let mut inner = self.clock.inner();
            if inner.now >= self.at {
                return Poll::Ready(());
            }
            let key = self.key.unwrap_or_else(|| {
                inner.next += 1;
                inner.next
            });
            inner.timers.insert((self.at, key), context.waker().clone());
            key
        };
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.inner().timers.remove(&(self.at, key));
        }
    }
}
