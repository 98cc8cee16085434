//! The cluster as a host of pods. Entry type: [`KubeHost`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::AsyncReadExt;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, LogParams, PostParams},
};
use pipekeeper_backend::{
    LaunchError,
    pod::{OpenError, PodHost, PodPlan, PodState, PodStream, StreamRole},
};
use pipekeeper_model::AttemptId;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};

use crate::{ClusterOptions, exec, judge, names, refusal, render, render_pod, watch};

/// How long a supervisor takes to be reachable, as long as nothing was learned.
const FIRST_GUESS: Duration = Duration::from_millis(450);
/// Streams are tried this much before they usually open.
const HEAD_START: Duration = Duration::from_millis(40);
/// How long a call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a log that are recovered; a node keeps less, unless its owner set it up otherwise.
const LOG_LIMIT: u64 = 100 << 20;
/// Seconds that a removed pod gets; what ran in it has ended.
const REMOVAL_GRACE: u32 = 1;

/// One cluster.
pub struct KubeHost {
    inner: Arc<Inner>,
}

/// What calls and watches share.
pub(crate) struct Inner {
    pub(crate) client: Client,
    /// A client with connections of its own: the API server hangs up after a stream that did not open, without a word,
    /// and the next request on that connection would fail.
    streams: Client,
    pub(crate) cluster: ClusterOptions,
    known: Mutex<Known>,
    listed: Notify,
    calls: Calls,
}

/// What was asked of the cluster so far, its watches apart.
#[derive(Debug, Default)]
struct Calls {
    answered: AtomicU64,
    early: AtomicU64,
}

#[derive(Default)]
struct Known {
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

impl KubeHost {
    /// A host of pods, reached as this configuration says. `namespaces` are those that may hold pods of ours from before.
    /// Nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// If the configuration cannot be used.
    pub fn new(
        config: Config,
        cluster: ClusterOptions,
        namespaces: impl IntoIterator<Item = String>,
    ) -> Result<Self, kube::Error> {
        // What is tried again, and when, is the outbox's business.
        let mut config = config;
        config.default_retry = false;
        let known = Known {
            namespaces: namespaces
                .into_iter()
                .map(|namespace| (namespace, false))
                .collect(),
            ..Known::default()
        };
        Ok(Self {
            inner: Arc::new(Inner {
                client: Client::try_from(config.clone())?,
                streams: Client::try_from(config)?,
                cluster,
                known: Mutex::new(known),
                listed: Notify::new(),
                calls: Calls::default(),
            }),
        })
    }

    /// How many requests the cluster answered so far, streams among them, and how many streams it refused because the
    /// container did not run yet.
    pub fn calls(&self) -> (u64, u64) {
        let Calls { answered, early } = &self.inner.calls;
        (answered.load(Ordering::Relaxed), early.load(Ordering::Relaxed))
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.inner.client.clone(), namespace)
    }

    fn name(&self, attempt: AttemptId) -> String {
        names::pod_name(&self.inner.cluster.instance, attempt)
    }

    /// The namespace of an attempt's pod. One that nothing is known of yet is looked for in all that may hold it.
    async fn namespace(&self, attempt: AttemptId) -> Result<Option<String>, LaunchError> {
        let known = || {
            self.inner
                .known()
                .pods
                .get(&attempt)
                .map(|seen| seen.namespace.clone())
        };
        if let Some(namespace) = known() {
            return Ok(Some(namespace));
        }
        if timeout(CALL_LIMIT, self.inner.all_listed()).await.is_err() {
            let unlisted = self.inner.unlisted().join("`, `");
            let reason =
                format!("the pods in `{unlisted}` are not known yet: the cluster does not list them");
            return Err(LaunchError::Transient { reason });
        }
        Ok(known())
    }

    /// Watches a namespace, if nobody does yet.
    fn watch_namespace(&self, namespace: &str) {
        let is_new = !self.inner.known().namespaces.contains_key(namespace);
        if is_new {
            self.inner.known().namespaces.insert(namespace.to_owned(), false);
            self.spawn_watch(namespace);
        }
    }

    fn spawn_watch(&self, namespace: &str) {
        let pods = self.pods(namespace);
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(watch::watch(inner, pods, namespace.to_owned()));
    }

    /// Makes the claims that a pod's volumes want, unless they are there.
    async fn make_claims(&self, plan: &PodPlan, namespace: &str) -> Result<(), LaunchError> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.inner.client.clone(), namespace);
        for claim in render::claims(plan, &self.inner.cluster) {
            match self
                .inner
                .bounded(claims.create(&PostParams::default(), &claim))
                .await
            {
                Ok(_) => {}
                Err(error) if refusal::is_conflict(&error) => {}
                Err(error) => return Err(refusal::of_create(&self.inner.cluster.name, &error, namespace)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl PodHost for KubeHost {
    async fn create(&self, plan: &PodPlan) -> Result<(), LaunchError> {
        let pod = render_pod(plan, &self.inner.cluster);
        let namespace = pod.namespace().unwrap_or_default();
        render::check(plan, &self.inner.cluster)?;
        if !plan.volumes.is_empty() {
            self.make_claims(plan, &namespace).await?;
        }
        let pods = self.pods(&namespace);
        let mut created = self
            .inner
            .bounded(pods.create(&PostParams::default(), &pod))
            .await;
        if created.as_ref().is_err_and(refusal::is_of_transport) {
            // Whether it came through or not: the name makes a second try the same as the first.
            created = self
                .inner
                .bounded(pods.create(&PostParams::default(), &pod))
                .await;
        }
        let made = match created {
            Ok(made) => made,
            Err(error) if refusal::is_conflict(&error) => {
                let name = self.name(plan.attempt);
                self.inner
                    .bounded(pods.get(&name))
                    .await
                    .map_err(|error| refusal::of_call(&self.inner.cluster.name, &error))?
            }
            Err(error) => return Err(refusal::of_create(&self.inner.cluster.name, &error, &namespace)),
        };
        if names::attempt_of(&self.inner.cluster.instance, &made) != Some(plan.attempt) {
            let name = self.name(plan.attempt);
            let reason = format!("`{name}` in `{namespace}` is another's pod");
            return Err(LaunchError::Terminal { reason });
        }
        // Not before: a namespace that nothing can be made in, or listed, would be in the way of all others.
        self.watch_namespace(&namespace);
        self.inner.created(plan.attempt, &namespace);
        self.inner.saw(&made, Timestamp::now());
        Ok(())
    }

    async fn open(&self, attempt: AttemptId, role: StreamRole) -> Result<Box<dyn PodStream>, OpenError> {
        let unreachable = |error: LaunchError| OpenError::Unreachable(error.to_string());
        let namespace = self.namespace(attempt).await.map_err(unreachable)?;
        let namespace = namespace.ok_or(OpenError::NotRunning)?;
        let pods = Api::namespaced(self.inner.streams.clone(), &namespace);
        let opened = exec::open(&pods, &self.name(attempt), role).await;
        let counter = match &opened {
            Err(OpenError::NotRunning) => &self.inner.calls.early,
            Ok(_) | Err(OpenError::Unreachable(_)) => &self.inner.calls.answered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let stream = opened?;
        self.inner.opened(attempt);
        Ok(stream)
    }

    async fn look(&self, attempt: AttemptId) -> Result<PodState, LaunchError> {
        let Some(namespace) = self.namespace(attempt).await? else {
            return Ok(PodState::Absent);
        };
        match self
            .inner
            .bounded(self.pods(&namespace).get(&self.name(attempt)))
            .await
        {
            Ok(pod) => {
                let now = Timestamp::now();
                self.inner.saw(&pod, now);
                Ok(watch::state_of(&self.inner, &pod, now))
            }
            Err(error) if refusal::is_not_found(&error) => Ok(PodState::Absent),
            Err(error) => Err(refusal::of_call(&self.inner.cluster.name, &error)),
        }
    }

    async fn remove(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        let Some(namespace) = self.namespace(attempt).await? else {
            return Ok(());
        };
        if self.inner.is_going(attempt) {
            return Ok(());
        }
        // A node that does not answer would keep it for ever.
        let is_stuck = self.inner.is_stuck(attempt);
        let how = DeleteParams {
            grace_period_seconds: Some(if is_stuck { 0 } else { REMOVAL_GRACE }),
            ..DeleteParams::default()
        };
        match self
            .inner
            .bounded(self.pods(&namespace).delete(&self.name(attempt), &how))
            .await
        {
            Ok(_) => {
                if let Some(seen) = self.inner.known().pods.get_mut(&attempt) {
                    seen.is_going = true;
                }
                Ok(())
            }
            Err(error) if refusal::is_not_found(&error) => {
                self.inner.known().pods.remove(&attempt);
                Ok(())
            }
            Err(error) => Err(refusal::of_call(&self.inner.cluster.name, &error)),
        }
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        let namespaces: Vec<String> = self.inner.known().namespaces.keys().cloned().collect();
        for namespace in namespaces {
            self.inner
                .bounded(watch::list(&self.inner, &self.pods(&namespace), &namespace))
                .await
                .map_err(|error| refusal::of_call(&self.inner.cluster.name, &error))?;
        }
        let known = self.inner.known();
        let staying = known.pods.iter().filter(|(_, seen)| !seen.is_going);
        Ok(staying.map(|(attempt, _)| *attempt).collect())
    }

    async fn recover_log(&self, attempt: AttemptId) -> Result<Vec<u8>, LaunchError> {
        let missing = || LaunchError::Terminal {
            reason: "there is no pod".to_owned(),
        };
        let namespace = self.namespace(attempt).await?.ok_or_else(missing)?;
        let how = LogParams {
            container: Some(names::AGENT.to_owned()),
            ..LogParams::default()
        };
        let (pods, name) = (self.pods(&namespace), self.name(attempt));
        let reading = async {
            let mut bytes = Vec::new();
            let stream = pods.log_stream(&name, &how).await?;
            stream
                .take(LOG_LIMIT)
                .read_to_end(&mut bytes)
                .await
                .map_err(kube::Error::ReadEvents)?;
            Ok(bytes)
        };
        self.inner
            .bounded(reading)
            .await
            .map_err(|error| refusal::of_call(&self.inner.cluster.name, &error))
    }

    async fn container_end(
        &self,
        attempt: AttemptId,
        container: usize,
    ) -> Result<Option<String>, LaunchError> {
        let Some(namespace) = self.namespace(attempt).await? else {
            return Ok(None);
        };
        let pods = self.pods(&namespace);
        let pod = self.inner.bounded(pods.get(&self.name(attempt))).await;
        let pod = pod.map_err(|error| refusal::of_call(&self.inner.cluster.name, &error))?;
        Ok(judge::container_end(&pod, container))
    }

    fn watch(&self, seen: mpsc::UnboundedSender<(AttemptId, PodState)>) {
        let namespaces: Vec<String> = {
            let mut known = self.inner.known();
            known.seen = Some(seen);
            known.namespaces.keys().cloned().collect()
        };
        for namespace in namespaces {
            self.spawn_watch(&namespace);
        }
    }

    fn usual_start(&self) -> Duration {
        let usual = self.inner.known().usual_start.unwrap_or(FIRST_GUESS);
        usual.saturating_sub(HEAD_START)
    }
}

/// A call to the cluster that does not answer is an error.
pub(crate) async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let silence = |_| kube::Error::Service("the cluster does not answer".into());
    timeout(CALL_LIMIT, call).await.map_err(silence)?
}

impl Inner {
    /// A call to the cluster that counts.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
        self.calls.answered.fetch_add(1, Ordering::Relaxed);
        bounded(call).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_going(&self, attempt: AttemptId) -> bool {
        self.known().pods.get(&attempt).is_some_and(|seen| seen.is_going)
    }

    fn is_stuck(&self, attempt: AttemptId) -> bool {
        self.known().pods.get(&attempt).is_some_and(|seen| seen.is_stuck)
    }

    /// The namespaces that were never listed.
    fn unlisted(&self) -> Vec<String> {
        let known = self.known();
        let unlisted = known.namespaces.iter().filter(|(_, listed)| !**listed);
        unlisted.map(|(namespace, _)| namespace.clone()).collect()
    }

    /// Waits until every namespace was listed once.
    async fn all_listed(&self) {
        loop {
            let listed = self.listed.notified();
            if self.known().namespaces.values().all(|listed| *listed) {
                return;
            }
            listed.await;
        }
    }

    pub(crate) fn listed(&self, namespace: &str) {
        self.known().namespaces.insert(namespace.to_owned(), true);
        self.listed.notify_waiters();
    }

    pub(crate) fn known_in(&self, namespace: &str) -> BTreeSet<AttemptId> {
        let known = self.known();
        let here = known.pods.iter().filter(|(_, seen)| seen.namespace == namespace);
        here.map(|(attempt, _)| *attempt).collect()
    }

    fn created(&self, attempt: AttemptId, namespace: &str) {
        let seen = Seen {
            namespace: namespace.to_owned(),
            state: PodState::Waiting(None),
            created: Some(Instant::now()),
            is_going: false,
            is_stuck: false,
        };
        self.known().pods.entry(attempt).or_insert(seen);
    }

    /// Learns how long it took until the supervisor could be reached.
    fn opened(&self, attempt: AttemptId) {
        let mut known = self.known();
        let Some(took) = known
            .pods
            .get_mut(&attempt)
            .and_then(|seen| seen.created.take())
            .map(|created| created.elapsed())
        else {
            return;
        };
        // One slow pull tells nothing of the next pod.
        let took = took.min(FIRST_GUESS * 4);
        let before = known.usual_start.unwrap_or(took);
        known.usual_start = Some((before * 3 + took) / 4);
    }

    /// Takes in what a list or a watch shows; the attempt, if it is one of ours.
    pub(crate) fn saw(&self, pod: &Pod, now: Timestamp) -> Option<AttemptId> {
        let attempt = names::attempt_of(&self.cluster.instance, pod)?;
        let state = watch::state_of(self, pod, now);
        let mut known = self.known();
        let namespace = pod.namespace().unwrap_or_default();
        let seen = known.pods.entry(attempt).or_insert_with(|| Seen {
            namespace,
            state: PodState::Waiting(None),
            created: None,
            is_going: false,
            is_stuck: false,
        });
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
        let mut known = self.known();
        if known.pods.remove(&attempt).is_some() {
            known.tell(attempt, PodState::Absent);
        }
    }

    /// A pod was deleted; how it stood tells more than that.
    pub(crate) fn deleted(&self, attempt: AttemptId, pod: &Pod) {
        let last = watch::state_of(self, pod, Timestamp::now());
        let mut known = self.known();
        known.pods.remove(&attempt);
        let state = match last {
            PodState::Ended { reason } => PodState::Ended { reason },
            PodState::Absent | PodState::Waiting(_) | PodState::Running(_) => PodState::Absent,
        };
        known.tell(attempt, state);
    }
}

impl Known {
    fn tell(&self, attempt: AttemptId, state: PodState) {
        if let Some(seen) = &self.seen {
            // Its backend is gone, or about to be.
            let _ = seen.send((attempt, state));
        }
    }
}
