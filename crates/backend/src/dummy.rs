//! A scripted backend for the tests of controller and server: no processes, no time, no chance.
//!
//! Entry type: [`DummyBackend`]. What an attempt does is its [`Play`]; by default it is read from its steps' texts.

mod debug;
mod play;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use pipekeeper_model::{
    AttemptId, AttemptOutcome, AttemptRecord, Holder, Millis, Name, StepResult, Timestamp, plan::Feature,
};
use tokio::sync::mpsc;

pub use play::{Ending, Play};

use crate::{
    Backend, DebugOrder, EnterOrder, Entered, Launch, LaunchError, Observation, Terminal, Ticket, What,
};

type Director = Box<dyn Fn(&Launch) -> Play + Send + Sync>;

/// A backend that plays what it is told.
///
/// It moves only when it is called: a launch checks in, a ticket starts, and [`Backend::observe`] is the tick by
/// which an attempt ends that was not to end at once.
pub struct DummyBackend {
    director: Director,
    on_observation: mpsc::UnboundedSender<Observation>,
    features: BTreeSet<Feature>,
    attempts: Mutex<BTreeMap<AttemptId, Actor>>,
    /// The attempts whose containers are held; none if none ever are.
    held: Mutex<Option<BTreeSet<AttemptId>>>,
}

/// One attempt.
struct Actor {
    play: Play,
    launch: Option<Launch>,
    phase: Phase,
    starts: u32,
}

enum Phase {
    Waiting,
    Running { ticks: u32 },
    Finished(Box<AttemptRecord>),
    Gone(&'static str),
}

impl fmt::Debug for DummyBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DummyBackend").finish_non_exhaustive()
    }
}

impl DummyBackend {
    /// A backend whose attempts do what their steps' texts say; see [`Play::of_texts`].
    pub fn new(on_observation: mpsc::UnboundedSender<Observation>) -> Self {
        Self::directed(on_observation, Play::of_launch)
    }

    /// A backend whose attempts do what `director` says.
    pub fn directed(
        on_observation: mpsc::UnboundedSender<Observation>,
        director: impl Fn(&Launch) -> Play + Send + Sync + 'static,
    ) -> Self {
        Self {
            director: Box::new(director),
            on_observation,
            features: BTreeSet::from([Feature::Secrets]),
            attempts: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Says that it can do this too.
    #[must_use]
    pub fn supporting(mut self, features: impl IntoIterator<Item = Feature>) -> Self {
        self.features.extend(features);
        self
    }

    /// How often user code of an attempt was started.
    pub fn starts(&self, attempt: AttemptId) -> u32 {
        self.attempts().get(&attempt).map_or(0, |actor| actor.starts)
    }

    /// What an attempt was launched with.
    pub fn launched(&self, attempt: AttemptId) -> Option<Launch> {
        self.attempts()
            .get(&attempt)
            .and_then(|actor| actor.launch.clone())
    }

    /// Holds the containers of an attempt until it is released; until when it is said that they are.
    pub fn hold(&self, attempt: AttemptId, until: Timestamp) {
        self.held().get_or_insert_default().insert(attempt);
        self.tell_held(attempt, Some(until));
    }

    fn tell_held(&self, attempt: AttemptId, until: Option<Timestamp>) {
        let what = What::Held { until };
        // A test that dropped its end wants no more.
        let _ = self.on_observation.send(Observation { attempt, what });
    }

    fn held(&self) -> MutexGuard<'_, Option<BTreeSet<AttemptId>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Actor>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the present state, as often as the play says.
    fn report(&self, attempt: AttemptId, actor: &Actor) {
        let whats = match &actor.phase {
            Phase::Waiting if actor.play.checks_in => vec![What::CheckedIn {
                holder: holder_of(attempt),
            }],
            Phase::Waiting => Vec::new(),
            Phase::Running { .. } => {
                vec![
                    What::CheckedIn {
                        holder: holder_of(attempt),
                    },
                    What::StepStarted { step: 0 },
                ]
            }
            Phase::Finished(record) => {
                vec![What::Finished {
                    holder: holder_of(attempt),
                    record: record.clone(),
                }]
            }
            Phase::Gone(reason) => vec![What::Gone {
                reason: (*reason).to_owned(),
            }],
        };
        for what in whats {
            for _ in 0..actor.play.times {
                // A test that dropped its end wants no more.
                let _ = self.on_observation.send(Observation {
                    attempt,
                    what: what.clone(),
                });
            }
        }
    }

    fn act(&self, attempt: AttemptId, actor: &mut Actor, change: impl FnOnce(&mut Actor)) {
        change(actor);
        actor.end_if_over();
        self.report(attempt, actor);
    }
}

#[async_trait]
impl Backend for DummyBackend {
    fn supports(&self, _: &Name) -> &BTreeSet<Feature> {
        &self.features
    }

    fn knows(&self, attempt: AttemptId) -> bool {
        self.attempts().contains_key(&attempt)
    }

    async fn launch(&self, launch: Launch) -> Result<(), LaunchError> {
        let attempt = launch.attempt;
        let mut attempts = self.attempts();
        let actor = attempts.entry(attempt).or_insert_with(|| Actor {
            play: (self.director)(&launch),
            launch: Some(launch),
            phase: Phase::Waiting,
            starts: 0,
        });
        if let Some(refusal) = &actor.play.refusal {
            return Err(refusal.clone());
        }
        self.act(attempt, actor, |_| {});
        Ok(())
    }

    async fn answer(&self, attempt: AttemptId, holder: &Holder, ticket: Ticket) -> Result<(), LaunchError> {
        let mut attempts = self.attempts();
        let Some(actor) = attempts.get_mut(&attempt) else {
            return Ok(());
        };
        if *holder != holder_of(attempt) || !matches!(actor.phase, Phase::Waiting) {
            return Ok(());
        }
        self.act(attempt, actor, |actor| match ticket {
            Ticket::Go { .. } => {
                actor.starts += 1;
                actor.phase = Phase::Running { ticks: 0 };
            }
            Ticket::Exit => actor.phase = Phase::Gone("it was refused its ticket"),
        });
        Ok(())
    }

    async fn stop(&self, attempt: AttemptId, _grace: Millis) -> Result<(), LaunchError> {
        let mut attempts = self.attempts();
        let actor = attempts.entry(attempt).or_insert_with(Actor::stopped);
        self.act(attempt, actor, |actor| match actor.phase {
            Phase::Waiting => actor.phase = Phase::Gone("it was stopped before it started"),
            Phase::Running { .. } => {
                actor.finish(AttemptOutcome::Cancelled, Some("it was stopped".to_owned()), None);
            }
            Phase::Finished(_) | Phase::Gone(_) => {}
        });
        Ok(())
    }

    async fn observe(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        let mut attempts = self.attempts();
        match attempts.get_mut(&attempt) {
            Some(actor) => self.act(attempt, actor, |actor| {
                if let Phase::Running { ticks } = &mut actor.phase {
                    *ticks += 1;
                }
            }),
            None => self.report(attempt, &Actor::unknown()),
        }
        Ok(())
    }

    async fn processes(&self, _: AttemptId) -> Result<String, LaunchError> {
        Err(LaunchError::Terminal {
            reason: "a scripted attempt has no processes".to_owned(),
        })
    }

    async fn debug(&self, order: DebugOrder) -> Result<Terminal, LaunchError> {
        debug::open(order).await
    }

    async fn enter(&self, order: EnterOrder) -> Result<Entered, LaunchError> {
        let is_held = self.held().as_ref().map(|held| held.contains(&order.attempt));
        Ok(match is_held {
            None => Entered::NeverHeld,
            Some(false) => Entered::NotHeld,
            Some(true) => debug::enter(order).await,
        })
    }

    async fn release(&self, attempt: AttemptId) -> Result<bool, LaunchError> {
        let was_held = self.held().as_mut().is_some_and(|held| held.remove(&attempt));
        if was_held {
            self.tell_held(attempt, None);
        }
        Ok(was_held)
    }

    async fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.attempts().remove(&attempt);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        Ok(self.attempts().keys().copied().collect())
    }
}

impl Actor {
    fn gone(reason: &'static str) -> Self {
        Self {
            play: Play::default(),
            launch: None,
            phase: Phase::Gone(reason),
            starts: 0,
        }
    }

    fn stopped() -> Self {
        Self::gone("it was stopped before it started")
    }

    fn unknown() -> Self {
        Self::gone("nothing is known of it here")
    }

    fn end_if_over(&mut self) {
        let Phase::Running { ticks } = self.phase else {
            return;
        };
        if ticks < self.play.after {
            return;
        }
        match self.play.ending {
            Ending::Succeed => self.finish(AttemptOutcome::Succeeded, None, Some(0)),
            Ending::Fail { code } => {
                self.finish(
                    AttemptOutcome::Failed,
                    Some(format!("exit code {code}")),
                    Some(code),
                );
            }
            Ending::End(outcome) => self.finish(outcome, Some("the script says so".to_owned()), None),
            Ending::Vanish => self.phase = Phase::Gone("the script says so"),
            Ending::Hang => {}
        }
    }

    fn finish(&mut self, outcome: AttemptOutcome, reason: Option<String>, code: Option<i32>) {
        let log_bytes = self.write_log();
        let names = self
            .launch
            .iter()
            .flat_map(|launch| &launch.steps)
            .map(|step| step.name.clone());
        let steps = names.take(1).map(|name| StepResult {
            name,
            code,
            signal: None,
            line: None,
            log_start: 0,
            log_end: log_bytes,
            started_at: Timestamp(0),
            ended_at: Timestamp(0),
        });
        let steps = steps.collect();
        let (outputs, artifacts) = match outcome {
            AttemptOutcome::Succeeded => (self.play.outputs.clone(), self.play.artifacts.clone()),
            AttemptOutcome::Failed
            | AttemptOutcome::TimedOut
            | AttemptOutcome::Cancelled
            | AttemptOutcome::Errored
            | AttemptOutcome::Lost => (BTreeMap::new(), Vec::new()),
        };
        self.phase = Phase::Finished(Box::new(AttemptRecord {
            steps,
            outputs,
            artifacts,
            log_bytes,
            summary: self.play.summary.clone(),
            tests: self.play.tests.clone(),
            reason: reason.clone(),
            ..AttemptRecord::without_steps(outcome, reason.unwrap_or_default(), Timestamp(0))
        }));
    }

    /// The log is a file like any other backend's; without text for it none is touched.
    fn write_log(&self) -> u64 {
        let Some(launch) = self.launch.as_ref().filter(|_| !self.play.log.is_empty()) else {
            return 0;
        };
        let file = launch.log.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = file
            .and_then(|()| std::fs::File::create(&launch.log))
            .and_then(|mut file| file.write_all(self.play.log.as_bytes()));
        written.map_or(0, |()| self.play.log.len() as u64)
    }
}

fn holder_of(attempt: AttemptId) -> Holder {
    Holder(format!("dummy-{attempt}"))
}

#[cfg(test)]
mod tests;
