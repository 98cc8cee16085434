//! Documents: applied as a set, compared first if that is asked for, with everything that they ever were.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_model::{Name, Timestamp};
use pipekeeper_spec::document::{Document, Kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    app::App,
    documents::{self, Kept, Mode, Step},
    error::ApiError,
    extract::{ApiJson, ApiPath, ApiQuery},
    people::Caller,
};

/// Which documents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentsQuery {
    kind: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct DocumentsResponse {
    documents: Vec<Kept>,
}

/// `GET /api/v1/documents`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    ApiQuery(query): ApiQuery<DocumentsQuery>,
) -> Result<Json<DocumentsResponse>, ApiError> {
    let kind = query.kind.as_deref().map(kind_of).transpose()?;
    let documents = documents::all(app.parts.registry.as_ref(), kind).await?;
    Ok(Json(DocumentsResponse { documents }))
}

/// `GET /api/v1/documents/{kind}/{name}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiPath((kind, name)): ApiPath<(String, Name)>,
) -> Result<Json<Kept>, ApiError> {
    let registry = app.parts.registry.as_ref();
    documents::one(registry, kind_of(&kind)?, &name).await.map(Json)
}

#[derive(Serialize)]
pub(crate) struct VersionsResponse {
    versions: Vec<VersionItem>,
}

/// One version of a document; without a document it was removed.
#[derive(Serialize)]
struct VersionItem {
    version: u64,
    author: String,
    at: Timestamp,
    document: Option<Value>,
}

/// `GET /api/v1/documents/{kind}/{name}/versions`
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    ApiPath((kind, name)): ApiPath<(String, Name)>,
) -> Result<Json<VersionsResponse>, ApiError> {
    let registry = app.parts.registry.as_ref();
    let versions = documents::versions(registry, kind_of(&kind)?, &name).await?;
    let item = |version: pipekeeper_store::RecordVersion| {
        let document = version.body.as_deref().map(serde_json::from_str).transpose();
        Ok(VersionItem {
            version: version.version,
            author: version.author.to_string(),
            at: version.at,
            document: document.map_err(|error| ApiError::internal(&error))?,
        })
    };
    let versions = versions.into_iter().map(item).collect::<Result<_, ApiError>>()?;
    Ok(Json(VersionsResponse { versions }))
}

/// `POST /api/v1/documents/apply`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApplyRequest {
    documents: Vec<Document>,
    #[serde(default)]
    mode: ModeRequest,
}

/// Whether they become true, or are only compared with what is there.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeRequest {
    #[default]
    Apply,
    Compare,
}

#[derive(Serialize)]
pub(crate) struct ApplyResponse {
    steps: Vec<Step>,
}

pub(crate) async fn apply(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiJson(body): ApiJson<ApplyRequest>,
) -> Result<Json<ApplyResponse>, ApiError> {
    let mode = match body.mode {
        ModeRequest::Apply => Mode::Apply,
        ModeRequest::Compare => Mode::Compare,
    };
    let projects = app.parts.projects.names();
    let registry = app.parts.registry.as_ref();
    let how = (mode, app.now());
    let steps = documents::apply(registry, &caller, body.documents, &projects, how).await?;
    Ok(Json(ApplyResponse { steps }))
}

/// `POST /api/v1/documents/{kind}/{name}/remove`
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((kind, name)): ApiPath<(String, Name)>,
) -> Result<Json<Step>, ApiError> {
    let registry = app.parts.registry.as_ref();
    let removed = documents::remove(registry, &caller, (kind_of(&kind)?, &name), app.now());
    removed.await.map(Json)
}

fn kind_of(text: &str) -> Result<Kind, ApiError> {
    let same = |kind: &&Kind| kind.as_str().eq_ignore_ascii_case(text);
    Kind::ALL.iter().find(same).copied().ok_or_else(|| {
        let all: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        ApiError::not_found(format!("there is no kind `{text}` of documents"))
            .with_hint(format!("there are {}", all.join(", ")))
    })
}
