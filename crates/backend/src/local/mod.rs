//! The local backend: every attempt is a process group of its own under a supervisor, with its state in files.
//!
//! It schedules nothing and stores nothing about runs. Entry type: [`LocalBackend`].
//!
//! ```text
//! root/attempts/r57-n3-a1/   spec.json sock alive ticket exit.json …   made by mkdir: the second launch adopts
//! root/spare/…               supervisors without an attempt; a launch renames one's folder
//! root/kept/r57-n3-a1/       what is left for people after the attempt was forgotten
//! artifacts/ab/abcdef….tar.zst
//! ```
//! `alive` is locked from before a supervisor is spawned until it is gone, so its lock and the files beside it always
//! tell what became of an attempt, whoever died, and two backends on one root cannot start it twice.

mod files;
mod folder;
mod forget;
mod lane;
mod leftovers;
mod reach;
mod spares;
mod supervisor;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_model::{AttemptId, Holder, Millis, Name, plan::Feature};
use tokio::sync::{mpsc, oneshot};

pub use folder::keep_apart;

use self::{
    files::with_files,
    lane::{Lane, Order, Request},
    spares::Spares,
};
use crate::{Backend, Capacity, Launch, LaunchError, Observation, Ticket, lanes::Lanes};

/// What a local backend is made with.
#[derive(Debug)]
pub struct LocalOptions {
    /// The folder of its attempts; private to it and its successors.
    pub root: PathBuf,
    /// The folder of artifacts, by digest.
    pub artifacts: PathBuf,
    /// How a supervisor is started.
    pub agent: AgentProgram,
    /// The host's variables that every attempt sees, `PATH` among them.
    pub host_env: BTreeMap<String, String>,
    /// How many attempts may be at work at once.
    pub attempts: NonZeroUsize,
    /// Where observations go.
    pub on_observation: mpsc::UnboundedSender<Observation>,
}

/// How many attempts may be at work at once on this host unless somebody says otherwise: four for each of its processors, for
/// most of them wait for something else most of the time, and at least eight.
pub fn usual_attempts() -> NonZeroUsize {
    const LEAST: NonZeroUsize = NonZeroUsize::new(8).unwrap();
    const EACH: NonZeroUsize = NonZeroUsize::new(4).unwrap();
    std::thread::available_parallelism()
        .map_or(LEAST, |processors| processors.saturating_mul(EACH).max(LEAST))
}

/// The program that supervises attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; `--dir DIR` is added.
    pub args: Vec<String>,
}

/// Runs attempts as processes of this host.
#[derive(Debug)]
pub struct LocalBackend {
    shared: Arc<Shared>,
    features: BTreeSet<Feature>,
}

/// What the lanes of all attempts share.
#[derive(Debug)]
struct Shared {
    options: LocalOptions,
    lanes: Lanes<Request>,
    spares: Spares,
}

impl LocalBackend {
    /// Makes the backend; nothing is touched before the first call.
    pub fn new(options: LocalOptions) -> Self {
        // Supervisors run elsewhere: what they are told must not depend on our working folder.
        let options = LocalOptions {
            root: absolute(&options.root),
            artifacts: absolute(&options.artifacts),
            ..options
        };
        Self {
            shared: Arc::new(Shared {
                options,
                lanes: Lanes::default(),
                spares: Spares::default(),
            }),
            features: BTreeSet::from([Feature::Secrets]),
        }
    }

    /// Where the workspace and all else of a forgotten attempt is kept, if it was to be kept.
    pub fn kept_folder(root: &Path, attempt: AttemptId) -> PathBuf {
        root.join("kept").join(attempt.to_string())
    }

    /// Begins to start the supervisor of an attempt that will be launched soon; whoever then launches waits less.
    pub fn expect_attempt(&self) {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.spares.expect_one(&shared.options) {
                tracing::debug!(%error, "no spare supervisor was started");
            }
        });
    }

    async fn ask(&self, attempt: AttemptId, order: Order) -> Result<(), LaunchError> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(attempt, Request { order, reply });
        let lost = |_| LaunchError::Transient {
            reason: format!("the lane of `{attempt}` is closed"),
        };
        answer.await.map_err(lost)?
    }
}

#[async_trait]
impl Backend for LocalBackend {
    fn supports(&self, _: &Name) -> &BTreeSet<Feature> {
        &self.features
    }

    fn capacity(&self, _: &Name, _: Option<&Name>) -> Option<Capacity> {
        Some(Capacity {
            place: 0,
            attempts: self.shared.options.attempts,
        })
    }

    fn knows(&self, attempt: AttemptId) -> bool {
        self.shared.attempts_folder().join(attempt.to_string()).exists()
    }

    async fn launch(&self, launch: Launch) -> Result<(), LaunchError> {
        let spec = with_files(&launch, &self.shared.options);
        self.ask(launch.attempt, Order::Launch(Box::new(spec))).await
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

    async fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.ask(attempt, Order::Forget).await
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        let folder = self.shared.attempts_folder();
        blocking(move || list_folder(&folder))
            .await
            .map_err(|error| to_launch_error("list attempts", &error))
    }
}

/// The lanes end with their backend; the attempts do not.
impl Drop for LocalBackend {
    fn drop(&mut self) {
        self.shared.lanes.clear();
    }
}

impl Shared {
    fn attempts_folder(&self) -> PathBuf {
        self.options.root.join("attempts")
    }

    fn send(self: &Arc<Self>, attempt: AttemptId, request: Request) {
        self.lanes.send(attempt, request, |requests| {
            tokio::spawn(Lane::new(Arc::clone(self), attempt).run(requests));
        });
    }

    /// Sees to it that the next launches find a supervisor waiting.
    fn refill(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let attempts = shared.lanes.count();
            if let Err(error) = shared.spares.refill(&shared.options, attempts) {
                tracing::debug!(%error, "no spare supervisor was started");
            }
        });
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub(crate) fn list_folder(folder: &Path) -> io::Result<Vec<AttemptId>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut attempts = Vec::new();
    for entry in entries {
        attempts.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<AttemptId>().ok()),
        );
    }
    attempts.sort_unstable();
    Ok(attempts)
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn to_launch_error(doing: &str, error: &io::Error) -> LaunchError {
    let reason = format!("{doing}: {error}");
    let hopeless = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename
            | io::ErrorKind::ReadOnlyFilesystem
    );
    if hopeless {
        LaunchError::Terminal { reason }
    } else {
        LaunchError::Transient { reason }
    }
}
