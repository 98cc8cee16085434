//! What is known of the pods and their namespaces, from lists, watches and our own calls. Never asks the cluster itself.
//! Entry type: [`Known`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use pipekeeper_backend::pod::PodState;
use pipekeeper_model::AttemptId;
use tokio::sync::mpsc;

use crate::{
    Patience, judge,
    listings::{Listings, Need},
    names,
};

/// How long a supervisor takes to be reachable, as long as nothing was learned.
const FIRST_GUESS: Duration = Duration::from_millis(450);

/// How much sooner a stream is tried after one that opened at the first try.
const SOONER: Duration = Duration::from_millis(50);

/// Everything that is known.
pub(crate) struct Known {
    /// What tells our pods from others.
    instance: String,
    patience: Patience,
    /// The namespaces that the pods are in.
    pub(crate) listings: Listings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<AttemptId, Seen>,
    /// The pods that were handed over, and to whom. A watch may still tell of how they were called before.
    handed: BTreeMap<PodPlace, AttemptId>,
    /// The namespaces that pods were to be made in, also by servers before.
    homes: BTreeMap<AttemptId, String>,
    seen: Option<mpsc::UnboundedSender<(AttemptId, PodState)>>,
    usual_start: Option<Duration>,
}

/// Where a pod is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodPlace {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What is known of a pod.
struct Seen {
    place: PodPlace,
    state: PodState,
    created: Option<Instant>,
    /// The streams that came too early.
    early: u32,
    /// Whether it was told to go, and will.
    is_going: bool,
    /// Whether it was told to go, and its node does not do it.
    is_stuck: bool,
    /// Whether its supervisor left of its own accord, and nothing else runs in it.
    has_left: bool,
}

impl Known {
    /// Nothing is known but the namespaces that may hold pods of ours.
    pub(crate) fn new(
        instance: String,
        patience: Patience,
        namespaces: impl IntoIterator<Item = String>,
    ) -> Self {
        let listings = Listings::default();
        for namespace in namespaces {
            listings.add(&namespace, Need::Expected);
        }
        Self {
            instance,
            patience,
            listings,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what becomes of the pods, from now on.
    pub(crate) fn tell(&self, seen: mpsc::UnboundedSender<(AttemptId, PodState)>) {
        self.lock().seen = Some(seen);
    }

    /// Where an attempt's pod is.
    pub(crate) fn place_of(&self, attempt: AttemptId) -> Option<PodPlace> {
        self.lock().pods.get(&attempt).map(|seen| seen.place.clone())
    }

    /// The pod of an attempt was to be made there.
    pub(crate) fn was_to_be(&self, attempt: AttemptId, namespace: String) {
        self.lock().homes.insert(attempt, namespace);
    }

    /// Where an attempt's pod is, if there is one.
    pub(crate) fn home_of(&self, attempt: AttemptId) -> Option<String> {
        self.lock().homes.get(&attempt).cloned()
    }

    /// The pod of an attempt is another's from now on.
    pub(crate) fn handed_over(&self, from: AttemptId, to: AttemptId) {
        let mut state = self.lock();
        let Some(seen) = state.pods.remove(&from) else {
            return;
        };
        state.handed.insert(seen.place.clone(), to);
        let seen = Seen {
            created: None,
            ..seen
        };
        state.pods.insert(to, seen);
    }

    /// The attempts whose pods are in a namespace.
    pub(crate) fn inside(&self, namespace: &str) -> BTreeSet<AttemptId> {
        let state = self.lock();
        let here = (state.pods.iter()).filter(|(_, seen)| seen.place.namespace == namespace);
        here.map(|(attempt, _)| *attempt).collect()
    }

    /// The attempts whose pods are there and were not told to go.
    pub(crate) fn staying(&self) -> Vec<AttemptId> {
        let state = self.lock();
        let staying = state.pods.iter().filter(|(_, seen)| !seen.is_going);
        staying.map(|(attempt, _)| *attempt).collect()
    }

    pub(crate) fn is_going(&self, attempt: AttemptId) -> bool {
        self.lock().pods.get(&attempt).is_some_and(|seen| seen.is_going)
    }

    /// Nothing runs in its pod any more.
    pub(crate) fn left(&self, attempt: AttemptId) {
        if let Some(seen) = self.lock().pods.get_mut(&attempt) {
            seen.has_left = true;
        }
    }

    /// Whether its pod may go without any grace: nothing runs in it, or nobody is there to end what does.
    pub(crate) fn goes_at_once(&self, attempt: AttemptId) -> bool {
        let state = self.lock();
        let seen = state.pods.get(&attempt);
        seen.is_some_and(|seen| seen.has_left || seen.is_stuck)
    }

    /// We made its pod, or found it made.
    pub(crate) fn created(&self, attempt: AttemptId, place: PodPlace) {
        let seen = Seen {
            created: Some(Instant::now()),
            ..Seen::new(place)
        };
        self.lock().pods.entry(attempt).or_insert(seen);
    }

    /// Its pod was told to go.
    pub(crate) fn told_to_go(&self, attempt: AttemptId) {
        if let Some(seen) = self.lock().pods.get_mut(&attempt) {
            seen.is_going = true;
        }
    }

    /// Its pod was not there when it was told to go.
    pub(crate) fn forget(&self, attempt: AttemptId) {
        self.lock().drop_pod(attempt);
    }

    /// A stream came too early.
    pub(crate) fn was_early(&self, attempt: AttemptId) {
        if let Some(seen) = self.lock().pods.get_mut(&attempt) {
            seen.early += 1;
        }
    }

    /// Learns how long it took until the supervisor could be reached.
    pub(crate) fn opened(&self, attempt: AttemptId) {
        let mut state = self.lock();
        let Some(seen) = state.pods.get_mut(&attempt) else {
            return;
        };
        let Some(created) = seen.created.take() else {
            return;
        };
        let was_first = seen.early == 0;
        state.learn(created.elapsed(), was_first);
    }

    /// How long it took lately until a supervisor could be reached.
    pub(crate) fn usual_start(&self) -> Duration {
        self.lock().usual_start.unwrap_or(FIRST_GUESS)
    }

    /// What a pod's state is now.
    pub(crate) fn state_of(&self, pod: &Pod, now: Timestamp) -> PodState {
        judge::judge(pod, now, &self.patience)
    }

    /// Takes in what a list or a watch shows; the attempt, if it is one of ours.
    pub(crate) fn saw(&self, pod: &Pod, now: Timestamp) -> Option<AttemptId> {
        let attempt = names::attempt_of(&self.instance, pod)?;
        let place = PodPlace::of(pod);
        let state = self.state_of(pod, now);
        let mut known = self.lock();
        let handed = known.handed.get(&place).copied();
        if handed.is_some_and(|to| to != attempt) {
            return handed;
        }
        if known.has_another(attempt, &place) {
            return Some(attempt);
        }
        let seen = known.pods.entry(attempt).or_insert_with(|| Seen::new(place));
        seen.is_going = pod.metadata.deletion_timestamp.is_some() && !matches!(state, PodState::Ended { .. });
        seen.is_stuck = judge::is_stuck(pod, now);
        if seen.state != state {
            seen.state = state.clone();
            known.tell(attempt, state);
        }
        Some(attempt)
    }

    /// A pod that was known is not there any more.
    pub(crate) fn lost(&self, attempt: AttemptId) {
        let mut known = self.lock();
        if known.drop_pod(attempt) {
            known.tell(attempt, PodState::Absent);
        }
    }

    /// A pod was deleted; how it stood tells more than that.
    pub(crate) fn deleted(&self, pod: &Pod, now: Timestamp) {
        let Some(attempt) = names::attempt_of(&self.instance, pod) else {
            return;
        };
        let last = self.state_of(pod, now);
        let mut known = self.lock();
        let place = PodPlace::of(pod);
        let attempt = known.handed.get(&place).copied().unwrap_or(attempt);
        if known.has_another(attempt, &place) {
            return;
        }
        known.drop_pod(attempt);
        let state = match last {
            PodState::Ended { reason } => PodState::Ended { reason },
            PodState::Absent | PodState::Waiting(_) | PodState::Running(_) | PodState::Going => {
                PodState::Absent
            }
        };
        known.tell(attempt, state);
    }
}

impl PodPlace {
    fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
        }
    }
}

impl Seen {
    fn new(place: PodPlace) -> Self {
        Self {
            place,
            state: PodState::Waiting(None),
            created: None,
            early: 0,
            is_going: false,
            is_stuck: false,
            has_left: false,
        }
    }
}

impl State {
    /// What opened at the first try may have been there long before: then the next one is tried sooner.
    fn learn(&mut self, took: Duration, was_first: bool) {
        // One slow pull tells nothing of the next pod.
        let took = took.min(FIRST_GUESS * 4);
        let before = self.usual_start.unwrap_or(FIRST_GUESS);
        self.usual_start = Some(if was_first {
            before.min(took).saturating_sub(SOONER)
        } else {
            (before * 3 + took) / 4
        });
    }

    /// Whether this attempt's pod is another one. Two have its label when nobody knows whether one changed hands; what
    /// becomes of the second is its sweep's business, once the first is gone.
    fn has_another(&self, attempt: AttemptId, place: &PodPlace) -> bool {
        self.pods.get(&attempt).is_some_and(|seen| seen.place != *place)
    }

    /// Whether it was known.
    fn drop_pod(&mut self, attempt: AttemptId) -> bool {
        self.homes.remove(&attempt);
        let dropped = self.pods.remove(&attempt);
        if let Some(seen) = &dropped {
            self.handed.remove(&seen.place);
        }
        dropped.is_some()
    }

    fn tell(&self, attempt: AttemptId, state: PodState) {
        if let Some(seen) = &self.seen {
            // Its backend is gone, or about to be.
            let _ = seen.send((attempt, state));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod that takes so long, tried from where the last ones led to, every 40 ms.
    fn settle(state: &mut State, real: Duration) -> Duration {
        let pause = Duration::from_millis(40);
        for _ in 0..60 {
            let first = state.usual_start.unwrap_or(FIRST_GUESS);
            let mut at = first;
            while at < real {
                at += pause;
            }
            state.learn(at, at == first);
        }
        state.usual_start.unwrap_or_default()
    }

    #[test]
    fn the_usual_start_follows_what_pods_take() {
        let mut state = State::default();
        for millis in [300, 1_200, 500] {
            let real = Duration::from_millis(millis);
            let learned = settle(&mut state, real);
            assert!(
                learned.abs_diff(real) < Duration::from_millis(100),
                "{learned:?} for {real:?}"
            );
        }
    }
}
