//! A run's history: its events in words.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use pipekeeper_engine::{CancelReason, Event, Fact, Next};
use pipekeeper_model::{AttemptId, AttemptRecord, Name, NodeId, Plan, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::ApiError,
    extract::{ApiPath, ApiQuery},
};

use super::runs::page_size;

/// Which part of the history.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    pub(crate) after: Option<u64>,
    pub(crate) limit: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct EventsResponse {
    events: Vec<EventItem>,
    /// The `after` of the next page.
    next: Option<u64>,
}

/// One event.
#[derive(Debug, Serialize)]
pub(crate) struct EventItem {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
    pub(crate) actor: String,
    pub(crate) r#type: &'static str,
    pub(crate) node: Option<String>,
    pub(crate) text: String,
}

/// `GET /api/v1/runs/{run}/events`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
    ApiQuery(query): ApiQuery<EventsQuery>,
) -> Result<Json<EventsResponse>, ApiError> {
    let (events, next) = history(&app, run, &query).await?;
    Ok(Json(EventsResponse { events, next }))
}

/// A page of a run's history and where the next one starts.
pub(crate) async fn history(
    app: &App,
    run: RunId,
    query: &EventsQuery,
) -> Result<(Vec<EventItem>, Option<u64>), ApiError> {
    let store = app.parts.store.as_ref();
    let loaded = app.run(run).await?;
    let plan = &loaded.request()?.plan;
    let limit = page_size(query.limit);
    let events: Vec<_> = store
        .events(run, query.after.unwrap_or(0), limit)
        .await?
        .into_iter()
        .map(|(number, event)| EventItem::of(number, &event, plan))
        .collect();
    let last = events.last().map(|event| event.number);
    Ok((events, last.filter(|last| *last < loaded.version)))
}

impl EventItem {
    fn of(number: u64, event: &Event, plan: &Plan) -> Self {
        let name = |node: NodeId| plan.node(node).map(|node| node.name.clone());
        let (word, text) = tell(&event.fact, |node| name(node).unwrap_or_default());
        Self {
            number,
            at: event.at,
            actor: event.actor.to_string(),
            r#type: word,
            node: event.fact.node().and_then(name),
            text,
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm a fact")]
fn tell(fact: &Fact, name: impl Fn(NodeId) -> String) -> (&'static str, String) {
    match fact {
        Fact::RunCreated { .. } => ("run_created", "the run was made".to_owned()),
        Fact::TurnAwaited => ("turn_awaited", "waits for its turn".to_owned()),
        Fact::TurnCame => ("turn_came", "its turn came".to_owned()),
        Fact::NodeReadied { .. } => ("node_readied", "may run".to_owned()),
        Fact::NodeSkipped { reason, .. } => ("node_skipped", format!("skipped: {reason}")),
        Fact::NodeAdopted { .. } => (
            "node_adopted",
            "reused from the run that this one retries".to_owned(),
        ),
        Fact::StartAwaited { .. } => ("start_awaited", "waits for a person to start it".to_owned()),
        Fact::StartLooked { .. } => ("start_looked", "asked for the start".to_owned()),
        Fact::StartGiven { .. } => ("start_given", "started it".to_owned()),
        Fact::WaitBegan { before, .. } => ("wait_began", format!("waits for {}", before.awaited())),
        Fact::GateOpened { subject, .. } => (
            "gate_opened",
            format!("asks for approval of {}", subject.to_short()),
        ),
        Fact::GateApproved { subject, comment, .. } => (
            "gate_approved",
            with_comment(&format!("approved {}", subject.to_short()), comment.as_deref()),
        ),
        Fact::GateBypassed { subject, comment, .. } => (
            "gate_bypassed",
            with_comment(
                &format!("bypassed the gate for {}", subject.to_short()),
                comment.as_deref(),
            ),
        ),
        Fact::GateVoided { lost, .. } => ("gate_voided", voided(lost)),
        Fact::GateRejected { comment, .. } => ("gate_rejected", with_comment("rejected", comment.as_deref())),
        Fact::AttemptScheduled { attempt, .. } => (
            "attempt_scheduled",
            format!("attempt {} is scheduled", attempt.number),
        ),
        Fact::SearchBegan { .. } => (
            "search_began",
            "looks for an earlier success with the same inputs".to_owned(),
        ),
        Fact::InputsKnown { attempt, .. } => (
            "inputs_known",
            format!("there is none: attempt {} is launched", attempt.number),
        ),
        Fact::LaunchHeldUp { attempt, .. } => (
            "launch_held_up",
            format!("attempt {} cannot be launched now, and waits", attempt.number),
        ),
        Fact::LaunchWentOn { attempt, .. } => (
            "launch_went_on",
            format!("attempt {} is launched", attempt.number),
        ),
        Fact::NodeReused { result, .. } => (
            "node_reused",
            format!("succeeded: reused from run {}", result.attempt.run),
        ),
        Fact::TicketGranted { attempt, .. } => {
            ("ticket_granted", format!("attempt {} starts", attempt.number))
        }
        Fact::StopAsked { attempt, outcome, .. } => (
            "stop_asked",
            format!("attempt {} is being stopped ({outcome})", attempt.number),
        ),
        Fact::AttemptFinished {
            attempt,
            record,
            next,
        } => ("attempt_finished", ended(*attempt, record, *next)),
        Fact::NodeFinished { outcome, reason, .. } => {
            ("node_finished", with_comment(outcome.word(), reason.as_deref()))
        }
        Fact::RunHalted { node } => (
            "run_halted",
            format!("`{}` failed: nothing else starts", name(*node)),
        ),
        Fact::LocksAwaited { .. } => ("locks_awaited", "waits for its locks".to_owned()),
        Fact::LocksTaken { .. } => ("locks_taken", "took its locks".to_owned()),
        Fact::LocksReleased { .. } => ("locks_released", "gave its locks back".to_owned()),
        Fact::CancelBegan { reason } => ("cancel_began", cancel_text(reason)),
        Fact::FinallyBegan { .. } => ("finally_began", "the `finally` entries may run".to_owned()),
        Fact::FinallyStopped => ("finally_stopped", "the `finally` entries are stopped".to_owned()),
        Fact::RunFinished { outcome } => ("run_finished", format!("the run ended: {outcome}")),
    }
}

fn ended(attempt: AttemptId, record: &AttemptRecord, next: Next) -> String {
    let ended = format!("attempt {} {}", attempt.number, record.outcome.to_outcome());
    let text = with_comment(&ended, record.reason.as_deref());
    match next {
        Next::Settled { .. } => text,
        Next::Retried { .. } => format!("{text}; it is tried again"),
        Next::Withdrawn => format!("{text}; it waits for that"),
    }
}

fn voided(lost: &BTreeSet<Name>) -> String {
    let names: Vec<&str> = lost.iter().map(Name::as_str).collect();
    match names.as_slice() {
        [] => "is open again: more approvals are needed".to_owned(),
        names => format!(
            "is open again: {} may not approve it any more",
            names.join(" and ")
        ),
    }
}

fn with_comment(text: &str, comment: Option<&str>) -> String {
    match comment {
        Some(comment) => format!("{text}: {comment}"),
        None => text.to_owned(),
    }
}

/// Why a run is being stopped, for people.
pub(crate) fn cancel_text(reason: &CancelReason) -> String {
    match reason {
        CancelReason::Superseded { by } => format!("superseded by run {by}"),
        CancelReason::SupersededAtGate { by, gate } => format!("superseded at `{gate}` by run {by}"),
        CancelReason::Asked => "cancelled".to_owned(),
        CancelReason::Expired => "its time was over".to_owned(),
        CancelReason::GivenUp { reason } => format!("given up: {reason}"),
    }
}
