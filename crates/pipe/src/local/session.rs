//! One local run from its composition to its end.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_backend::{AgentProgram, Backend, KeepWorkspace, LocalBackend, LocalOptions, usual_attempts};
use pipekeeper_controller::{
    AttemptNews, Controller, EngineRules, Handle, News, Ports, SameAsEver, SubmitError,
};
use pipekeeper_engine::{Earlier, Event, Origin, Run, RunRequest};
use pipekeeper_model::{Actor, Millis, Plan, RunContext, RunId, TriggerEvent};
use pipekeeper_source::working_tree::snapshot;
use pipekeeper_store::{MemoryStore, Store};
use tokio::sync::{
    OnceCell,
    broadcast::{self, error::RecvError},
    mpsc,
};

use super::{
    caches, earlier::EarlierRuns, event, host, leftovers::Mark, locks::FileLocks, place::Place,
    pods::Containers, secrets::Secrets, server_run::ServerRun, supplies::LocalSupplies, watch::Changes,
};
use crate::{
    clock::SystemClock,
    cmd::run::Approve,
    failure::{Exit, Failure, OrFail, chain},
    follow::{Ask, Desk, Ending, Following, Heard, Link},
    report::{Report, View},
    term,
};

/// What a local run is made of.
#[derive(Debug)]
pub(crate) struct Job {
    /// The plan, its features settled.
    pub(crate) plan: Plan,
    /// What started it.
    pub(crate) event: TriggerEvent,
    /// The working tree.
    pub(crate) root: PathBuf,
    /// The secrets.
    pub(crate) secrets: Secrets,
    /// What happens at gates.
    pub(crate) approve: Approve,
    /// How it is shown.
    pub(crate) view: View,
    /// Whether workspaces are kept.
    pub(crate) keep: bool,
    /// How long it may take.
    pub(crate) limit: Option<Millis>,
    /// Whether earlier successes may stand in for its actions.
    pub(crate) earlier: Earlier,
    /// The server's run whose results stand in for the actions that are not run here.
    pub(crate) server_run: Option<ServerRun>,
    /// The containers it runs in; none means processes of this machine.
    pub(crate) containers: Option<Containers>,
}

/// Runs the job; with `changes`, a change of the tree cancels it.
pub(crate) async fn run(place: &Place, job: Job, changes: Option<&mut Changes>) -> Result<Ending, Failure> {
    let earlier = EarlierRuns::new(place, &job);
    let adopted = match &job.server_run {
        Some(from) => Some(from.adopt(&job.plan, &place.layout()).await?),
        None => None,
    };
    let store = earlier.store(adopted.as_ref().map_or(0, |adopted| adopted.from.0))?;
    let kept = store.clone();
    let (controller, handle, _mark) = compose(place, &job, &store).await?;
    copy_tree(&job.root, &place.source()).await?;
    let working = tokio::spawn(controller.run());
    let news = handle.listen();
    let actor = Actor::user(env::var("USER").unwrap_or_else(|_| "local".to_owned()));
    let request = Arc::new(RunRequest {
        project: event::project(&job.event)?,
        plan: job.plan,
        context: RunContext {
            event: job.event,
            // What changed is only known of pushes that arrived: here everything counts as changed.
            changed: Vec::new(),
        },
        group: None,
        adopted,
        earlier: job.earlier,
        origin: Origin::Repository,
        asked_before: BTreeSet::new(),
    });
    let id = handle
        .create(actor.clone(), Arc::clone(&request))
        .await
        .map_err(refused)?;
    let link = LocalLink {
        run: id,
        number: 0,
        is_behind: true,
        store,
        handle: handle.clone(),
        actor,
        news,
    };
    let following = Following {
        report: Report::new(job.view, &request.plan, place.layout()),
        run: Run::new(id),
        desk: Desk::new(job.approve),
        view: job.view,
    };
    let (ending, run) = following.follow(link, job.limit, changes).await?;
    if job.keep {
        place.record(&run)?;
        if let Some(containers) = &job.containers {
            place.record_containers(&run, containers)?;
        }
    }
    handle.drain().await;
    // Whatever is left of the controller's work is only tidying.
    let _ = working.await;
    if let Err(failure) = caches::trim_after(&request.plan) {
        term::warn(format_args!("caches take more than they may: {failure}"));
    }
    earlier.keep(&run, &kept.successes())?;
    Ok(ending)
}

/// Copies a working tree as git would see it.
pub(crate) async fn copy_tree(root: &Path, to: &Path) -> Result<(), Failure> {
    let (root, to) = (root.to_owned(), to.to_owned());
    let copied = tokio::task::spawn_blocking(move || snapshot(&root, &to));
    copied
        .await
        .or_fail("copy the working tree")?
        .map(drop)
        .map_err(|error| {
            let failure = Failure::usage(format!("failed to {}", chain(&error)));
            error.hint().into_iter().fold(failure, Failure::hint)
        })
}

async fn compose(
    place: &Place,
    job: &Job,
    store: &MemoryStore,
) -> Result<(Controller, Handle, Option<Mark>), Failure> {
    let layout = place.layout();
    let (on_observation, observations) = mpsc::unbounded_channel();
    let (backend, mark): (Arc<dyn Backend>, _) = match &job.containers {
        Some(containers) => {
            let (backend, mark) = containers.backend(place.pods(), &layout, on_observation).await?;
            (backend, Some(mark))
        }
        None => {
            let local = LocalBackend::new(LocalOptions {
                root: place.attempts(),
                artifacts: layout.artifacts(),
                agent: agent_program()?,
                host_env: host::variables(),
                attempts: usual_attempts(),
                on_observation,
            });
            local.expect_attempt();
            (Arc::new(local), None)
        }
    };
    let supplies = LocalSupplies {
        folder: place.source(),
        secrets: job.secrets.clone(),
        is_far: job.containers.is_some(),
        archive: OnceCell::new(),
        keep_workspace: if job.keep {
            KeepWorkspace::Always
        } else {
            KeepWorkspace::Never
        },
    };
    let (controller, handle) = Controller::new(Ports {
        store: Arc::new(store.clone()),
        backend,
        sharing: None,
        observations,
        supplies: Arc::new(supplies),
        intake: None,
        people: Arc::new(SameAsEver),
        clock: Arc::new(SystemClock),
        rules: Arc::new(EngineRules),
        outer_locks: Some(Arc::new(FileLocks::open()?)),
        layout,
        upkeep: None,
        cache_quota: None,
        cache_stores: Vec::new(),
    });
    Ok((controller, handle, mark))
}

/// This program, as the supervisor of attempts.
pub(crate) fn agent_program() -> Result<AgentProgram, Failure> {
    Ok(AgentProgram {
        program: env::current_exe().or_fail("find this program's own file")?,
        args: vec!["agent".to_owned()],
    })
}

fn refused(error: SubmitError) -> Failure {
    let exit = match &error {
        SubmitError::Rejected(_) | SubmitError::Unsupported { .. } | SubmitError::Intake(_) => Exit::Usage,
        SubmitError::NoSuchRun(_) => Exit::NotFound,
        SubmitError::Quarantined { .. } | SubmitError::Unavailable { .. } | SubmitError::Closed => Exit::Ours,
    };
    Failure::new(exit, error.to_string())
}

/// The way to a run in this process.
struct LocalLink {
    run: RunId,
    number: u64,
    /// Whether there is more in the store than was heard.
    is_behind: bool,
    store: MemoryStore,
    handle: Handle,
    actor: Actor,
    news: broadcast::Receiver<News>,
}

#[async_trait]
impl Link for LocalLink {
    async fn hear(&mut self) -> Result<Heard, Failure> {
        if self.is_behind {
            let missed = self.store.events(self.run, self.number, u32::MAX).await;
            let missed: Vec<Event> = missed
                .or_fail("read the run's events")?
                .into_iter()
                .map(|(_, event)| event)
                .collect();
            self.number += missed.len() as u64;
            self.is_behind = false;
            return Ok(Heard::Missed(missed));
        }
        Ok(match self.news.recv().await {
            Ok(News::Run { run, version, events }) if run == self.run => {
                if version == self.number + events.len() as u64 {
                    self.number = version;
                    Heard::Events(events.to_vec())
                } else {
                    self.is_behind = version > self.number;
                    Heard::Nothing
                }
            }
            Ok(News::Attempt { attempt, what }) => match what {
                AttemptNews::LogGrew { .. } => Heard::Log(attempt),
                AttemptNews::Waiting { reason } => Heard::Waits { attempt, reason },
                AttemptNews::Silent { seconds, processes } => Heard::Silent {
                    attempt,
                    seconds,
                    processes,
                },
                AttemptNews::StepStarted { .. } => Heard::Nothing,
            },
            Ok(News::Run { .. } | News::Delivery(_) | News::Elsewhere) => Heard::Nothing,
            Err(RecvError::Lagged(_)) => {
                self.is_behind = true;
                Heard::Nothing
            }
            Err(RecvError::Closed) => {
                return Err(Failure::ours("the controller ended before the run"));
            }
        })
    }

    async fn ask(&mut self, _: &Run, ask: Ask) -> Result<(), Failure> {
        let told = self.handle.submit(self.run, self.actor.clone(), ask.into());
        match told.await {
            Ok(()) | Err(SubmitError::Rejected(_)) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }
}
