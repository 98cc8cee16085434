//! The lanes of all attempts of a backend: a task each, which ends when it has nothing left to do. Entry type: [`Lanes`].

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use pipekeeper_model::AttemptId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The ways to the lanes, by attempt.
pub(crate) struct Lanes<R>(Mutex<BTreeMap<AttemptId, UnboundedSender<R>>>);

impl<R> Lanes<R> {
    /// Sends a request to an attempt's lane; if it has none, `start` begins one.
    pub(crate) fn send(&self, attempt: AttemptId, request: R, start: impl FnOnce(UnboundedReceiver<R>)) {
        let mut lanes = self.all();
        let request = match lanes.get(&attempt) {
            Some(lane) => match lane.send(request) {
                Ok(()) => return,
                Err(closed) => closed.0,
            },
            None => request,
        };
        let (lane, requests) = unbounded_channel();
        start(requests);
        if lane.send(request).is_ok() {
            lanes.insert(attempt, lane);
        }
    }

    /// Sends a request to an attempt's lane, if it has one.
    pub(crate) fn send_if_open(&self, attempt: AttemptId, request: R) {
        if let Some(lane) = self.all().get(&attempt) {
            // A lane that just ended has nothing to wait for.
            let _ = lane.send(request);
        }
    }

    /// Lets an idle lane end, unless something is on its way to it.
    pub(crate) fn retire(&self, attempt: AttemptId, requests: &UnboundedReceiver<R>) -> bool {
        let mut lanes = self.all();
        let is_idle = requests.is_empty();
        if is_idle {
            lanes.remove(&attempt);
        }
        is_idle
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all().len()
    }

    /// Closes the way to every lane.
    pub(crate) fn clear(&self) {
        self.all().clear();
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<AttemptId, UnboundedSender<R>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Default for Lanes<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R> fmt::Debug for Lanes<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}
