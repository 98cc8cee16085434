//! The locks in use: who has them, who waits.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use pipekeeper_access::Verb;
use pipekeeper_engine::{Claim, InUse};
use pipekeeper_model::{Name, NodeId, RunId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::ApiError,
    extract::{ApiQuery, name_of},
    people::Caller,
};

/// Whose locks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LocksQuery {
    project: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct LocksResponse {
    locks: Vec<LockItem>,
}

#[derive(Serialize)]
struct LockItem {
    name: Name,
    /// None for a lock of the whole server.
    project: Option<Name>,
    slots: u32,
    holders: Vec<ClaimItem>,
    /// In the order in which they get it.
    waiting: Vec<ClaimItem>,
}

/// Who has a lock or waits for it; of projects that the caller may not look at, only since when.
#[derive(Serialize)]
struct ClaimItem {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    who: Option<WhoItem>,
    since: Timestamp,
}

#[derive(Serialize)]
struct WhoItem {
    run: RunId,
    project: Name,
    pipeline: Name,
    action: Name,
    hold: NodeId,
}

/// `GET /api/v1/locks`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<LocksQuery>,
) -> Result<Json<LocksResponse>, ApiError> {
    let projects = caller.narrow(Verb::ReadRuns, name_of(query.project.as_deref())?)?;
    let claims = app.parts.handle.locks().claims();
    let locks = InUse::all(&claims).into_iter();
    Ok(Json(LocksResponse {
        locks: locks.filter_map(|lock| item(&lock, projects.as_ref())).collect(),
    }))
}

/// A lock, if a run of one of these projects has it or waits for it.
fn item(lock: &InUse<'_>, projects: Option<&BTreeSet<Name>>) -> Option<LockItem> {
    let is_seen = |claim: &Claim| projects.is_none_or(|projects| projects.contains(&claim.project));
    let mut all = lock.holders.iter().chain(&lock.waiting);
    if !all.any(|claim| is_seen(claim)) {
        return None;
    }
    let items = |claims: &[&Claim]| {
        let item = |claim: &&Claim| ClaimItem {
            who: is_seen(claim).then(|| WhoItem {
                run: claim.id.run,
                project: claim.project.clone(),
                pipeline: claim.pipeline.clone(),
                action: claim.action.clone(),
                hold: claim.id.hold,
            }),
            since: claim.since,
        };
        claims.iter().map(item).collect()
    };
    Some(LockItem {
        name: lock.key.name.clone(),
        project: lock.key.project.clone(),
        slots: lock.slots,
        holders: items(&lock.holders),
        waiting: items(&lock.waiting),
    })
}
