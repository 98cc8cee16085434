//! One local run from its composition to its end.

use std::{env, path::PathBuf, sync::Arc};

use pipekeeper_backend::{AgentProgram, Backend, KeepWorkspace, LocalBackend, LocalOptions};
use pipekeeper_controller::{AttemptNews, Controller, EngineRules, Handle, News, Ports, SubmitError};
use pipekeeper_engine::{CancelReason, Earlier, Input, NodeState, Run, RunRequest, evolve};
use pipekeeper_model::{Actor, Millis, Outcome, Plan, RunContext, TriggerEvent};
use pipekeeper_source::working_tree::snapshot;
use pipekeeper_store::{MemoryStore, Store};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{OnceCell, broadcast, mpsc},
    time::{Duration, Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    caches, desk::Desk, earlier::EarlierRuns, event, host, place::Place, pods::Containers, secrets::Secrets,
    supplies::LocalSupplies, watch::Changes,
};
use crate::{
    clock::{self, SystemClock},
    cmd::run::Approve,
    failure::{Exit, Failure, OrFail, chain},
    report::{Report, View},
    term,
};

const FRAME: Duration = Duration::from_millis(100);

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
    /// The containers it runs in; none means processes of this machine.
    pub(crate) containers: Option<Containers>,
}

/// How a local run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Finished(Outcome),
    /// The user interrupted it.
    Interrupted,
    /// `--timeout` was over.
    TimedOut,
    /// Files changed while it ran.
    Changed,
}

/// Runs the job; with `changes`, a change of the tree cancels it.
pub(crate) async fn run(place: &Place, job: Job, changes: Option<&mut Changes>) -> Result<Ending, Failure> {
    let earlier = EarlierRuns::new(place, &job);
    let store = earlier.store()?;
    let kept = store.clone();
    let (controller, handle) = compose(place, &job, &store).await?;
    let (root, source) = (job.root.clone(), place.source());
    let copied = tokio::task::spawn_blocking(move || snapshot(&root, &source));
    let copied = copied.await.or_fail("copy the working tree")?;
    copied.map_err(|error| {
        let failure = Failure::usage(format!("failed to {}", chain(&error)));
        error.hint().into_iter().fold(failure, Failure::hint)
    })?;
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
        adopted: None,
        earlier: job.earlier,
    });
    let id = handle
        .create(actor.clone(), Arc::clone(&request))
        .await
        .map_err(refused)?;
    let session = Session {
        report: Report::new(job.view, &request.plan, place.layout()),
        run: Run::new(id),
        number: 0,
        desk: Desk::new(job.approve),
        store,
        handle: handle.clone(),
        actor,
        news,
        cut: None,
        interrupts: 0,
        view: job.view,
    };
    let limit = job.limit.map(|limit| Instant::now() + limit.to_duration());
    let (ending, run) = session.follow(limit, changes).await?;
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

async fn compose(place: &Place, job: &Job, store: &MemoryStore) -> Result<(Controller, Handle), Failure> {
    let layout = place.layout();
    let (on_observation, observations) = mpsc::unbounded_channel();
    let backend: Arc<dyn Backend> = match &job.containers {
        Some(containers) => containers.backend(place.pods(), &layout, on_observation).await?,
        None => {
            let local = LocalBackend::new(LocalOptions {
                root: place.attempts(),
                artifacts: layout.artifacts(),
                agent: agent_program()?,
                host_env: host::variables(),
                on_observation,
            });
            local.expect_attempt();
            Arc::new(local)
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
    Ok(Controller::new(Ports {
        store: Arc::new(store.clone()),
        backend,
        observations,
        supplies: Arc::new(supplies),
        intake: None,
        clock: Arc::new(SystemClock),
        rules: Arc::new(EngineRules),
        layout,
        cache_quota: None,
    }))
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

/// A run as it is followed.
struct Session {
    report: Report,
    run: Run,
    number: u64,
    desk: Desk,
    store: MemoryStore,
    handle: Handle,
    actor: Actor,
    news: broadcast::Receiver<News>,
    cut: Option<Ending>,
    interrupts: u32,
    view: View,
}

/// The one thing that happened.
enum Step {
    News(Result<News, broadcast::error::RecvError>),
    Answer(String),
    Interrupt,
    Limit,
    Changed(Result<(), Failure>),
    Frame,
}

impl Session {
    async fn follow(
        mut self,
        limit: Option<Instant>,
        mut changes: Option<&mut Changes>,
    ) -> Result<(Ending, Run), Failure> {
        let mut signals = Interrupts::listen()?;
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.resync().await?;
        while !self.run.is_finished() {
            self.attend().await?;
            let step = tokio::select! {
                news = self.news.recv() => Step::News(news),
                line = self.desk.answer() => Step::Answer(line),
                () = signals.next() => Step::Interrupt,
                () = at(limit), if self.cut.is_none() => Step::Limit,
                changed = next_change(&mut changes), if self.cut.is_none() => Step::Changed(changed),
                _ = frames.tick(), if self.view == View::Tree => Step::Frame,
            };
            self.take(step).await?;
        }
        self.report.finish(&self.run, clock::now());
        let outcome = self.run.outcome().unwrap_or(Outcome::Errored);
        Ok((self.cut.unwrap_or(Ending::Finished(outcome)), self.run))
    }

    async fn take(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::News(Ok(News::Run { run, version, events })) if run == self.run.id() => {
                if version == self.number + events.len() as u64 {
                    for event in events.iter() {
                        self.event(event);
                    }
                } else if version > self.number {
                    self.resync().await?;
                }
            }
            Step::News(Ok(News::Attempt { attempt, what })) => match what {
                AttemptNews::LogGrew { .. } => self.report.log(&self.run, attempt),
                AttemptNews::Waiting { reason } => self.report.waits(attempt, reason),
                AttemptNews::StepStarted { .. } | AttemptNews::Silent { .. } => {}
            },
            Step::News(Ok(News::Run { .. } | News::Delivery(_))) => {}
            Step::News(Err(broadcast::error::RecvError::Lagged(_))) => self.resync().await?,
            Step::News(Err(broadcast::error::RecvError::Closed)) => {
                return Err(Failure::ours("the controller ended before the run"));
            }
            Step::Answer(line) => {
                let inputs = self.desk.answered(&line);
                self.submit(inputs).await?;
            }
            Step::Interrupt => self.interrupt().await?,
            Step::Limit => {
                term::note("the time of `--timeout` is over: the run is being cancelled");
                self.cancel(Ending::TimedOut).await?;
            }
            Step::Changed(changed) => {
                changed?;
                self.cancel(Ending::Changed).await?;
            }
            Step::Frame if self.desk.is_asking() => {}
            Step::Frame => self.report.draw(&self.run, clock::now()),
        }
        Ok(())
    }

    fn event(&mut self, event: &pipekeeper_engine::Event) {
        evolve(&mut self.run, event);
        self.number += 1;
        self.report.event(&self.run, self.number, event);
    }

    /// Reads what the news did not tell.
    async fn resync(&mut self) -> Result<(), Failure> {
        let missed = self
            .store
            .events(self.run.id(), self.number, u32::MAX)
            .await
            .or_fail("read the run's events")?;
        for (_, event) in &missed {
            self.event(event);
        }
        for state in self.run.nodes() {
            if let NodeState::Running(live) = state {
                self.report.log(&self.run, live.attempt);
            }
        }
        Ok(())
    }

    async fn attend(&mut self) -> Result<(), Failure> {
        let inputs = self.desk.attend(&self.run);
        self.submit(inputs).await?;
        if self.desk.starts_nothing() && self.waits_only_for_starts() {
            term::warn("what is left waits for a person to start it: the run is cancelled");
            self.submit(vec![Input::CancelRequested(CancelReason::Asked)])
                .await?;
        }
        if self.desk.next_question().is_some() {
            self.report.draw(&self.run, clock::now());
            self.report.pause();
            self.desk.ask();
        }
        Ok(())
    }

    /// Whether nothing moves and nothing but a manual start could make it move.
    fn waits_only_for_starts(&self) -> bool {
        let nodes = self.run.nodes();
        let waits = |state: &NodeState| matches!(state, NodeState::AwaitingStart { .. });
        let still =
            |state: &NodeState| waits(state) || state.is_settled() || matches!(state, NodeState::Waiting);
        nodes.iter().any(waits) && nodes.iter().all(still)
    }

    async fn interrupt(&mut self) -> Result<(), Failure> {
        self.interrupts += 1;
        self.report.pause();
        match self.interrupts {
            1 => term::note("cancelling; once more also stops `finally`, a third time leaves at once"),
            2 => term::note("stopping everything"),
            _ => std::process::exit(Exit::Interrupted.code().into()),
        }
        self.cancel(Ending::Interrupted).await
    }

    async fn cancel(&mut self, why: Ending) -> Result<(), Failure> {
        self.cut = Some(why);
        self.submit(vec![Input::CancelRequested(CancelReason::Asked)])
            .await
    }

    /// What comes too late or twice is no failure: the run has moved on meanwhile.
    async fn submit(&mut self, inputs: Vec<Input>) -> Result<(), Failure> {
        for input in inputs {
            match self.handle.submit(self.run.id(), self.actor.clone(), input).await {
                Ok(()) | Err(SubmitError::Rejected(_)) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(())
    }
}

async fn at(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

async fn next_change(changes: &mut Option<&mut Changes>) -> Result<(), Failure> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C, a polite end asked by others, and a terminal that was closed.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).or_fail("listen for signals")?,
            terminate: signal(SignalKind::terminate()).or_fail("listen for signals")?,
            hangup: signal(SignalKind::hangup()).or_fail("listen for signals")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
