//! Bytes as they are: logs and artifacts. Browsers must neither run nor guess them.

use std::{io::SeekFrom, path::PathBuf, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use pipekeeper_engine::Ended;
use pipekeeper_model::{ArtifactResult, Digest, OutputValue, RunId};
use serde::Deserialize;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use crate::{
    app::App,
    error::ApiError,
    extract::{ApiPath, ApiQuery},
    gone::gone,
    people::{Caller, Proof},
};

const BUFFER: usize = 64 * 1024;
const SANDBOX: &str = "default-src 'none'; sandbox";

/// Which part of a log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    attempt: Option<u32>,
    #[serde(default)]
    offset: u64,
    limit: Option<u64>,
}

/// `GET /api/v1/runs/{run}/nodes/{node}/log`: the bytes from `offset` on, as far as they are written.
pub(crate) async fn log(
    State(app): State<Arc<App>>,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    ApiQuery(query): ApiQuery<LogQuery>,
) -> Result<Response, ApiError> {
    let loaded = app.run(run).await?;
    let attempt = loaded.node(&node)?.attempt(run, query.attempt)?;
    if let Some(how) = app.log_gone(run, attempt).await? {
        return Err(gone("the log", &how));
    }
    let file = open(app.parts.layout.log(attempt)).await?;
    let size = match &file {
        Some(file) => file
            .metadata()
            .await
            .map_err(|error| ApiError::internal(&error))?
            .len(),
        None => 0,
    };
    let left = size.saturating_sub(query.offset);
    let length = query.limit.map_or(left, |limit| limit.min(left));
    let body = match file {
        // The system has no word for places far behind the end.
        Some(file) => part(file, query.offset.min(size), length).await?,
        None => Body::empty(),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert("x-log-size", HeaderValue::from(size));
    headers.insert("x-log-attempt", HeaderValue::from(attempt.number));
    Ok(response)
}

/// `GET /api/v1/runs/{run}/nodes/{node}/artifacts/{artifact}`: the archive, to be saved and not shown.
pub(crate) async fn artifact(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node, name)): ApiPath<(RunId, String, String)>,
) -> Result<Response, ApiError> {
    let loaded = app.run(run).await?;
    let state = loaded.node(&node)?.state;
    let artifact = state
        .ended()
        .into_iter()
        .flat_map(Ended::artifacts)
        .find(|artifact| artifact.name.as_str() == name)
        .ok_or_else(|| ApiError::not_found(format!("`{node}` has made no artifact of this name")))?;
    // A program that proves itself by a token runs nothing of what it gets; a browser might, where its session is.
    if caller.proof != Proof::Token
        && let Some(elsewhere) = app.way_to(run, artifact)?
    {
        return Ok(elsewhere.into_response());
    }
    archive(&app, run, &artifact.digest, &file_name(artifact)).await
}

/// What an artifact's archive is called: letters, digits, `_`, `.` and `-` only, so it needs no quoting rules.
pub(crate) fn file_name(artifact: &ArtifactResult) -> String {
    format!("{}.tar.zst", artifact.name)
}

/// An archive of a run, to be saved and not shown.
pub(crate) async fn archive(
    app: &App,
    run: RunId,
    digest: &Digest,
    file_name: &str,
) -> Result<Response, ApiError> {
    app.check_artifacts(run, "the artifact").await?;
    let file = open(app.parts.layout.artifact(digest))
        .await?
        .ok_or_else(|| gone("the artifact", "removed"))?;
    let length = file
        .metadata()
        .await
        .map_err(|error| ApiError::internal(&error))?
        .len();
    let mut response = part(file, 0, length).await?.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    let saved_as = format!("attachment; filename=\"{file_name}\"");
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::try_from(saved_as).map_err(|error| ApiError::internal(&error))?,
    );
    Ok(response)
}

/// `GET /api/v1/runs/{run}/nodes/{node}/outputs/{output}`: the value, whatever its size, to be saved and not shown.
pub(crate) async fn output(
    State(app): State<Arc<App>>,
    ApiPath((run, node, key)): ApiPath<(RunId, String, String)>,
) -> Result<Response, ApiError> {
    let loaded = app.run(run).await?;
    let state = loaded.node(&node)?.state;
    let (_, value) = state
        .ended()
        .into_iter()
        .flat_map(Ended::outputs)
        .find(|(known, _)| *known == key)
        .ok_or_else(|| ApiError::not_found(format!("`{node}` has no output of this name")))?;
    let (body, length) = match value {
        OutputValue::Text(text) => (Body::from(text.clone()), text.len() as u64),
        OutputValue::File { digest, .. } => {
            app.check_artifacts(run, "the output's file").await?;
            let file = open(app.parts.layout.blob(digest))
                .await?
                .ok_or_else(|| gone("the output's file", "removed"))?;
            let length = (file.metadata().await)
                .map_err(|error| ApiError::internal(&error))?
                .len();
            (part(file, 0, length).await?, length)
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment"),
    );
    Ok(response)
}

async fn open(path: PathBuf) -> Result<Option<File>, ApiError> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ApiError::internal(&error)),
    }
}

async fn part(mut file: File, offset: u64, length: u64) -> Result<Body, ApiError> {
    file.seek(SeekFrom::Start(offset))
        .await
        .map_err(|error| ApiError::internal(&error))?;
    Ok(Body::from_stream(ReaderStream::with_capacity(
        file.take(length),
        BUFFER,
    )))
}
