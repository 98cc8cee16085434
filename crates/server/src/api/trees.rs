//! `POST /api/v1/projects/{project}/trees`: a working tree that a run is to be made of. Received into a file, never into memory.

use std::{path::Path, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use futures_util::StreamExt;
use pipekeeper_model::{Name, Sha};
use pipekeeper_store::AuditEntry;
use serde::{Deserialize, Serialize};
use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
    time::timeout,
};

use crate::{
    TreeError,
    app::App,
    error::{ApiError, Problem},
    extract::{ApiPath, ApiQuery, BodyLimits, announced_length, too_large, too_slow},
    people::Caller,
};

/// What people call it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TreeQuery {
    #[serde(default)]
    subject: String,
}

#[derive(Serialize)]
pub(crate) struct TreeRef {
    tree: Sha,
}

/// Takes the `.tar.zst` archive of a working tree.
pub(crate) async fn take(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(project): ApiPath<Name>,
    ApiQuery(query): ApiQuery<TreeQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<TreeRef>), ApiError> {
    if !app.parts.projects.names().contains(&project) {
        return Err(ApiError::not_found(format!("there is no project `{project}`")));
    }
    let slot = Arc::clone(&app.trees)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(Problem::Busy, "too many working trees arrive at once"))?;
    let limits = BodyLimits {
        bytes: app.parts.limits.tree_body,
        idle: app.parts.limits.idle_timeout,
        whole: app.parts.limits.tree_timeout,
    };
    let entry = caller.audit("tree.send", format!("project/{project}"), app.now());
    app.note(AuditEntry {
        project: Some(project.clone()),
        ..entry
    })
    .await?;
    let folder = app.parts.trees.folder();
    let file = tokio::task::spawn_blocking(move || tempfile::NamedTempFile::new_in(folder))
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))?;
    timeout(limits.whole, receive(&headers, body, limits, file.path()))
        .await
        .map_err(|_| too_slow())??;
    let trees = Arc::clone(&app.parts.trees);
    // A client that goes away must not tear it.
    let kept = tokio::spawn(async move {
        let _slot = slot;
        trees.keep(&project, file.path(), &query.subject).await
    });
    let tree = kept.await.map_err(|error| ApiError::internal(&error))??;
    Ok((StatusCode::CREATED, Json(TreeRef { tree })))
}

async fn receive(headers: &HeaderMap, body: Body, limits: BodyLimits, path: &Path) -> Result<(), ApiError> {
    if announced_length(headers).is_some_and(|length| length > limits.bytes) {
        return Err(too_large(limits.bytes));
    }
    let file = File::create(path).await;
    let mut file = BufWriter::new(file.map_err(|error| ApiError::internal(&error))?);
    let mut frames = body.into_data_stream();
    let mut length: usize = 0;
    while let Some(frame) = timeout(limits.idle, frames.next())
        .await
        .map_err(|_| too_slow())?
    {
        let frame = frame.map_err(|_| ApiError::bad_request("the body broke off"))?;
        length = length.saturating_add(frame.len());
        if length > limits.bytes {
            return Err(too_large(limits.bytes));
        }
        file.write_all(&frame)
            .await
            .map_err(|error| ApiError::internal(&error))?;
    }
    file.flush().await.map_err(|error| ApiError::internal(&error))
}

impl From<TreeError> for ApiError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Unusable { reason } => Self::new(Problem::Unprocessable, reason),
            TreeError::Unavailable { reason } => Self::internal(&reason),
        }
    }
}
