//! The cluster as a host of pods. Entry type: [`KubeHost`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::AsyncReadExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, LogParams},
};
use pipekeeper_backend::{
    LaunchError, Placement, TerminalSize,
    pod::{LogOf, OpenError, Opened, PodHost, PodPlan, PodSharing, PodState, PodStream, StreamRole},
};
use pipekeeper_model::AttemptId;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    ClusterOptions,
    calls::{self, Calls},
    exec, judge,
    known::{Known, PodPlace},
    lending::Place,
    listings::Need,
    loosened::loosened,
    names,
    pulling::Pulling,
    refusal, render, render_pod,
    tenancy::Tenancy,
    watch,
};

/// Streams are tried this much before they usually open.
const HEAD_START: Duration = Duration::from_millis(40);
/// Bytes of a log that are recovered; a node keeps less, unless its owner set it up otherwise.
const LOG_LIMIT: u64 = 100 << 20;
/// Seconds that a removed pod gets; what ran in it has ended.
const REMOVAL_GRACE: u32 = 1;

/// One cluster.
pub struct KubeHost {
    client: Client,
    /// A client with connections of its own: the API server hangs up after a stream that did not open, without a word,
    /// and the next request on that connection would fail.
    streams: Client,
    cluster: ClusterOptions,
    /// Shared with the watches, which end with it.
    known: Arc<Known>,
    calls: Calls,
    /// None if namespaces are made by people.
    tenancy: Option<Tenancy>,
    /// Where the API server is; none if that is not known.
    place: Option<Place>,
    pulling: Pulling,
    /// For whoever makes a pod that wants a volume to itself.
    turn: tokio::sync::Mutex<()>,
}

/// How a namespace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceState {
    /// We see its pods.
    Open,
    /// It is not there, and we shall make it.
    Absent,
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
        let client = Client::try_from(config.clone())?;
        let streams = Client::try_from(config.clone())?;
        Ok(Self::with((client, streams), Some(&config), cluster, namespaces))
    }

    /// A cluster that cannot be reached, for this reason: what its pods do is not known, and nothing of them is given up.
    pub fn away(
        reason: String,
        cluster: ClusterOptions,
        namespaces: impl IntoIterator<Item = String>,
    ) -> Self {
        let away = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let reason = reason.clone();
            async move { Err::<http::Response<kube::client::Body>, _>(tower::BoxError::from(reason)) }
        });
        let client = Client::new(away, "default");
        Self::with((client.clone(), client), None, cluster, namespaces)
    }

    fn with(
        (client, streams): (Client, Client),
        config: Option<&Config>,
        cluster: ClusterOptions,
        namespaces: impl IntoIterator<Item = String>,
    ) -> Self {
        let server = config.and_then(|config| config.cluster_url.host());
        let tenancy = Tenancy::new(client.clone(), &cluster, server);
        let known = Known::new(cluster.instance.clone(), cluster.patience, namespaces);
        Self {
            client,
            streams,
            cluster,
            known: Arc::new(known),
            calls: Calls::default(),
            tenancy,
            place: config.map(Place::new),
            pulling: Pulling::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn place_of_server(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    pub(crate) fn pulling(&self) -> &Pulling {
        &self.pulling
    }

    /// How many requests the cluster answered so far, streams among them, and how many streams it refused because the
    /// container did not run yet.
    pub fn calls(&self) -> (u64, u64) {
        self.calls.so_far()
    }

    pub(crate) fn cluster(&self) -> &ClusterOptions {
        &self.cluster
    }

    pub(crate) fn counted(&self) -> &Calls {
        &self.calls
    }

    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn tenancy(&self) -> Option<&Tenancy> {
        self.tenancy.as_ref()
    }

    pub(crate) fn api<T>(&self, namespace: &str) -> Api<T>
    where
        T: kube::Resource<Scope = NamespaceResourceScope>,
        T::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Namespaces that hold pods of ours only if they are there, and open to us: one that is not counts as empty.
    pub fn may_use(&self, namespaces: impl IntoIterator<Item = String>) {
        for namespace in namespaces {
            self.known.listings.add(&namespace, Need::Possible);
        }
    }

    /// How each namespace stands that is expected to hold pods of ours, for people who ask.
    pub async fn inspect(&self) -> Vec<(String, Result<NamespaceState, LaunchError>)> {
        let mut states = Vec::new();
        for namespace in self.known.listings.expected() {
            let listed = watch::list(&self.known, &self.watched(&namespace)).await;
            let state = match listed {
                Ok(_) => self.stands(&namespace).await,
                Err(_) if self.known.listings.is_absent(&namespace) => Ok(NamespaceState::Absent),
                Err(error) => Err(refusal::of_call(&self.cluster.name, &error)),
            };
            states.push((namespace, state));
        }
        states
    }

    /// How a namespace stands whose pods are listed: one that is not there has none, for whoever may list all.
    async fn stands(&self, namespace: &str) -> Result<NamespaceState, LaunchError> {
        let all: Api<Namespace> = Api::all(self.client.clone());
        match self.calls.bounded(all.get_opt(namespace)).await {
            Ok(None) if self.tenancy.is_some() => Ok(NamespaceState::Absent),
            Ok(None) => Err(LaunchError::Terminal {
                reason: format!("the cluster `{}` has no such namespace", self.cluster.name),
            }),
            // Who may not ask would not have been let list either, were it not there.
            Ok(Some(_)) | Err(_) => Ok(NamespaceState::Open),
        }
    }

    /// Where an attempt's pod is, as far as we see. One that nothing is known of yet is looked for in all namespaces that
    /// may hold it.
    async fn found(&self, attempt: AttemptId) -> Result<Option<PodPlace>, LaunchError> {
        let known = self.known.place_of(attempt);
        if known.is_some() {
            return Ok(known);
        }
        let listings = &self.known.listings;
        let home = self.known.home_of(attempt);
        let answered = async {
            match &home {
                Some(home) => listings.answered(home).await,
                None => listings.all_answered().await,
            }
        };
        if timeout(calls::LIMIT, answered).await.is_err() {
            let awaited = home.unwrap_or_else(|| listings.awaited().join("`, `"));
            let reason = format!("the pods in `{awaited}` are not known yet: the cluster does not list them");
            return Err(LaunchError::Transient { reason });
        }
        Ok(self.known.place_of(attempt))
    }

    /// The same, where it matters that a pod that is not seen may be there.
    pub(crate) async fn place(&self, attempt: AttemptId) -> Result<Option<PodPlace>, LaunchError> {
        let found = self.found(attempt).await?;
        let home = self.known.home_of(attempt);
        match self.known.listings.hidden(home.as_deref()) {
            Some(reason) if found.is_none() => Err(LaunchError::Transient { reason }),
            Some(_) | None => Ok(found),
        }
    }

    /// Whether an attempt has another pod than the one that would be made for it: one that served another before.
    async fn has_been_handed(&self, attempt: AttemptId, made: &PodPlace) -> bool {
        // A namespace that cannot be listed shows nothing, and says so elsewhere.
        let _ = timeout(calls::LIMIT, self.known.listings.answered(&made.namespace)).await;
        self.known.place_of(attempt).is_some_and(|place| place != *made)
    }

    /// Watches a namespace, if nobody does yet.
    fn watch_namespace(&self, namespace: &str) {
        if self.known.listings.add(namespace, Need::Expected) {
            self.spawn_watch(namespace);
        }
    }

    fn spawn_watch(&self, namespace: &str) {
        tokio::spawn(watch::watch(Arc::downgrade(&self.known), self.watched(namespace)));
    }

    fn watched(&self, namespace: &str) -> watch::Watched {
        watch::Watched {
            pods: self.pods(namespace),
            cluster: self.cluster.name.clone(),
            namespace: namespace.to_owned(),
            selector: names::selector(&self.cluster.instance),
            // Only then may it be absent without anything being wrong.
            namespaces: self.tenancy.is_some().then(|| Api::all(self.client.clone())),
        }
    }

    /// No step runs in a pod that may do more than we asked for. It goes now, or with the attempt's other remains.
    async fn refuse_loosened(&self, attempt: AttemptId, place: PodPlace, what: &str) -> LaunchError {
        let reason = format!(
            "the cluster changed the pod `{}` in `{}` so that it may do more than asked for: {what}; take this namespace out of the admission webhook that does it",
            place.name, place.namespace
        );
        self.known.created(attempt, place);
        if let Err(error) = self.remove(attempt).await {
            tracing::info!(attempt.id = %attempt, "its pod is removed later: {error}");
        }
        LaunchError::Terminal { reason }
    }

    /// Puts right what is in a namespace, if that is our business. What is in the way is told, and hides nothing else.
    async fn tend(&self, namespace: &str) {
        let Some(tenancy) = &self.tenancy else { return };
        if let Err(error) = tenancy.tend(namespace).await {
            tracing::warn!(cluster = %self.cluster.name, namespace, "{error}");
        }
    }
}

#[async_trait]
impl PodHost for KubeHost {
    async fn create(&self, plan: &PodPlan) -> Result<(), LaunchError> {
        let pod = render_pod(plan, &self.cluster);
        let namespace = pod.namespace().unwrap_or_default();
        render::check(plan, &self.cluster)?;
        let place = PodPlace {
            name: pod.name_any(),
            namespace: namespace.clone(),
        };
        if self.has_been_handed(plan.attempt, &place).await {
            return Ok(());
        }
        self.known.was_to_be(plan.attempt, namespace.clone());
        // What one server makes itself, it makes one after the other; what another makes shows before the ticket.
        let _one_at_a_time = if plan.wants_alone() {
            let turn = self.turn.lock().await;
            self.find_room(&pod).await?;
            Some(turn)
        } else {
            None
        };
        let made = self.make_with_namespace(plan, &pod, &place).await?;
        if names::attempt_of(&self.cluster.instance, &made) != Some(plan.attempt) {
            let reason = format!("`{}` in `{namespace}` is another's pod", place.name);
            return Err(LaunchError::Terminal { reason });
        }
        if let Some(what) = loosened(&pod, &made) {
            return Err(self.refuse_loosened(plan.attempt, place, &what).await);
        }
        // Not before: a namespace that nothing can be made in, or listed, would be in the way of all others.
        self.watch_namespace(&namespace);
        self.known.created(plan.attempt, place);
        self.known.saw(&made, Timestamp::now());
        Ok(())
    }

    fn home(&self, placement: &Placement) -> Option<String> {
        Some(self.cluster.namespaces.of(placement))
    }

    fn was_to_be(&self, attempt: AttemptId, home: &str) {
        self.known.was_to_be(attempt, home.to_owned());
    }

    async fn open(&self, attempt: AttemptId, role: StreamRole) -> Result<Box<dyn PodStream>, OpenError> {
        let unreachable = |error: LaunchError| OpenError::Unreachable(error.to_string());
        let place = self.place(attempt).await.map_err(unreachable)?;
        let PodPlace { namespace, name } = place.ok_or(OpenError::NotRunning)?;
        let pods = Api::namespaced(self.streams.clone(), &namespace);
        let opened = exec::open(&pods, &name, role).await;
        match &opened {
            Err(OpenError::NotRunning) => {
                self.calls.early();
                self.known.was_early(attempt);
            }
            Ok(_) | Err(OpenError::Unreachable(_)) => self.calls.answered(),
        }
        let stream = opened?;
        self.known.opened(attempt);
        Ok(stream)
    }

    async fn terminal(
        &self,
        attempt: AttemptId,
        container: usize,
        words: &[&str],
        size: TerminalSize,
    ) -> Result<Opened, OpenError> {
        let unreachable = |error: LaunchError| OpenError::Unreachable(error.to_string());
        let place = self.place(attempt).await.map_err(unreachable)?;
        let PodPlace { namespace, name } = place.ok_or(OpenError::NotRunning)?;
        let pods = Api::namespaced(self.streams.clone(), &namespace);
        exec::terminal(&pods, &name, container, words, size).await
    }

    async fn look(&self, attempt: AttemptId) -> Result<PodState, LaunchError> {
        let Some(PodPlace { namespace, name }) = self.place(attempt).await? else {
            return Ok(PodState::Absent);
        };
        match self.calls.bounded(self.pods(&namespace).get(&name)).await {
            Ok(pod) => {
                let now = Timestamp::now();
                self.known.saw(&pod, now);
                Ok(self.known.state_of(&pod, now))
            }
            Err(error) if refusal::is_not_found(&error) => Ok(PodState::Absent),
            Err(error) => Err(refusal::of_call(&self.cluster.name, &error)),
        }
    }

    async fn occupant(&self, attempt: AttemptId) -> Result<Option<String>, LaunchError> {
        self.occupant_of(attempt).await
    }

    async fn remove(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        // One that hides in a namespace that cannot be seen is removed by the first sweep that sees it.
        let Some(PodPlace { namespace, name }) = self.found(attempt).await? else {
            self.known.forget(attempt);
            return Ok(());
        };
        if self.known.is_going(attempt) {
            return Ok(());
        }
        // A node that does not answer would keep it for ever, and an old one an ended pod for half a minute.
        let at_once = self.known.goes_at_once(attempt);
        let how = DeleteParams {
            grace_period_seconds: Some(if at_once { 0 } else { REMOVAL_GRACE }),
            ..DeleteParams::default()
        };
        match self
            .calls
            .bounded(self.pods(&namespace).delete(&name, &how))
            .await
        {
            Ok(_) => {
                self.known.told_to_go(attempt);
                Ok(())
            }
            Err(error) if refusal::is_not_found(&error) => {
                self.known.forget(attempt);
                Ok(())
            }
            Err(error) => Err(refusal::of_call(&self.cluster.name, &error)),
        }
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        for namespace in self.known.listings.there() {
            self.tend(&namespace).await;
            self.remove_pull_secret(&namespace).await;
            let watched = self.watched(&namespace);
            match self.calls.bounded(watch::list(&self.known, &watched)).await {
                Ok(_) => {}
                // It hides its own pods, and no others; people were told.
                Err(error) if refusal::is_refused(&error) => {}
                Err(error) => return Err(refusal::of_call(&self.cluster.name, &error)),
            }
        }
        Ok(self.known.staying())
    }

    async fn container_log(&self, attempt: AttemptId, of: LogOf<'_>) -> Result<Vec<u8>, LaunchError> {
        let missing = || LaunchError::Terminal {
            reason: "there is no pod".to_owned(),
        };
        let PodPlace { namespace, name } = self.place(attempt).await?.ok_or_else(missing)?;
        let how = LogParams {
            container: Some(match of {
                LogOf::Supervisor => names::AGENT.to_owned(),
                LogOf::Service(service) => PodPlan::service_name(service),
            }),
            tail_lines: of.lines().map(i64::from),
            ..LogParams::default()
        };
        let pods = self.pods(&namespace);
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
        self.calls
            .bounded(reading)
            .await
            .map_err(|error| refusal::of_call(&self.cluster.name, &error))
    }

    async fn container_end(
        &self,
        attempt: AttemptId,
        container: usize,
    ) -> Result<Option<String>, LaunchError> {
        let Some(PodPlace { namespace, name }) = self.place(attempt).await? else {
            return Ok(None);
        };
        let pods = self.pods(&namespace);
        let pod = self.calls.bounded(pods.get(&name)).await;
        let pod = pod.map_err(|error| refusal::of_call(&self.cluster.name, &error))?;
        Ok(judge::container_end(&pod, container))
    }

    fn watch(&self, seen: mpsc::UnboundedSender<(AttemptId, PodState)>) {
        self.known.tell(seen);
        for namespace in self.known.listings.there() {
            self.spawn_watch(&namespace);
        }
    }

    fn usual_start(&self) -> Duration {
        self.known.usual_start().saturating_sub(HEAD_START)
    }

    fn has_left(&self, attempt: AttemptId) {
        self.known.left(attempt);
    }

    fn sharing(&self) -> Option<&dyn PodSharing> {
        Some(self)
    }
}
