//! Reading requests: paths, queries and bodies, each failing as an [`ApiError`].

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
    response::Response,
};
use futures_util::StreamExt;
use pipekeeper_model::{Name, RunId};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    app::App,
    error::{ApiError, Problem},
    routes::failure,
};

/// How fast and how long a body may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: usize,
    pub(crate) idle: Duration,
    pub(crate) whole: Duration,
}

/// Reads a body in bounded memory and time; `grown` is asked before more than so many bytes are kept.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limits: BodyLimits,
    grown: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limits.bytes) {
        return Err(too_large(limits.bytes));
    }
    timeout(limits.whole, collect(body, announced.unwrap_or(0), limits, grown))
        .await
        .map_err(|_| too_slow())?
}

async fn collect(
    body: Body,
    announced: usize,
    limits: BodyLimits,
    mut grown: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let mut frames = body.into_data_stream();
    // The length is announced, not sent: reserving all of it would let a few words of header cost megabytes.
    let mut kept = Vec::with_capacity(announced.min(64 * 1024));
    while let Some(frame) = timeout(limits.idle, frames.next())
        .await
        .map_err(|_| too_slow())?
    {
        let frame = frame.map_err(|_| ApiError::bad_request("the body broke off"))?;
        let length = kept.len().saturating_add(frame.len());
        if length > limits.bytes {
            return Err(too_large(limits.bytes));
        }
        grown(length)?;
        kept.extend_from_slice(&frame);
    }
    Ok(kept.into())
}

pub(crate) fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn too_large(limit: usize) -> ApiError {
    ApiError::new(Problem::TooLarge, format!("the body has more than {limit} bytes"))
}

pub(crate) fn too_slow() -> ApiError {
    ApiError::new(Problem::Timeout, "the body came too slowly")
}

/// A JSON body without unknown fields.
pub(crate) struct ApiJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let is_json = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(ApiError::new(
                Problem::UnsupportedMediaType,
                "the body is not said to be JSON",
            ));
        }
        let bytes = read_body(&parts.headers, body, app.body_limits(), |_| Ok(())).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::bad_request(format!("read the body: {error}")))
    }
}

/// The parameters of an address.
pub(crate) struct ApiQuery<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for ApiQuery<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        Query::from_request_parts(parts, app)
            .await
            .map(|Query(value)| Self(value))
            .map_err(|rejection| failure(&parts.uri, ApiError::bad_request(rejection.body_text())))
    }
}

/// The parts of a path; one that cannot be read names nothing.
pub(crate) struct ApiPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for ApiPath<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        Path::from_request_parts(parts, app)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|_| failure(&parts.uri, ApiError::not_found("the address names nothing")))
    }
}

/// A name from an address's parameters; empty counts as absent, as browsers send empty form fields.
pub(crate) fn name_of(text: Option<&str>) -> Result<Option<Name>, ApiError> {
    text.filter(|text| !text.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(|error: pipekeeper_model::NameError| ApiError::bad_request(error.to_string()))
}

/// A run's cursor.
pub(crate) fn run_before(before: Option<u64>) -> Option<RunId> {
    before.map(RunId)
}
