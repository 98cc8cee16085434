//! Plans, and runs that are stored without having run: the past of a server that is busy for long.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context as _, Result, anyhow};
use pipekeeper_engine::{
    Decision, Earlier, Effect, Envelope, Event, Input, Origin, Run, RunPhase, RunRequest, Seen, decide,
    evolve,
};
use pipekeeper_model::{
    Actor, AttemptOutcome, AttemptRecord, EventKind, GitRef, Holder, Plan, Revision, RunContext, RunId,
    Timestamp, TriggerEvent,
};
use pipekeeper_spec::{PlanRequest, SourceFile};
use pipekeeper_store::{Commit, RunSummary, SqliteStore, Store as _};
use tokio::task::JoinSet;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// How many writers share a sync.
const WRITERS: u64 = 64;

/// The plan of a pipeline's text.
pub(crate) fn plan(text: &str) -> Result<Plan> {
    let file = SourceFile {
        path: ".pipe/web.yaml",
        text,
    };
    let (pipeline, _) =
        pipekeeper_spec::check(&file).map_err(|problems| anyhow!("{}", problems.to_lines(&file)))?;
    let request = PlanRequest {
        event: &event(),
        params: &BTreeMap::new(),
        selected: None,
        environments: &BTreeMap::new(),
    };
    pipeline.plan(&request).map_err(|errors| anyhow!("{errors:?}"))
}

/// A request to run a plan.
pub(crate) fn request(plan: Plan) -> Result<RunRequest> {
    Ok(RunRequest {
        project: "web".parse()?,
        plan,
        context: RunContext {
            event: event(),
            changed: Vec::new(),
        },
        group: None,
        adopted: None,
        earlier: Earlier::Adopt,
        origin: Origin::Repository,
        asked_before: std::collections::BTreeSet::new(),
    })
}

fn event() -> TriggerEvent {
    TriggerEvent {
        kind: EventKind::Push,
        revision: Revision {
            repository: "mall/web".to_owned(),
            sha: None,
            git_ref: Some(GitRef::Branch("main".to_owned())),
            subject: "Teach the cart to count".to_owned(),
        },
        schedule: None,
    }
}

/// Stores finished runs with these numbers.
pub(crate) async fn store_runs(data: &Path, plans: &[(RunId, Plan)]) -> Result<()> {
    let store = Arc::new(SqliteStore::open(data.join("pipekeeper.db")).await?);
    let mut writing = JoinSet::new();
    for (run, plan) in plans {
        let commit = finished(*run, plan.clone())?;
        let store = Arc::clone(&store);
        if writing.len() as u64 >= WRITERS {
            writing.join_next().await.context("no writer")???;
        }
        writing.spawn(async move { store.commit(commit).await });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    store.close().await;
    Ok(())
}

/// Everything that happened in a run all of whose actions succeeded.
fn finished(id: RunId, plan: Plan) -> Result<Commit> {
    let request = Arc::new(request(plan)?);
    let mut run = Run::new(id);
    let mut events = Vec::new();
    let mut waiting = give(&mut run, Input::RunRequested(Arc::clone(&request)), &mut events)?;
    while let Some(effect) = waiting.pop() {
        let Effect::LaunchAttempt { attempt } = effect else {
            continue;
        };
        let holder = Holder(format!("supervisor of {attempt}"));
        let asked = Input::TicketAsked {
            attempt,
            holder: holder.clone(),
            standings: BTreeMap::new(),
        };
        waiting.extend(give(&mut run, asked, &mut events)?);
        let record = AttemptRecord::without_steps(AttemptOutcome::Succeeded, "", NOW);
        let seen = Seen::Finished {
            holder,
            record: Box::new(record),
        };
        waiting.extend(give(
            &mut run,
            Input::AttemptObserved { attempt, seen },
            &mut events,
        )?);
    }
    let Some(RunPhase::Finished { outcome, at }) = run.phase() else {
        return Err(anyhow!("run {id} did not end"));
    };
    let summary = RunSummary {
        id,
        project: request.project.clone(),
        pipeline: request.plan.pipeline.clone(),
        event: "push".to_owned(),
        git_ref: request.context.event.revision.git_ref.clone(),
        sha: None,
        subject: request.context.event.revision.subject.clone(),
        actor: Actor::System,
        created_at: NOW,
        finished_at: Some(*at),
        outcome: Some(*outcome),
        phase: "finished".to_owned(),
        needs_person: false,
        group: None,
        next_deadline: None,
    };
    Ok(Commit {
        summary,
        expected: 0,
        events,
        snapshot: Some(pipekeeper_engine::Snapshot::from(&run)),
        effects: Vec::new(),
        settled: Vec::new(),
        delivery: None,
    })
}

fn give(run: &mut Run, body: Input, log: &mut Vec<Event>) -> Result<Vec<Effect>> {
    let envelope = Envelope {
        at: NOW,
        actor: Actor::System,
        body,
    };
    let Decision { events, effects } = decide(run, &envelope)?;
    for event in &events {
        evolve(run, event);
    }
    log.extend(events);
    Ok(effects)
}
