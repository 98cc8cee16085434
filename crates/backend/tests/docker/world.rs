//! An instance of its own on an engine, and a folder for what the server keeps.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::{API_DEFAULT_VERSION, Docker};
use pipekeeper_backend::{
    Backend, Launch, Observation,
    docker::{AgentImage, DockerHost, DockerOptions, Patience},
    pod::{FileLimits, PodBackend, PodHost, PodOptions, StreamLimit},
    suite::{Act, Session, World, launch_of},
};
use pipekeeper_model::{AttemptId, AttemptRecord, plan::Resources};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Which engine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Docker,
    /// The one that tests may break.
    DockerSecond,
    Podman,
}

/// A world on an engine; what is left of it there is removed at the end.
pub(crate) struct EngineWorld {
    folder: TempDir,
    pub(crate) options: DockerOptions,
}

/// An image of the test registry.
pub(crate) fn image(name: &str) -> String {
    format!("{}/{name}", std::env::var("PIPE_TEST_REGISTRY").unwrap())
}

impl EngineWorld {
    /// A world; none, with a word about it, if there is no such engine.
    pub(crate) fn new(engine: Engine) -> Option<Self> {
        let variable = match engine {
            Engine::Docker => "PIPE_TEST_DOCKER",
            Engine::DockerSecond => "PIPE_TEST_DOCKER_SECOND",
            Engine::Podman => "PIPE_TEST_PODMAN",
        };
        let read = |name: &str| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                eprintln!("SKIPPED: no engine: set {name}, as `scripts/dev-docker env` prints it");
            }
            value
        };
        let (socket, agent) = (read(variable)?, read("PIPE_TEST_AGENT_PROGRAM")?);
        read("PIPE_TEST_REGISTRY")?;
        let folder = tempfile::tempdir().unwrap();
        let unique = folder.path().file_name().unwrap().to_str().unwrap();
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let options = DockerOptions {
            socket,
            instance: unique.to_lowercase(),
            agent: AgentImage::Program(PathBuf::from(agent)),
            network: None,
            default_resources: Resources::default(),
            patience: Patience {
                missing_image: Duration::from_secs(1),
                start: Duration::from_secs(1),
                ..Patience::default()
            },
        };
        Some(Self { folder, options })
    }

    pub(crate) fn log_path(&self, attempt: AttemptId) -> PathBuf {
        self.folder.path().join(format!("{attempt}.log"))
    }

    pub(crate) fn log(&self, attempt: AttemptId) -> String {
        std::fs::read_to_string(self.log_path(attempt)).unwrap_or_default()
    }

    pub(crate) fn artifacts(&self) -> PathBuf {
        self.folder.path().join("artifacts")
    }

    /// A launch of one step in `busybox`.
    pub(crate) fn launch(&self, attempt: AttemptId, text: &str) -> Launch {
        launch_of(attempt, text, &self.log_path(attempt))
    }

    /// Runs an attempt to its end.
    pub(crate) async fn run(&self, launch: Launch) -> AttemptRecord {
        let mut session = Session::open(self);
        let attempt = launch.attempt;
        session.backend.launch(launch).await.unwrap();
        let holder = session.checked_in(attempt).await;
        session.go(attempt, &holder).await;
        session.finished(attempt).await
    }

    /// The engine itself.
    pub(crate) fn docker(&self) -> Docker {
        Docker::connect_with_unix(&self.options.socket, 60, API_DEFAULT_VERSION).unwrap()
    }

    /// The name of a container.
    pub(crate) fn container(&self, attempt: AttemptId, role: &str) -> String {
        format!("pipe-{attempt}-{}-{role}", self.options.instance)
    }
}

impl Drop for EngineWorld {
    fn drop(&mut self) {
        let host = DockerHost::new(self.options.clone());
        let removal = async move {
            for attempt in host.list().await? {
                host.remove(attempt).await?;
            }
            Ok::<(), pipekeeper_backend::LaunchError>(())
        };
        let removed = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removal));
        if let Err(error) = removed {
            eprintln!("containers are left: {error}");
        }
    }
}

impl World for EngineWorld {
    fn open(&self) -> (Arc<dyn Backend>, UnboundedReceiver<Observation>) {
        let (on_observation, observations) = unbounded_channel();
        let host = DockerHost::new(self.options.clone());
        let options = PodOptions {
            root: self.folder.path().join("root"),
            artifacts: self.artifacts(),
            default_image: Some(image("busybox:1")),
            objects: None,
            features: BTreeSet::new(),
            limits: FileLimits::default(),
            pool: None,
            hold: None,
            streams: StreamLimit::default(),
            on_observation,
        };
        (Arc::new(PodBackend::new(Arc::new(host), options)), observations)
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn text(&self, act: Act) -> String {
        let act = match act {
            Act::Succeed => "true".to_owned(),
            Act::Fail(code) => format!("exit {code}"),
            Act::Hang => "sleep 1000".to_owned(),
        };
        format!("echo user code starts\n{act}\n")
    }

    fn many(&self) -> u32 {
        20
    }

    fn starts(&self, attempt: AttemptId) -> u32 {
        let log = self.log(attempt);
        let starts = log.lines().filter(|line| *line == "user code starts").count();
        u32::try_from(starts).unwrap()
    }
}

/// Makes tests of cases that take a world, on both engines.
#[macro_export]
macro_rules! on_each_engine {
    ($($case:ident),+ $(,)?) => {
        mod docker {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(world) = $crate::world::EngineWorld::new($crate::world::Engine::Docker) {
                        super::$case(world).await;
                    }
                }
            )+
        }
        mod podman {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(world) = $crate::world::EngineWorld::new($crate::world::Engine::Podman) {
                        super::$case(world).await;
                    }
                }
            )+
        }
    };
}
