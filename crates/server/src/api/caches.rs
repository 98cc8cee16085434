//! The archive caches that the server keeps: list them, remove them.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_access::{Place, Verb};
use pipekeeper_controller::caches::{self, CacheEntry, CacheQuota, CacheWish, Removed};
use pipekeeper_model::{Bytes, Millis, Name, Timestamp};
use pipekeeper_store::AuditEntry;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::ApiError,
    extract::{ApiJson, ApiQuery, name_of},
    load::blocking,
    people::Caller,
};

/// One archive cache.
#[derive(Serialize)]
pub(crate) struct CacheItem {
    name: Name,
    key: String,
    project: Name,
    tier: String,
    bytes: Bytes,
    created_at: Timestamp,
    used_at: Timestamp,
}

impl From<CacheEntry> for CacheItem {
    fn from(entry: CacheEntry) -> Self {
        Self {
            name: entry.name,
            key: entry.key,
            project: entry.project,
            tier: entry.tier,
            bytes: entry.bytes,
            created_at: entry.created_at,
            used_at: entry.used_at,
        }
    }
}

#[derive(Serialize)]
struct QuotaItem {
    project: Bytes,
    total: Bytes,
}

impl From<CacheQuota> for QuotaItem {
    fn from(quota: CacheQuota) -> Self {
        Self {
            project: quota.project,
            total: quota.total,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct CachesResponse {
    caches: Vec<CacheItem>,
    quota: QuotaItem,
}

/// Whose caches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CachesQuery {
    project: Option<String>,
}

/// `GET /api/v1/caches`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<CachesQuery>,
) -> Result<Json<CachesResponse>, ApiError> {
    let projects = caller.narrow(Verb::ReadCaches, name_of(query.project.as_deref())?)?;
    let folder = app.parts.layout.caches();
    let found = blocking(move || caches::list(&folder)).await?;
    let is_wanted = |entry: &CacheEntry| {
        projects
            .as_ref()
            .is_none_or(|projects| projects.contains(&entry.project))
    };
    Ok(Json(CachesResponse {
        caches: found.into_iter().filter(is_wanted).map(CacheItem::from).collect(),
        quota: app.parts.cache_quota.into(),
    }))
}

/// Which caches go: those that fit everything that is said. What goes must be said, be it with `all`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveRequest {
    project: Option<Name>,
    name: Option<Name>,
    key: Option<String>,
    /// Not used for so long, in milliseconds.
    older_than: Option<Millis>,
    #[serde(default)]
    all: bool,
}

fn removed_subject(body: &RemoveRequest) -> String {
    let part = |name: &Option<Name>| name.as_ref().map_or("*".to_owned(), Name::to_string);
    format!("cache/{}/{}", part(&body.project), part(&body.name))
}

#[derive(Serialize)]
pub(crate) struct RemovedResponse {
    removed: Vec<CacheItem>,
    /// What is being read and stays.
    in_use: Vec<CacheItem>,
}

/// `POST /api/v1/caches/remove`
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiJson(body): ApiJson<RemoveRequest>,
) -> Result<Json<RemovedResponse>, ApiError> {
    if body.name.is_none() && body.older_than.is_none() && !body.all {
        return Err(ApiError::bad_request(
            "say which caches go: `name`, `older_than` or `all`",
        ));
    }
    let place = Place {
        project: body.project.as_ref(),
        environment: None,
    };
    caller.check(Verb::RemoveCaches, place)?;
    let entry = caller.audit("cache.remove", removed_subject(&body), app.now());
    app.note(AuditEntry {
        project: body.project.clone(),
        ..entry
    })
    .await?;
    let ago = |age: Millis| Timestamp(app.now().0.saturating_sub_unsigned(age.0));
    let wish = CacheWish {
        project: body.project,
        name: body.name,
        key: body.key,
        unused_since: body.older_than.map(ago),
    };
    let folder = app.parts.layout.caches();
    let Removed { gone, in_use } = blocking(move || caches::remove(&folder, &wish)).await?;
    for entry in &gone {
        tracing::info!(
            project.name = %entry.project,
            "removed the cache `{}` (key `{}`, {}) on request of {}",
            entry.name, entry.key, entry.tier, caller.actor(),
        );
    }
    if !gone.is_empty() {
        app.parts.handle.caches_removed();
    }
    Ok(Json(RemovedResponse {
        removed: gone.into_iter().map(CacheItem::from).collect(),
        in_use: in_use.into_iter().map(CacheItem::from).collect(),
    }))
}
