//! Which pods are held for people once a step has failed, as their backends last said. Entry type: [`HeldPods`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pipekeeper_model::{AttemptId, Timestamp};

/// Until when the pod of each attempt is held whose pod is; cheap to clone, all clones are one. It is no part of any run:
/// a pod is held by the server that saw its attempt fail, or by none.
#[derive(Clone, Debug, Default)]
pub struct HeldPods(Arc<Mutex<BTreeMap<AttemptId, Timestamp>>>);

impl HeldPods {
    /// Until when the pod of this attempt is held, if it is.
    pub fn until(&self, attempt: AttemptId) -> Option<Timestamp> {
        self.all().get(&attempt).copied()
    }

    pub(crate) fn note(&self, attempt: AttemptId, until: Option<Timestamp>) {
        match until {
            Some(until) => self.all().insert(attempt, until),
            None => self.all().remove(&attempt),
        };
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
