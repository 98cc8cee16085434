//! What keeps launched attempts from starting, as their backends last said. Entry type: [`Obstacles`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pipekeeper_model::AttemptId;

/// The obstacle of each attempt that has one; cheap to clone, all clones are one. It is no part of any run: backends tell
/// it again.
#[derive(Clone, Debug, Default)]
pub struct Obstacles(Arc<Mutex<BTreeMap<AttemptId, String>>>);

impl Obstacles {
    /// What keeps this attempt from starting.
    pub fn of(&self, attempt: AttemptId) -> Option<String> {
        self.all().get(&attempt).cloned()
    }

    pub(crate) fn note(&self, attempt: AttemptId, reason: String) {
        self.all().insert(attempt, reason);
    }

    pub(crate) fn clear(&self, attempt: AttemptId) {
        self.all().remove(&attempt);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<AttemptId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
