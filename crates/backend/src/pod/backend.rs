//! The backend over any host of pods. Entry type: [`PodBackend`].

use std::{
    collections::BTreeSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use pipekeeper_agent::protocol::FileLimits;
use pipekeeper_model::{AttemptId, Holder, Millis, Name, plan::Feature};
use pipekeeper_objects::ObjectStore;
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc, oneshot},
    task::{AbortHandle, JoinSet},
};

use super::{
    HoldOptions, PodHost, PodState, PodStream, PoolOptions, StreamRole,
    debug::{self, Sessions},
    held::HeldPods,
    keeper,
    lane::{Call, Lane, Order, Request},
    pool::Pool,
    streams::{StreamLimit, Streams},
};
use crate::{
    Backend, DebugOrder, EnterOrder, Entered, Launch, LaunchError, Observation, Terminal, Ticket,
    lanes::Lanes,
};

/// Streams that carry files at once; more would only keep the cluster's API server busy.
const BULK_STREAMS: usize = 8;

/// What a backend of pods is made with.
#[derive(Debug)]
pub struct PodOptions {
    /// The folder of its attempts; private to it and its successors.
    pub root: PathBuf,
    /// The folder of artifacts, by digest.
    pub artifacts: PathBuf,
    /// The image of steps that name none.
    pub default_image: Option<String>,
    /// Where archive caches are kept; none means here.
    pub objects: Option<Arc<ObjectStore>>,
    /// What plans may ask of it.
    pub features: BTreeSet<Feature>,
    /// How large what is fetched from a pod may be.
    pub limits: FileLimits,
    /// How pods stand by for further attempts; none means that each serves one.
    pub pool: Option<PoolOptions>,
    /// How the pods of failed attempts are held for people; none means that they are not.
    pub hold: Option<HoldOptions>,
    /// How control streams are shared where there are many.
    pub streams: StreamLimit,
    /// Where observations go.
    pub on_observation: mpsc::UnboundedSender<Observation>,
}

/// Runs attempts in pods.
pub struct PodBackend {
    shared: Arc<Shared>,
    /// Passes on what becomes of pods.
    watching: AbortHandle,
}

/// What the lanes of all attempts share.
pub(super) struct Shared {
    pub(super) options: PodOptions,
    pub(super) host: Arc<dyn PodHost>,
    pub(super) lanes: Lanes<Request>,
    pub(super) pool: Pool,
    pub(super) held: HeldPods,
    pub(super) streams: Streams,
    /// For the streams that carry files.
    bulk: Semaphore,
    pub(super) sessions: Sessions,
    tasks: Mutex<JoinSet<()>>,
}

impl PodBackend {
    /// Makes the backend and begins to watch. Must be called within the runtime.
    pub fn new(host: Arc<dyn PodHost>, options: PodOptions) -> Self {
        let (seen, mut states) = mpsc::unbounded_channel();
        host.watch(seen);
        let shared = Arc::new(Shared {
            streams: Streams::new(options.streams),
            options,
            host,
            lanes: Lanes::default(),
            pool: Pool::default(),
            held: HeldPods::default(),
            bulk: Semaphore::new(BULK_STREAMS),
            sessions: Sessions::default(),
            tasks: Mutex::default(),
        });
        let watched = Arc::downgrade(&shared);
        let watching = tokio::spawn(async move {
            while let Some((attempt, state)) = states.recv().await {
                let Some(shared) = watched.upgrade() else { return };
                shared.pass_on(attempt, state);
            }
        });
        Self {
            shared,
            watching: watching.abort_handle(),
        }
    }

    async fn ask(&self, attempt: AttemptId, order: Order) -> Result<(), LaunchError> {
        self.shared.ask(attempt, order).await
    }
}

#[async_trait]
impl Backend for PodBackend {
    fn supports(&self, _: &Name) -> &BTreeSet<Feature> {
        &self.shared.options.features
    }

    fn knows(&self, attempt: AttemptId) -> bool {
        self.shared.attempts_folder().join(attempt.to_string()).exists()
    }

    async fn launch(&self, launch: Launch) -> Result<(), LaunchError> {
        self.ask(launch.attempt, Order::Launch(Box::new(launch))).await
    }

    async fn answer(&self, attempt: AttemptId, holder: &Holder, ticket: Ticket) -> Result<(), LaunchError> {
        self.ask(attempt, Order::Answer(holder.clone(), ticket)).await
    }

    async fn stop(&self, attempt: AttemptId, grace: Millis) -> Result<(), LaunchError> {
        self.ask(attempt, Order::Stop(grace)).await
    }

    async fn observe(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.ask(attempt, Order::Observe).await
    }

    async fn processes(&self, attempt: AttemptId) -> Result<String, LaunchError> {
        let (teller, told) = oneshot::channel();
        self.ask(attempt, Order::Look(teller)).await?;
        crate::processes::await_told(told).await
    }

    async fn debug(&self, order: DebugOrder) -> Result<Terminal, LaunchError> {
        debug::open(&self.shared, order).await
    }

    async fn enter(&self, order: EnterOrder) -> Result<Entered, LaunchError> {
        keeper::enter(&self.shared, order).await
    }

    async fn release(&self, attempt: AttemptId) -> Result<bool, LaunchError> {
        self.shared.held.release(attempt)
    }

    async fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.ask(attempt, Order::Forget).await
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        let folder = self.shared.attempts_folder();
        let kept = tokio::task::spawn_blocking(move || crate::local::list_folder(&folder))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|error| LaunchError::Transient {
                reason: format!("list attempts: {error}"),
            })?;
        // Pods of ours that nothing here knows of are to be removed too.
        let pods = self.shared.host.list().await?;
        let is_listed = |pod: &AttemptId| !self.shared.stays(*pod);
        let pods = pods.into_iter().filter(is_listed);
        let all: BTreeSet<AttemptId> = kept.into_iter().chain(pods).collect();
        let is_listed = |attempt: &AttemptId| !self.shared.sessions.has(*attempt);
        Ok(all.into_iter().filter(is_listed).collect())
    }
}

/// The lanes end with their backend; the attempts do not.
impl Drop for PodBackend {
    fn drop(&mut self) {
        self.watching.abort();
        self.shared.lanes.clear();
        let mut tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.abort_all();
    }
}

impl Shared {
    pub(super) fn attempts_folder(&self) -> PathBuf {
        self.options.root.join("attempts")
    }

    pub(super) async fn ask(self: &Arc<Self>, attempt: AttemptId, order: Order) -> Result<(), LaunchError> {
        let (reply, answer) = oneshot::channel();
        self.send(attempt, Request::Call(Call { order, reply }));
        let lost = |_| LaunchError::Transient {
            reason: format!("the lane of `{attempt}` is closed"),
        };
        answer.await.map_err(lost)?
    }

    /// Where observations of an attempt go.
    pub(super) fn listener(&self, attempt: AttemptId) -> mpsc::UnboundedSender<Observation> {
        let session = self.sessions.listener(attempt);
        session.unwrap_or_else(|| self.options.on_observation.clone())
    }

    /// Whether the pod of this attempt is there for others, none of this attempt's business any more.
    pub(super) fn stays(&self, attempt: AttemptId) -> bool {
        self.pool.holds(attempt) || self.held.has(attempt)
    }

    fn pass_on(&self, attempt: AttemptId, state: PodState) {
        // An attempt that nobody asked for yet is looked at when somebody does.
        self.lanes.send_if_open(attempt, Request::Seen(state));
    }

    fn send(self: &Arc<Self>, attempt: AttemptId, request: Request) {
        self.lanes.send(attempt, request, |requests| {
            self.spawn(Lane::new(Arc::clone(self), attempt).run(requests));
        });
    }

    /// Opens a stream that carries files, once there are few enough of them; the permit is kept as long as it is.
    pub(super) async fn open_bulk(
        &self,
        attempt: AttemptId,
        role: StreamRole,
    ) -> io::Result<(SemaphorePermit<'_>, Box<dyn PodStream>)> {
        let permit = self.bulk.acquire().await.map_err(io::Error::other)?;
        let opened = self.host.open(attempt, role).await;
        let stream = opened.map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))?;
        Ok((permit, stream))
    }

    /// Does something that ends with the backend at the latest.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}
