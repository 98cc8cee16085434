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
use tokio::sync::{Notify, mpsc};

use crate::{Patience, judge, names};

/// How long a supervisor takes to be reachable, as long as nothing was learned.
const FIRST_GUESS: Duration = Duration::from_millis(450);

/// Everything that is known.
pub(crate) struct Known {
    /// What tells our pods from others.
    instance: String,
    patience: Patience,
    state: Mutex<State>,
    listed: Notify,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<AttemptId, Seen>,
    /// The namespaces that are watched, and whether each was listed.
    namespaces: BTreeMap<String, bool>,
    seen: Option<mpsc::UnboundedSender<(AttemptId, PodState)>>,
    usual_start: Option<Duration>,
}

/// What is known of a pod.
struct Seen {
    namespace: String,
    state: PodState,
    created: Option<Instant>,
    /// Whether it was told to go, and will.
    is_going: bool,
    /// Whether it was told to go, and its node does not do it.
    is_stuck: bool,
}

impl Known {
    /// Nothing is known but the namespaces that may hold pods of ours.
    pub(crate) fn new(
        instance: String,
        patience: Patience,
        namespaces: impl IntoIterator<Item = String>,
    ) -> Self {
        let namespaces = namespaces.into_iter().map(|namespace| (namespace, false));
        Self {
            instance,
            patience,
            state: Mutex::new(State {
                namespaces: namespaces.collect(),
                ..State::default()
            }),
            listed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what becomes of the pods, from now on.
    pub(crate) fn tell(&self, seen: mpsc::UnboundedSender<(AttemptId, PodState)>) {
        self.lock().seen = Some(seen);
    }

    /// The namespaces that are watched.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.lock().namespaces.keys().cloned().collect()
    }

    /// Notes a namespace; whether it is new.
    pub(crate) fn add_namespace(&self, namespace: &str) -> bool {
        let mut state = self.lock();
        let is_new = !state.namespaces.contains_key(namespace);
        if is_new {
            state.namespaces.insert(namespace.to_owned(), false);
        }
        is_new
    }

    /// A namespace was listed.
    pub(crate) fn listed(&self, namespace: &str) {
        self.lock().namespaces.insert(namespace.to_owned(), true);
        self.listed.notify_waiters();
    }

    /// The namespaces that were never listed.
    pub(crate) fn unlisted(&self) -> Vec<String> {
        let state = self.lock();
        let unlisted = state.namespaces.iter().filter(|(_, listed)| !**listed);
        unlisted.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Waits until every namespace was listed once.
    pub(crate) async fn all_listed(&self) {
        loop {
            let listed = self.listed.notified();
            if self.lock().namespaces.values().all(|listed| *listed) {
                return;
            }
            listed.await;
        }
    }

    /// The namespace of an attempt's pod.
    pub(crate) fn namespace_of(&self, attempt: AttemptId) -> Option<String> {
        self.lock().pods.get(&attempt).map(|seen| seen.namespace.clone())
    }

    /// The attempts whose pods are in a namespace.
    pub(crate) fn inside(&self, namespace: &str) -> BTreeSet<AttemptId> {
        let state = self.lock();
        let here = state.pods.iter().filter(|(_, seen)| seen.namespace == namespace);
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

    pub(crate) fn is_stuck(&self, attempt: AttemptId) -> bool {
        self.lock().pods.get(&attempt).is_some_and(|seen| seen.is_stuck)
    }

    /// We made its pod, or found it made.
    pub(crate) fn created(&self, attempt: AttemptId, namespace: &str) {
        let seen = Seen {
            created: Some(Instant::now()),
            ..Seen::new(namespace.to_owned())
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
        self.lock().pods.remove(&attempt);
    }

    /// Learns how long it took until the supervisor could be reached.
    pub(crate) fn opened(&self, attempt: AttemptId) {
        let mut state = self.lock();
        let Some(took) = state
            .pods
            .get_mut(&attempt)
            .and_then(|seen| seen.created.take())
            .map(|created| created.elapsed())
        else {
            return;
        };
        // One slow pull tells nothing of the next pod.
        let took = took.min(FIRST_GUESS * 4);
        let before = state.usual_start.unwrap_or(took);
        state.usual_start = Some((before * 3 + took) / 4);
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
        let state = self.state_of(pod, now);
        let mut known = self.lock();
        let seen = known
            .pods
            .entry(attempt)
            .or_insert_with(|| Seen::new(pod.namespace().unwrap_or_default()));
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
        if known.pods.remove(&attempt).is_some() {
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
        known.pods.remove(&attempt);
        let state = match last {
            PodState::Ended { reason } => PodState::Ended { reason },
            PodState::Absent | PodState::Waiting(_) | PodState::Running(_) => PodState::Absent,
        };
        known.tell(attempt, state);
    }
}

impl Seen {
    fn new(namespace: String) -> Self {
        Self {
            namespace,
            state: PodState::Waiting(None),
            created: None,
            is_going: false,
            is_stuck: false,
        }
    }
}

impl State {
    fn tell(&self, attempt: AttemptId, state: PodState) {
        if let Some(seen) = &self.seen {
            // Its backend is gone, or about to be.
            let _ = seen.send((attempt, state));
        }
    }
}
