//! A run in the words of lists.

use pipekeeper_engine::{NodeState, Run, RunPhase};
use pipekeeper_store::RunSummary;

/// The summary of a run that exists.
pub(crate) fn summarise(run: &Run) -> Option<RunSummary> {
    let request = run.request()?;
    let (actor, created_at) = run.requested_by()?;
    let (phase, outcome, finished_at) = match run.phase()? {
        RunPhase::Pending => ("pending", None, None),
        RunPhase::Running => ("running", None, None),
        RunPhase::Stopping { .. } => ("stopping", None, None),
        RunPhase::Finished { outcome, at } => ("finished", Some(*outcome), Some(*at)),
    };
    let revision = &request.context.event.revision;
    let asks = |state: &NodeState| matches!(state, NodeState::Deciding(_) | NodeState::AwaitingStart { .. });
    Some(RunSummary {
        id: run.id(),
        project: request.project.clone(),
        pipeline: request.plan.pipeline.clone(),
        event: request.context.event.kind.to_string(),
        git_ref: revision.git_ref.clone(),
        sha: revision.sha.clone(),
        subject: revision.subject.clone(),
        actor: actor.clone(),
        created_at,
        finished_at,
        outcome,
        phase: phase.to_owned(),
        needs_person: outcome.is_none() && run.nodes().iter().any(asks),
        group: request.group.as_ref().map(|group| group.key.clone()),
        next_deadline: run.next_deadline().map(|(at, _)| at),
    })
}
