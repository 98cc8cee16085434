//! What is known of the attempts on an engine. Entry type: [`Known`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pipekeeper_model::AttemptId;
use tokio::{sync::mpsc, task::AbortHandle};

use super::judge::Beside;
use crate::pod::{PodState, Why};

/// Shared by calls, watch and keepers.
#[derive(Default)]
pub(super) struct Known(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    attempts: BTreeMap<AttemptId, Seen>,
    told: Option<mpsc::UnboundedSender<(AttemptId, PodState)>>,
    /// Whether the engine was away since all was looked at.
    was_away: bool,
}

/// What is known of an attempt.
#[derive(Default)]
struct Seen {
    /// What was told last.
    state: Option<PodState>,
    beside: Beside,
    keeper: Option<AbortHandle>,
    /// Whether it is being removed.
    is_going: bool,
    /// One at a time looks, so that what is told is told in order.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Known {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where news go from now on.
    pub(super) fn tell_to(&self, told: mpsc::UnboundedSender<(AttemptId, PodState)>) {
        self.inside().told = Some(told);
    }

    pub(super) fn attempts(&self) -> Vec<AttemptId> {
        self.inside().attempts.keys().copied().collect()
    }

    pub(super) fn turn(&self, attempt: AttemptId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.inside().attempts.entry(attempt).or_default().turn)
    }

    pub(super) fn beside(&self, attempt: AttemptId) -> Beside {
        let inside = self.inside();
        let seen = inside.attempts.get(&attempt);
        Beside {
            was_away: inside.was_away,
            ..seen.map(|seen| seen.beside.clone()).unwrap_or_default()
        }
    }

    /// Says what keeps an attempt's containers from being made.
    pub(super) fn hold(&self, attempt: AttemptId, hold: Option<Why>) {
        self.inside().attempts.entry(attempt).or_default().beside.hold = hold;
    }

    /// All of an attempt's containers were made and started.
    pub(super) fn made(&self, attempt: AttemptId) {
        let mut inside = self.inside();
        let beside = &mut inside.attempts.entry(attempt).or_default().beside;
        beside.hold = None;
        beside.is_made = true;
    }

    /// A service is ready.
    pub(super) fn ready(&self, attempt: AttemptId, role: &str) {
        let mut inside = self.inside();
        let seen = inside.attempts.entry(attempt).or_default();
        seen.beside.ready.insert(role.to_owned());
    }

    /// Starts the attempt's keeper, unless it has one or needs none any more.
    pub(super) fn keep(&self, attempt: AttemptId, spawn: impl FnOnce() -> AbortHandle) {
        let mut inside = self.inside();
        let seen = inside.attempts.entry(attempt).or_default();
        if seen.keeper.is_none() && !seen.is_going {
            seen.keeper = Some(spawn());
        }
    }

    /// Takes a new state, and tells it if it is news.
    pub(super) fn saw(&self, attempt: AttemptId, state: &PodState) {
        let mut inside = self.inside();
        let Some(seen) = inside.attempts.get_mut(&attempt) else {
            return;
        };
        // What becomes of it on its way out is no news, only that it is gone.
        let is_news = seen.state.as_ref() != Some(state) && (!seen.is_going || *state == PodState::Absent);
        let was_there = seen.state.is_some();
        seen.state = Some(state.clone());
        if *state == PodState::Absent {
            if let Some(gone) = inside.attempts.remove(&attempt) {
                gone.dismiss();
            }
            if !was_there {
                return;
            }
        }
        if let Some(told) = inside.told.as_ref().filter(|_| is_news) {
            // Its backend is gone, or about to be.
            let _ = told.send((attempt, state.clone()));
        }
    }

    /// The attempt is being removed: its keeper goes first.
    pub(super) fn going(&self, attempt: AttemptId) {
        let mut inside = self.inside();
        if let Some(seen) = inside.attempts.get_mut(&attempt) {
            seen.is_going = true;
            seen.dismiss();
        }
    }

    pub(super) fn set_away(&self, was_away: bool) {
        self.inside().was_away = was_away;
    }

    /// Sends all keepers away.
    pub(super) fn dismiss(&self) {
        let mut inside = self.inside();
        inside.told = None;
        for seen in inside.attempts.values() {
            seen.dismiss();
        }
    }
}

impl Seen {
    fn dismiss(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}
