//! The audit log: who did what to what.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_access::{Place, Projects, Verb};
use pipekeeper_store::{AuditFilter, StoredAudit};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::ApiError,
    extract::{ApiQuery, name_of},
    people::Caller,
};

use super::runs::page_size;

/// Which entries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    pub(crate) actor: Option<String>,
    pub(crate) project: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) verb: Option<String>,
    pub(crate) before: Option<u64>,
    pub(crate) limit: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct AuditResponse {
    entries: Vec<StoredAudit>,
    /// The `before` of the next page.
    next: Option<u64>,
}

/// `GET /api/v1/audit`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> Result<Json<AuditResponse>, ApiError> {
    let (entries, next) = page(&app, &caller, &query).await?;
    Ok(Json(AuditResponse { entries, next }))
}

/// A page of the entries that the caller may see, newest first, and where the next one starts.
///
/// Who may not see all sees what concerns their projects: what concerns no project concerns everybody.
pub(crate) async fn page(
    app: &App,
    caller: &Caller,
    query: &AuditQuery,
) -> Result<(Vec<StoredAudit>, Option<u64>), ApiError> {
    let limit = page_size(query.limit);
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let filter = |project| AuditFilter {
        actor: text(&query.actor),
        project,
        subject: text(&query.subject),
        verb: text(&query.verb),
        before: query.before,
    };
    let registry = app.parts.registry.as_ref();
    let asked = name_of(query.project.as_deref())?;
    let entries = match (asked, caller.principal.projects(Verb::ReadAudit)) {
        (asked, Projects::All) => registry.audit(&filter(asked), limit).await?,
        (Some(project), Projects::Only(_)) => {
            caller.check(Verb::ReadAudit, Place::project(&project))?;
            registry.audit(&filter(Some(project)), limit).await?
        }
        (None, Projects::Only(projects)) => {
            let mut entries = Vec::new();
            for project in projects {
                entries.extend(registry.audit(&filter(Some(project)), limit).await?);
            }
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.id));
            entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            entries
        }
    };
    let is_full = u32::try_from(entries.len()).is_ok_and(|count| count == limit);
    let next = entries.last().map(|entry| entry.id).filter(|_| is_full);
    Ok((entries, next))
}
