//! What is needed to look into an action that ended: its launch once more, up to the step before which a person stands.
//!
//! It touches no run: nothing of it is decided, stored or observed here. Entry type: [`Hold`].

use std::collections::BTreeSet;

use pipekeeper_backend::{Launch, LaunchError};
use pipekeeper_engine::{NodeState, Run, RunRequest};
use pipekeeper_model::{
    AttemptId, AttemptOutcome, AttemptRecord, Name, NodeId, StepResult,
    plan::{Body, CacheMode, Step, Work},
};
use thiserror::Error;

use crate::{
    Layout, Supplies,
    launch::{Draft, cluster, private},
};

/// Where a person is to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    attempt: AttemptId,
    step: usize,
    name: String,
    lacks: Vec<String>,
    place: Place,
}

/// How the step stands to what became of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It failed.
    Failed,
    /// It did not, or nobody knows.
    Elsewhere,
}

/// Why nobody can stand there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HoldError {
    /// It does no work.
    #[error("it runs no steps")]
    NoWork,
    /// It may still run.
    #[error("it has not ended")]
    NotEnded,
    /// It never ran in this run.
    #[error("it did not run")]
    NeverRan,
    /// Its result is that of another run.
    #[error("its result was taken over from run {0}; look into it there")]
    Adopted(pipekeeper_model::RunId),
    /// It has no such step.
    #[error("it has no step `{wanted}`; it has: {steps}")]
    NoStep {
        /// What was asked for.
        wanted: String,
        /// What there is.
        steps: String,
    },
}

impl Hold {
    /// Where a person stands who looks into a node: before the step that is named, else before the one that did not
    /// succeed, else before the last that ran.
    ///
    /// # Errors
    /// If the node has no attempt that ended, or no such step.
    pub fn of(run: &Run, node: NodeId, wanted: Option<&str>) -> Result<Self, HoldError> {
        let plan = run.plan().ok_or(HoldError::NoWork)?;
        let Some(Body::Work(work)) = plan.node(node).map(|node| &node.body) else {
            return Err(HoldError::NoWork);
        };
        let ended = match run.node(node) {
            Some(NodeState::Done(ended)) => ended,
            Some(NodeState::Skipped { .. }) | None => return Err(HoldError::NeverRan),
            Some(
                NodeState::Waiting
                | NodeState::AwaitingStart { .. }
                | NodeState::AwaitingTime { .. }
                | NodeState::Deciding(_)
                | NodeState::Ready { .. }
                | NodeState::Running(_)
                | NodeState::Backoff { .. },
            ) => return Err(HoldError::NotEnded),
        };
        if let Some(adopted) = &ended.adopted {
            return Err(HoldError::Adopted(adopted.run));
        }
        let record = ended.record.as_ref();
        if ended.attempts == 0 {
            return Err(HoldError::NeverRan);
        }
        let to_blame = record.map_or(0, |record| to_blame(record));
        let step = match wanted {
            Some(wanted) => named(work, wanted)?,
            None => to_blame,
        };
        let failed = record.is_some_and(|record| match record.outcome {
            AttemptOutcome::Failed | AttemptOutcome::TimedOut => true,
            AttemptOutcome::Succeeded
            | AttemptOutcome::Cancelled
            | AttemptOutcome::Errored
            | AttemptOutcome::Lost => false,
        });
        let name = work.steps.get(step).map(|step| step.name.clone());
        Ok(Self {
            attempt: AttemptId {
                run: run.id(),
                node,
                number: ended.attempts,
            },
            step,
            name: name.ok_or(HoldError::NeverRan)?,
            lacks: lacks(run, work),
            place: if failed && step == to_blame {
                Place::Failed
            } else {
                Place::Elsewhere
            },
        })
    }

    /// The attempt that is looked into.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The name of the step that does not run.
    pub fn step(&self) -> &str {
        &self.name
    }

    /// What the person is about to see, in a line.
    pub fn note(&self) -> String {
        let made = format!("making it again up to `{}`, which does not run", self.name);
        if self.lacks.is_empty() {
            return made;
        }
        format!("{made}; not there: {}", self.lacks.join(", "))
    }

    /// The project and the cluster that the attempt ran for and on, if its own containers may be as this step left them.
    pub(crate) fn own_place(&self, run: &Run) -> Option<(Name, Option<Name>)> {
        let (request, work) = self.work(run).filter(|_| self.place == Place::Failed)?;
        Some((request.project.clone(), cluster(request, work).cloned()))
    }

    /// Why its own containers are not held where others are, in a line.
    pub(crate) fn why_not_held(&self, run: &Run, supplies: &dyn Supplies) -> String {
        let never = self.work(run).and_then(|(request, work)| {
            let tier = supplies.cache_tiers(request).writes;
            private(request, (self.attempt.node, work), tier)
        });
        match never {
            Some(never) => format!("its own pod was not held: {never}"),
            None => "its own pod is not held, or not any more".to_owned(),
        }
    }

    fn work<'a>(&self, run: &'a Run) -> Option<(&'a RunRequest, &'a Work)> {
        let request = run.request()?;
        match &request.plan.node(self.attempt.node)?.body {
            Body::Work(work) => Some((request.as_ref(), work)),
            Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => None,
        }
    }

    /// The launch of what is looked into; its last step is the one that does not run.
    ///
    /// # Errors
    /// If what the attempt was given is not there any more, or not now.
    pub async fn launch(
        &self,
        run: &Run,
        supplies: &dyn Supplies,
        layout: &Layout,
    ) -> Result<Launch, LaunchError> {
        let draft = Draft::new(run, self.attempt).map_err(|error| LaunchError::Terminal {
            reason: format!("failed to {error}"),
        })?;
        let mut launch = draft.complete(supplies, layout).await?;
        launch.steps.truncate(self.step + 1);
        Ok(launch)
    }
}

/// The index of the step that did not succeed, else of the last that ran.
fn to_blame(record: &AttemptRecord) -> usize {
    let bad = |step: &StepResult| step.code != Some(0);
    let found = match record.outcome {
        AttemptOutcome::Succeeded => None,
        AttemptOutcome::Failed
        | AttemptOutcome::TimedOut
        | AttemptOutcome::Cancelled
        | AttemptOutcome::Errored
        | AttemptOutcome::Lost => record.steps.iter().position(bad),
    };
    found.unwrap_or(record.steps.len().saturating_sub(1))
}

fn named(work: &Work, wanted: &str) -> Result<usize, HoldError> {
    let is_wanted = |step: &Step| step.name == wanted;
    work.steps.iter().position(is_wanted).ok_or_else(|| {
        let steps: Vec<&str> = work.steps.iter().map(|step| step.name.as_str()).collect();
        HoldError::NoStep {
            wanted: wanted.to_owned(),
            steps: steps.join(", "),
        }
    })
}

fn lacks(run: &Run, work: &Work) -> Vec<String> {
    let secrets: BTreeSet<&str> = work.secrets.iter().map(|secret| secret.name.as_str()).collect();
    let is_volume = |name: &&Name| {
        let cache = run.plan().and_then(|plan| plan.caches.get(*name));
        cache.is_some_and(|cache| matches!(cache.mode, CacheMode::Volume { .. }))
    };
    let secrets = secrets.into_iter().map(|name| format!("the secret `{name}`"));
    let rights = work
        .credentials
        .iter()
        .map(|right| format!("the right `{right}`"));
    let volumes = work.caches.iter().filter(is_volume);
    secrets
        .chain(rights)
        .chain(volumes.map(|name| format!("the volume of the cache `{name}`")))
        .collect()
}
