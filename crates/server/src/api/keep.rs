//! Runs that somebody wants kept whatever their age.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_model::{RunId, Timestamp};
use pipekeeper_store::{AuditEntry, Change, Expected, NewRecord, RecordKind};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::ApiError,
    extract::{ApiJson, ApiPath},
    gone::Missing,
    load::no_run,
    people::Caller,
};

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeepRequest {
    what: KeepWhat,
    reason: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeepWhat {
    Keep,
    Release,
}

/// Who keeps a run.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct KeptResponse {
    by: String,
    at: Timestamp,
    reason: Option<String>,
}

impl KeptResponse {
    /// For people: `Kept by ann: we need it`.
    pub(crate) fn words(&self) -> String {
        let by = &self.by;
        match &self.reason {
            Some(reason) => format!("Kept whatever its age by {by}: {reason}"),
            None => format!("Kept whatever its age by {by}"),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct KeepResponse {
    run: RunId,
    kept: Option<KeptResponse>,
    /// What of it went before.
    #[serde(flatten)]
    missing: Missing,
}

/// `POST /api/v1/runs/{run}/keep`: keeps a run, or lets it go again.
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(run): ApiPath<RunId>,
    ApiJson(body): ApiJson<KeepRequest>,
) -> Result<Json<KeepResponse>, ApiError> {
    let summary = app.parts.store.summary(run).await?.ok_or_else(|| no_run(run))?;
    let (verb, to) = match body.what {
        KeepWhat::Keep => {
            let record = NewRecord {
                owner: summary.project.to_string(),
                body: serde_json::to_string(&body.reason).map_err(|error| ApiError::internal(&error))?,
                expires: None,
            };
            ("run.keep", Some(record))
        }
        KeepWhat::Release => ("run.release", None),
    };
    let change = Change {
        kind: RecordKind::KeptRun,
        name: run.to_string(),
        expected: Expected::Any,
        to,
        author: caller.actor(),
        at: app.now(),
    };
    let entry = AuditEntry {
        project: Some(summary.project),
        reason: body.reason,
        ..caller.audit(verb, format!("run/{run}"), app.now())
    };
    app.parts.registry.change(vec![change], vec![entry]).await?;
    let kept = app.kept_by(run).await?;
    let missing = app.missing(run).await?;
    Ok(Json(KeepResponse { run, kept, missing }))
}

impl App {
    /// Who keeps a run, if somebody does.
    pub(crate) async fn kept_by(&self, run: RunId) -> Result<Option<KeptResponse>, ApiError> {
        let (registry, name) = (&self.parts.registry, run.to_string());
        let Some(record) = registry.record(RecordKind::KeptRun, &name).await? else {
            return Ok(None);
        };
        Ok(Some(KeptResponse {
            by: record.author.to_string(),
            at: record.at,
            reason: serde_json::from_str(&record.body).map_err(|error| ApiError::internal(&error))?,
        }))
    }
}
