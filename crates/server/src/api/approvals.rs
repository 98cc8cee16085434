//! What waits for people, over all projects.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_model::{Name, Timestamp};
use serde::Serialize;

use crate::{
    app::App,
    error::ApiError,
    inbox::{self, Waiting},
    people::Caller,
};

use super::wire::{GateResponse, RunItem, StartResponse, gate, gate_text, start};

#[derive(Serialize)]
pub(crate) struct ApprovalsResponse {
    /// What the caller can decide first; of either kind the newest first.
    approvals: Vec<ApprovalItem>,
    /// Whether older runs wait for people too.
    more: bool,
}

/// A gate that is open, or an action that waits for its start.
#[derive(Serialize)]
struct ApprovalItem {
    /// As `pipe approve` takes it.
    target: String,
    action: String,
    run: RunItem,
    /// The text of the gate; none for a start.
    asks: Option<String>,
    /// The environment that it is the gate of.
    environment: Option<Name>,
    why: String,
    since: Timestamp,
    expires: Timestamp,
    may: MayItem,
    /// Why the caller may not approve or start it.
    why_not: Option<String>,
    gate: Option<GateResponse>,
    start: Option<StartResponse>,
}

/// What the caller may do about it.
#[derive(Serialize)]
struct MayItem {
    /// Approve it, or start it.
    approve: bool,
    reject: bool,
    bypass: bool,
}

/// `GET /api/v1/approvals`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<ApprovalsResponse>, ApiError> {
    let inbox = inbox::open(&app, &caller, |waiting| Ok(ApprovalItem::of(waiting))).await?;
    Ok(Json(ApprovalsResponse {
        approvals: inbox.entries,
        more: inbox.has_more,
    }))
}

impl ApprovalItem {
    fn of(waiting: &Waiting<'_>) -> Self {
        let Waiting {
            summary,
            loaded,
            node,
            need,
            leave,
        } = waiting;
        let text = gate_text(&node.node.body);
        let guarded = loaded.run.plan().and_then(|plan| plan.guarded_by(node.id));
        Self {
            target: format!("{}/{}", summary.id, node.node.name),
            action: node.node.name.clone(),
            run: RunItem::from((*summary).clone()),
            asks: (!text.is_empty()).then(|| text.to_owned()),
            environment: guarded.cloned(),
            why: loaded.why(*node),
            since: need.since,
            expires: need.expires,
            may: MayItem {
                approve: leave.approve.is_ok(),
                reject: leave.reject.is_ok(),
                bypass: leave.bypass.is_ok(),
            },
            why_not: leave.approve.as_ref().err().cloned(),
            gate: gate(&loaded.run, *node),
            start: start(*node),
        }
    }
}
