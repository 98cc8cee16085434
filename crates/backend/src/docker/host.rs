//! The engine as a host of pods. Entry type: [`DockerHost`].

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bollard::{
    container::LogOutput,
    query_parameters::{InspectContainerOptions, LogsOptionsBuilder},
};
use futures_util::{TryStreamExt, future::try_join_all};
use pipekeeper_model::AttemptId;
use tokio::{sync::mpsc, task::AbortHandle, time::sleep};

use super::{
    DockerOptions,
    agent_image::AgentImages,
    engine::{Engine, is_conflict, is_not_found, told},
    exec, judge, keeper,
    known::Known,
    names::{self, Role},
    remove::{self, volumes},
    render::render,
    view::{self, seconds_now},
    watch,
};
use crate::{
    LaunchError, TerminalSize,
    pod::{LogOf, OpenError, Opened, PodHost, PodPlan, PodState, PodStream, StreamRole, paths},
};

/// Streams open when the supervisor was started, which is known at once; only should that go unnoticed, after so long.
const UNNOTICED: Duration = Duration::from_secs(3);

/// How long a name may be taken by a container that is not there: one that is about to be, or to be gone.
const TAKEN: Duration = Duration::from_secs(10);
const TAKEN_PAUSE: Duration = Duration::from_millis(50);

/// Whether a container that was there before is the attempt's.
enum Adopted {
    Yes,
    NotThere,
}

/// One Docker or Podman engine.
pub struct DockerHost {
    inner: Arc<Inner>,
    watching: Mutex<Option<AbortHandle>>,
}

/// What calls, watch and keepers share.
pub(super) struct Inner {
    pub(super) options: DockerOptions,
    pub(super) engine: Engine,
    pub(super) images: AgentImages,
    pub(super) known: Known,
}

impl DockerHost {
    /// A host of pods on this engine. Nothing is asked of the engine yet.
    pub fn new(options: DockerOptions) -> Self {
        Self {
            inner: Arc::new(Inner {
                engine: Engine::new(options.socket.clone()),
                images: AgentImages::new(options.agent.clone()),
                known: Known::default(),
                options,
            }),
            watching: Mutex::default(),
        }
    }

    fn agent(&self, attempt: AttemptId) -> String {
        names::container(&self.inner.options.instance, attempt, &Role::Agent)
    }

    /// Makes sure that a container that was there before is this attempt's.
    async fn adopt(&self, attempt: AttemptId) -> Result<Adopted, LaunchError> {
        let engine = &self.inner.engine;
        let name = self.agent(attempt);
        let docker = engine.client().await.map_err(|error| engine.explain(&error))?;
        let container = match docker
            .inspect_container(&name, None::<InspectContainerOptions>)
            .await
        {
            Ok(container) => container,
            Err(error) if is_not_found(&error) => return Ok(Adopted::NotThere),
            Err(error) => return Err(engine.explain(&error)),
        };
        let labels = container
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        if names::attempt_of(&self.inner.options.instance, &labels) == Some(attempt) {
            return Ok(Adopted::Yes);
        }
        Err(LaunchError::Terminal {
            reason: format!(
                "`{name}` is another's container: remove it, or give this server another instance"
            ),
        })
    }
}

/// The watch and the keepers end with their host; the containers do not.
impl Drop for DockerHost {
    fn drop(&mut self) {
        let watching = self.watching.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(watching) = watching.take() {
            watching.abort();
        }
        self.inner.known.dismiss();
    }
}

#[async_trait]
impl PodHost for DockerHost {
    async fn create(&self, plan: &PodPlan) -> Result<(), LaunchError> {
        let inner = &self.inner;
        let engine = &inner.engine;
        let image = inner.images.ensure(engine, &inner.options.patience).await?;
        let pod = render(plan, &inner.options, &image, seconds_now())?;
        let docker = engine.client().await.map_err(|error| engine.explain(&error))?;
        try_join_all(pod.volumes.into_iter().map(async |volume| {
            match docker.create_volume(volume).await {
                // Podman's answer to the second of two who make it at once.
                Err(error) if told(&error).contains("already exists") => Ok(()),
                made => made.map(|_| ()),
            }
        }))
        .await
        .map_err(|error| engine.refused(&error))?;
        let begun = Instant::now();
        loop {
            match keeper::create(docker, &self.agent(plan.attempt), &pod.agent).await {
                Ok(()) => break,
                Err(error) if is_conflict(&error) => match self.adopt(plan.attempt).await? {
                    Adopted::Yes => break,
                    Adopted::NotThere if begun.elapsed() < TAKEN => sleep(TAKEN_PAUSE).await,
                    Adopted::NotThere => return Err(engine.refused(&error)),
                },
                Err(error) => return Err(engine.refused(&error)),
            }
        }
        // It has what it takes to go on, whoever finds it; this begins it.
        view::refresh(inner, plan.attempt)
            .await
            .map_err(|error| engine.explain(&error))?;
        Ok(())
    }

    async fn open(&self, attempt: AttemptId, role: StreamRole) -> Result<Box<dyn PodStream>, OpenError> {
        let engine = &self.inner.engine;
        let docker = engine
            .client()
            .await
            .map_err(|error| OpenError::Unreachable(engine.explain(&error).to_string()))?;
        exec::open(docker, &self.agent(attempt), &[paths::PROGRAM, role.argument()]).await
    }

    async fn terminal(
        &self,
        attempt: AttemptId,
        container: usize,
        words: &[&str],
        size: TerminalSize,
    ) -> Result<Opened, OpenError> {
        let engine = &self.inner.engine;
        let docker = engine
            .client()
            .await
            .map_err(|error| OpenError::Unreachable(engine.explain(&error).to_string()))?;
        let name = names::container(&self.inner.options.instance, attempt, &Role::Step(container));
        exec::terminal(docker, &name, words, size).await
    }

    async fn look(&self, attempt: AttemptId) -> Result<PodState, LaunchError> {
        view::look(&self.inner, attempt)
            .await
            .map_err(|error| self.inner.engine.explain(&error))
    }

    async fn remove(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.inner.known.going(attempt);
        remove::remove(&self.inner, attempt)
            .await
            .map_err(|error| self.inner.engine.explain(&error))
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        let explain = |error| self.inner.engine.explain(&error);
        let mut attempts: BTreeSet<AttemptId> = watch::attempts(&self.inner).await.map_err(explain)?;
        // Also those of which only volumes are left.
        let volumes = volumes(&self.inner, None).await.map_err(explain)?;
        let labels = volumes.values();
        attempts.extend(labels.filter_map(|labels| names::attempt_of(&self.inner.options.instance, labels)));
        Ok(attempts.into_iter().collect())
    }

    async fn container_end(
        &self,
        attempt: AttemptId,
        container: usize,
    ) -> Result<Option<String>, LaunchError> {
        let view = view::view(&self.inner, attempt)
            .await
            .map_err(|error| self.inner.engine.explain(&error))?;
        Ok(judge::container_end(view.status(&Role::Step(container))))
    }

    async fn container_log(&self, attempt: AttemptId, of: LogOf<'_>) -> Result<Vec<u8>, LaunchError> {
        let engine = &self.inner.engine;
        let docker = engine.client().await.map_err(|error| engine.explain(&error))?;
        let role = match of {
            LogOf::Supervisor => Role::Agent,
            LogOf::Service(service) => Role::Service(service.clone()),
        };
        // Only what goes to a supervisor's output is the log, whose bytes are counted.
        let is_service = matches!(role, Role::Service(_));
        let options = LogsOptionsBuilder::default().stdout(true).stderr(is_service);
        let options = of.lines().map_or_else(
            || options.clone(),
            |lines| options.clone().tail(&lines.to_string()),
        );
        let name = names::container(&self.inner.options.instance, attempt, &role);
        docker
            .logs(&name, Some(options.build()))
            .try_fold(Vec::new(), |mut log, piece| {
                match piece {
                    LogOutput::StdOut { message } | LogOutput::Console { message } => {
                        log.extend_from_slice(&message);
                    }
                    LogOutput::StdErr { message } if is_service => log.extend_from_slice(&message),
                    LogOutput::StdErr { .. } | LogOutput::StdIn { .. } => {}
                }
                std::future::ready(Ok(log))
            })
            .await
            .map_err(|error| engine.explain(&error))
    }

    fn watch(&self, seen: mpsc::UnboundedSender<(AttemptId, PodState)>) {
        self.inner.known.tell_to(seen);
        let watching = tokio::spawn(watch::watch(Arc::downgrade(&self.inner)));
        let mut known = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(watching.abort_handle());
    }

    fn usual_start(&self) -> Duration {
        UNNOTICED
    }
}
