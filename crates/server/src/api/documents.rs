//! Documents: applied as a set, compared first if that is asked for, with everything that they ever were.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_model::{Name, Timestamp};
use pipekeeper_spec::document::{Document, Kind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Unusable,
    app::App,
    documents::{self, Kept, Mode, Origin, Step},
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
    /// What of them cannot be used now, and why.
    unusable: Vec<Unusable>,
}

/// `GET /api/v1/documents`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<DocumentsQuery>,
) -> Result<Json<DocumentsResponse>, ApiError> {
    let kind = query.kind.as_deref().map(kind_of).transpose()?;
    let (documents, unreadable) = documents::all(app.parts.registry.as_ref(), &caller, kind).await?;
    let mut unusable = app.parts.composer.unusable();
    unusable.retain(|one| kind.is_none_or(|kind| one.kind == kind));
    for one in unreadable {
        if !unusable
            .iter()
            .any(|known| (known.kind, &known.name) == (one.kind, &one.name))
        {
            unusable.push(one);
        }
    }
    Ok(Json(DocumentsResponse { documents, unusable }))
}

/// `GET /api/v1/documents/{kind}/{name}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((kind, name)): ApiPath<(String, Name)>,
) -> Result<Json<Kept>, ApiError> {
    let registry = app.parts.registry.as_ref();
    let one = documents::one(registry, &caller, (kind_of(&kind)?, &name)).await;
    one.map(Json)
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
    caller: Caller,
    ApiPath((kind, name)): ApiPath<(String, Name)>,
) -> Result<Json<VersionsResponse>, ApiError> {
    let registry = app.parts.registry.as_ref();
    let versions = documents::versions(registry, &caller, (kind_of(&kind)?, &name)).await?;
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
    let set = (body.documents, Origin::Caller);
    let steps = documents::apply(app.desk(), &caller, set, (mode, app.now())).await?;
    Ok(Json(ApplyResponse { steps }))
}

/// `POST /api/v1/documents/{kind}/{name}/remove`
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((kind, name)): ApiPath<(String, Name)>,
) -> Result<Json<Step>, ApiError> {
    let removed = documents::remove(app.desk(), &caller, (kind_of(&kind)?, &name), app.now());
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
