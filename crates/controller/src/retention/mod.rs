//! How long runs, their logs and their artifacts are kept, and how they go. Entry types: [`Retention`], [`Terms`].
//!
//! A look (`round.rs`) asks what ended runs left ([`pipekeeper_store::Estates`]), judges it (`judge.rs`, pure), notes what is
//! given up, and then compares the files that are there with what is still wanted (`sweep.rs`). Rows say that something is
//! gone before it goes, so whatever dies in between, nothing is shown as there that is not; what was not removed is found
//! by the next look, for that compares and remembers nothing.
//!
//! Between the word that files are given up and their end lies [`GRACE`]: whoever adopts a result reads that word first, and
//! then touches the file (`Layout::renew`), which a look spares.

mod adopt;
mod judge;
mod left;
mod round;
mod sweep;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use pipekeeper_model::{Bytes, Millis, Name, RunId, Timestamp};
use pipekeeper_spec::document;
use pipekeeper_store::{Estates, Gone, GoneWhy};

use crate::{
    Controller,
    controller::Timer,
    job::{Done, Job, Tools},
};

/// How often it is looked what may go.
const EVERY: Millis = Millis::hours(1);
/// How long after the start it is looked for the first time.
const FIRST: Millis = Millis::minutes(10);
/// How much a clock may differ from what passed.
const JUMP: Millis = Millis::minutes(5);
/// How long a file stays that nobody wants any more: it may be about to be wanted, and clocks differ.
pub(crate) const GRACE: Millis = Millis::hours(1);

/// How long, and how much, of a project is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long runs are kept, with everything of them.
    pub runs: Millis,
    /// How long their logs are.
    pub logs: Millis,
    /// How long their artifacts are.
    pub artifacts: Millis,
    /// How much all logs may take.
    pub log_bytes: Bytes,
    /// How much all artifacts may take.
    pub artifact_bytes: Bytes,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            runs: Millis::days(90),
            logs: Millis::days(90),
            artifacts: Millis::days(14),
            log_bytes: Bytes::gib(20),
            artifact_bytes: Bytes::gib(100),
        }
    }
}

impl Retention {
    /// The same with what a project says for itself.
    #[must_use]
    pub fn of_project(self, project: &document::Retention) -> Self {
        Self {
            runs: project.runs.unwrap_or(self.runs),
            logs: project.logs.unwrap_or(self.logs),
            artifacts: project.artifacts.unwrap_or(self.artifacts),
            ..self
        }
    }
}

/// How long things of each project are kept, asked at each look.
#[async_trait]
pub trait Terms: Send + Sync {
    /// Of one project, which may be there no more.
    ///
    /// # Errors
    /// If that cannot be said now; nothing goes until it can.
    async fn of(&self, project: &Name) -> Result<Retention, TermsAway>;

    /// The projects that there are.
    ///
    /// # Errors
    /// If that cannot be said now; nothing goes until it can.
    async fn projects(&self) -> Result<Vec<Name>, TermsAway>;

    /// The runs that somebody wants kept whatever their age.
    ///
    /// # Errors
    /// If that cannot be said now; nothing goes until it can.
    async fn kept_runs(&self) -> Result<BTreeSet<RunId>, TermsAway>;
}

/// Nobody can say now how long things are kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read how long things are kept: {reason}")]
pub struct TermsAway {
    /// What is in the way.
    pub reason: String,
}

/// What a controller needs to let old things go.
#[derive(Clone)]
pub struct Upkeep {
    /// What ended runs left.
    pub estates: Arc<dyn Estates>,
    /// How long it is kept.
    pub terms: Arc<dyn Terms>,
}

/// What is kept and what went, for whoever counts; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct KeptBoard(Arc<Mutex<KeptFigures>>);

/// What the last look found, and what all looks of this process removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptFigures {
    /// The bytes of ended runs' logs.
    pub log_bytes: u64,
    /// The bytes of all artifacts.
    pub artifact_bytes: u64,
    /// How many runs went.
    pub runs_removed: u64,
    /// Of how many runs the logs went.
    pub logs_removed: u64,
    /// How many files of artifacts went.
    pub artifacts_removed: u64,
    /// How many bytes of those.
    pub artifact_bytes_removed: u64,
}

impl KeptBoard {
    /// The figures.
    pub fn figures(&self) -> KeptFigures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut KeptFigures)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// When and why something went, for people: `was removed after 90d`.
pub fn tell_gone(gone: &Gone) -> String {
    match gone.why {
        GoneWhy::Age { after } => format!("removed after {after}"),
        GoneWhy::Room { most } => format!("removed to make room, as all of its project's may take {most}"),
    }
}

impl Controller {
    /// Looks for what is old after a while: who has just begun may have a clock, a database or terms that are not right yet.
    pub(crate) fn tidy_up_later(&mut self) {
        if self.tools.upkeep.is_some() {
            self.arm_tidy_up(FIRST);
        }
    }

    /// Lets go what is old, now and every hour, unless the clock has jumped.
    pub(crate) fn tidy_up(&mut self) {
        if !self.performs() {
            return;
        }
        let (since, measured) = self.tidy_armed;
        let jump = self.now().since(since).0.abs_diff(as_millis(measured.elapsed()));
        if jump > JUMP.0 {
            let jump = Millis(jump);
            tracing::warn!("what is old stays for now: the clock has jumped by {jump}");
        } else if let Some(job) = self.tools.tidy_up(self.now()) {
            self.start(job);
        }
        self.arm_tidy_up(EVERY);
    }

    fn arm_tidy_up(&mut self, after: Millis) {
        let now = self.now();
        self.tidy_armed = (now, Instant::now());
        self.timers.retain(|(_, timer)| *timer != Timer::TidyUp);
        self.arm(now + after, Timer::TidyUp);
    }
}

fn as_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Tools {
    fn tidy_up(&self, now: Timestamp) -> Option<Job> {
        let site = round::Site {
            store: Arc::clone(&self.store),
            upkeep: self.upkeep.clone()?,
            layout: (*self.layout).clone(),
            kept: self.handle.kept.clone(),
        };
        let tidying = Arc::clone(&self.tidying);
        Some(Box::pin(async move {
            // What a look under way does not find is found by the next.
            let Ok(_one) = tidying.try_lock() else {
                return Done::Quiet;
            };
            if let Err(error) = round::look(&site, now).await {
                tracing::warn!(
                    "what is old stays, and this is tried again within an hour: failed to {error}"
                );
            }
            Done::Quiet
        }))
    }
}

#[cfg(test)]
mod tests;
