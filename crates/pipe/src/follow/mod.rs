//! A run as its terminal follows it, here or on a server: what happens is reported, and people are asked.

mod desk;
mod interrupts;
mod link;

use pipekeeper_engine::{Event, NodeState, Run, evolve};
use pipekeeper_model::{AttemptId, Millis, Outcome};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep_until};

use self::interrupts::Interrupts;
pub(crate) use self::{
    desk::Desk,
    link::{Ask, Heard, Link},
};
use crate::{
    clock,
    failure::{Exit, Failure},
    local::watch::Changes,
    report::{Report, View},
    term,
};

const FRAME: Duration = Duration::from_millis(100);

/// How a run that was followed came to its end.
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

/// A run that is about to be followed.
pub(crate) struct Following {
    /// Where it is shown.
    pub(crate) report: Report,
    /// The run, of which nothing is known yet.
    pub(crate) run: Run,
    /// Where people are asked.
    pub(crate) desk: Desk,
    /// How it is shown.
    pub(crate) view: View,
}

impl Following {
    /// Follows the run to its end; a change of the tree cancels it, and so does the limit.
    pub(crate) async fn follow(
        self,
        link: impl Link,
        limit: Option<Millis>,
        mut changes: Option<&mut Changes>,
    ) -> Result<(Ending, Run), Failure> {
        let mut session = Session {
            link,
            report: self.report,
            run: self.run,
            number: 0,
            desk: self.desk,
            cut: None,
            is_given_up: false,
            interrupts: 0,
            view: self.view,
        };
        let limit = limit.map(|limit| Instant::now() + limit.to_duration());
        let mut signals = Interrupts::listen()?;
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while !session.run.is_finished() {
            session.attend().await?;
            let step = tokio::select! {
                heard = session.link.hear() => Step::Heard(heard),
                line = session.desk.answer() => Step::Answer(line),
                () = signals.next() => Step::Interrupt,
                () = at(limit), if session.cut.is_none() => Step::Limit,
                changed = next_change(&mut changes), if session.cut.is_none() => Step::Changed(changed),
                _ = frames.tick(), if session.view == View::Tree => Step::Frame,
            };
            session.take(step).await?;
        }
        session.report.finish(&session.run, clock::now());
        let outcome = session.run.outcome().unwrap_or(Outcome::Errored);
        Ok((session.cut.unwrap_or(Ending::Finished(outcome)), session.run))
    }
}

/// A run as it is followed.
struct Session<L> {
    link: L,
    report: Report,
    run: Run,
    number: u64,
    desk: Desk,
    cut: Option<Ending>,
    /// Whether its end was asked for because nobody starts what is left.
    is_given_up: bool,
    interrupts: u32,
    view: View,
}

/// The one thing that happened.
enum Step {
    Heard(Result<Heard, Failure>),
    Answer(String),
    Interrupt,
    Limit,
    Changed(Result<(), Failure>),
    Frame,
}

impl<L: Link> Session<L> {
    async fn take(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Heard(heard) => self.hear(heard?),
            Step::Answer(line) => {
                let asks = self.desk.answered(&line);
                self.ask(asks).await?;
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

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Events(events) => self.events(&events),
            Heard::Missed(events) => {
                self.events(&events);
                let running: Vec<_> = self.run.nodes().iter().filter_map(running).collect();
                for attempt in running {
                    self.report.log(&self.run, attempt);
                }
            }
            Heard::Log(attempt) => self.report.log(&self.run, attempt),
            Heard::Waits { attempt, reason } => self.report.waits(attempt, reason),
            Heard::Silent {
                attempt,
                seconds,
                processes,
            } => self.report.silent(&self.run, attempt, seconds, &processes),
            Heard::Nothing => {}
        }
    }

    fn events(&mut self, events: &[Event]) {
        for event in events {
            evolve(&mut self.run, event);
            self.number += 1;
            self.report.event(&self.run, self.number, event);
        }
    }

    async fn attend(&mut self) -> Result<(), Failure> {
        let asks = self.desk.attend(&self.run);
        self.ask(asks).await?;
        if !self.is_given_up && self.desk.starts_nothing() && self.waits_only_for_starts() {
            self.is_given_up = true;
            term::warn("what is left waits for a person to start it: the run is cancelled");
            self.ask(vec![Ask::Cancel]).await?;
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
        self.ask(vec![Ask::Cancel]).await
    }

    async fn ask(&mut self, asks: Vec<Ask>) -> Result<(), Failure> {
        for ask in asks {
            self.link.ask(&self.run, ask).await?;
        }
        Ok(())
    }
}

fn running(state: &NodeState) -> Option<AttemptId> {
    match state {
        NodeState::Running(live) => Some(live.attempt),
        NodeState::Waiting
        | NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Deciding(_)
        | NodeState::Ready { .. }
        | NodeState::Backoff { .. }
        | NodeState::Done(_)
        | NodeState::Skipped { .. } => None,
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
