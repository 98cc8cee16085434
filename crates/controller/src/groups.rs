//! Runs that stand in each other's way: whose place a newer one takes, and whose turn has come.

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_engine::{CancelReason, Effect, Input, RunRequest};
use pipekeeper_model::{Actor, GitRef, Name, RunId, plan::OnNew};
use pipekeeper_store::{RunFilter, RunSummary};

use crate::{
    SubmitError,
    job::{Done, Job, Tools, unavailable},
    outbox::{LaneKey, Performed},
};

/// What a run is to others of its group.
#[derive(Clone, Copy)]
struct Rank<'a> {
    project: &'a Name,
    is_protected: bool,
}

/// Whoever may push to a branch says what stands in its pipeline file, and so which group its run is of: that must end no run of a
/// protected ref, nor any of another project.
fn may_supersede(newer: Rank<'_>, older: Rank<'_>) -> bool {
    newer.project == older.project && (newer.is_protected || !older.is_protected)
}

impl Tools {
    /// Supersedes older runs of this run's group or at this run's gate, or asks whether its turn has come.
    pub(crate) fn group(&self, lane: LaneKey, effect: Effect, request: Arc<RunRequest>) -> Job {
        let tools = self.clone();
        Box::pin(async move {
            let result = match &effect {
                Effect::SupersedeOlder { run } => tools.supersede_older(*run, &request).await,
                Effect::SupersedeAtGate { run, gate } => tools.supersede_at_gate(*run, gate, &request).await,
                Effect::AwaitTurn { run } => tools.await_turn(*run, &request).await,
                Effect::FindEarlier { .. }
                | Effect::RememberSuccess { .. }
                | Effect::LaunchAttempt { .. }
                | Effect::StopAttempt { .. }
                | Effect::AwaitLocks { .. }
                | Effect::Notify { .. } => Ok(Performed::Done),
            };
            let result = result.unwrap_or_else(|error| Performed::Transient {
                reason: error.to_string(),
            });
            Done::Performed { lane, effect, result }
        })
    }

    fn rank<'a>(&self, project: &'a Name, git_ref: Option<&GitRef>) -> Rank<'a> {
        Rank {
            project,
            is_protected: self.supplies.is_protected(project, git_ref),
        }
    }

    async fn supersede_older(&self, run: RunId, request: &RunRequest) -> Result<Performed, SubmitError> {
        let Some(group) = &request.group else {
            return Ok(Performed::Done);
        };
        let newer = self.rank(&request.project, request.context.event.revision.git_ref.as_ref());
        for older in self.older(run, Some(group.key.clone()), None).await? {
            if !may_supersede(newer, self.rank(&older.project, older.git_ref.as_ref())) {
                continue;
            }
            let is_in_the_way = match group.on_new {
                OnNew::CancelRunning => true,
                OnNew::CancelWaiting => older.phase == "pending",
                OnNew::Queue => false,
            };
            if is_in_the_way {
                self.cancel(older.id, CancelReason::Superseded { by: run })
                    .await?;
            }
        }
        Ok(Performed::Done)
    }

    async fn supersede_at_gate(
        &self,
        run: RunId,
        gate: &str,
        request: &RunRequest,
    ) -> Result<Performed, SubmitError> {
        for older in self.older(run, None, Some(request)).await? {
            if older.needs_person {
                let reason = CancelReason::SupersededAtGate {
                    by: run,
                    gate: gate.to_owned(),
                };
                self.cancel(older.id, reason).await?;
            }
        }
        Ok(Performed::Done)
    }

    async fn await_turn(&self, run: RunId, request: &RunRequest) -> Result<Performed, SubmitError> {
        let group = request.group.as_ref().map(|group| group.key.clone());
        if group.is_some() && !self.older(run, group, None).await?.is_empty() {
            return Ok(Performed::Blocked);
        }
        match self.handle.submit(run, Actor::System, Input::TurnGiven).await {
            Ok(()) | Err(SubmitError::Rejected(_)) => Ok(Performed::Done),
            Err(error) => Err(error),
        }
    }

    /// Active runs older than this one, of a group, or of the same pipeline and ref.
    async fn older(
        &self,
        run: RunId,
        group: Option<String>,
        like: Option<&RunRequest>,
    ) -> Result<Vec<RunSummary>, SubmitError> {
        let filter = RunFilter {
            projects: like.map(|request| BTreeSet::from([request.project.clone()])),
            pipeline: like.map(|request| request.plan.pipeline.clone()),
            active: true,
            group,
            before: Some(run),
            ..RunFilter::default()
        };
        let runs = self.store.runs(&filter, u32::MAX).await.map_err(unavailable)?;
        let same_ref = |older: &RunSummary| {
            like.is_none_or(|request| older.git_ref == request.context.event.revision.git_ref)
        };
        Ok(runs.into_iter().filter(same_ref).collect())
    }

    async fn cancel(&self, run: RunId, reason: CancelReason) -> Result<(), SubmitError> {
        match self
            .handle
            .submit(run, Actor::System, Input::CancelRequested(reason))
            .await
        {
            Ok(())
            | Err(SubmitError::Rejected(_) | SubmitError::Quarantined { .. } | SubmitError::NoSuchRun(_)) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_supersedes_none_that_is_trusted_more_and_none_of_another_project() {
        let (mall, shop): (Name, Name) = ("mall".parse().unwrap(), "shop".parse().unwrap());
        let rank = |project, is_protected| Rank {
            project,
            is_protected,
        };
        for (newer, older, may) in [
            (rank(&mall, true), rank(&mall, true), true),
            (rank(&mall, true), rank(&mall, false), true),
            (rank(&mall, false), rank(&mall, false), true),
            (rank(&mall, false), rank(&mall, true), false),
            (rank(&shop, true), rank(&mall, true), false),
            (rank(&shop, true), rank(&mall, false), false),
        ] {
            assert_eq!(may_supersede(newer, older), may);
        }
    }
}
