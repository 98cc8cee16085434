//! How a request fails: one enumerable kind, said as RFC 9457 problem JSON. Internal causes are logged, never sent.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pipekeeper_controller::{IntakeError, SubmitError};
use pipekeeper_engine::Rejection;
use pipekeeper_store::{ChangeError, StoreError};
use serde::Serialize;
use tracing::error;

/// The kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    BadRequest,
    Unauthorized,
    Forbidden,
    ForeignHost,
    ForeignOrigin,
    NotFound,
    Gone,
    MethodNotAllowed,
    Timeout,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    Unprocessable,
    Internal,
    Busy,
    Unavailable,
}

impl Problem {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ForeignHost,
        Self::ForeignOrigin,
        Self::NotFound,
        Self::Gone,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unprocessable,
        Self::Internal,
        Self::Busy,
        Self::Unavailable,
    ];

    /// Its status and its stable word.
    fn code(self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad-request"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::ForeignHost => (StatusCode::MISDIRECTED_REQUEST, "foreign-host"),
            Self::ForeignOrigin => (StatusCode::FORBIDDEN, "foreign-origin"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            Self::Gone => (StatusCode::GONE, "gone"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
            Self::Unprocessable => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }

    /// Its title, and what to do next unless the error knows better.
    fn advice(self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest => (
                "the request cannot be read",
                "compare it with the documentation of the API",
            ),
            Self::Unauthorized => (
                "the request proves no right",
                "send `Authorization: Bearer pk_…` with the token that the server printed",
            ),
            Self::Forbidden => ("the request is not allowed", "ask somebody who may do it"),
            Self::ForeignHost => (
                "the request names another host",
                "open the server as `127.0.0.1`, `[::1]` or `localhost`",
            ),
            Self::ForeignOrigin => (
                "the request comes from another site",
                "send it from the server's own pages, or without a browser",
            ),
            Self::NotFound => (
                "there is no such thing",
                "`pipe runs` and `pipe hooks list`, or their pages, show what there is",
            ),
            Self::Gone => (
                "it is no longer kept",
                "`[retention]` of the server and `retention` of the project say how long things are kept",
            ),
            Self::MethodNotAllowed => ("the address takes another method", "the header `Allow` names it"),
            Self::Timeout => ("the request came too slowly", "send it again"),
            Self::Conflict => ("things have changed", "look at the run again"),
            Self::TooLarge => ("the body is too large", "send less"),
            Self::UnsupportedMediaType => (
                "the body is of another type",
                "send JSON with `Content-Type: application/json`",
            ),
            Self::Unprocessable => (
                "what was asked for cannot be done",
                "ask for something else: what is wrong with this stands above",
            ),
            Self::Internal => ("our side broke", "the server's log says more"),
            Self::Busy => ("too much is asked at once", "try again in a moment"),
            Self::Unavailable => (
                "the server cannot work now",
                "try again later; the server's log says more",
            ),
        }
    }
}

/// A request failed.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    problem: Problem,
    detail: String,
    hint: Option<String>,
}

impl ApiError {
    pub(crate) fn new(problem: Problem, detail: impl Into<String>) -> Self {
        Self {
            problem,
            detail: detail.into(),
            hint: None,
        }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(Problem::NotFound, what)
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(Problem::BadRequest, detail)
    }

    /// Logs the cause and keeps it from the client.
    pub(crate) fn internal(cause: &dyn std::fmt::Display) -> Self {
        error!(%cause, "a request failed");
        Self::new(Problem::Internal, "the request could not be answered")
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn problem(&self) -> Problem {
        self.problem
    }

    /// Whether the server is at fault, and not who asks.
    pub(crate) fn is_ours(&self) -> bool {
        self.status().is_server_error()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.problem.code().0
    }

    pub(crate) fn title(&self) -> &'static str {
        self.problem.advice().0
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    pub(crate) fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.problem.advice().1)
    }

    fn retry_after(&self) -> Option<&'static str> {
        match self.problem {
            Problem::Busy => Some("1"),
            Problem::Unavailable => Some("5"),
            Problem::BadRequest
            | Problem::Unauthorized
            | Problem::Forbidden
            | Problem::ForeignHost
            | Problem::ForeignOrigin
            | Problem::NotFound
            | Problem::Gone
            | Problem::MethodNotAllowed
            | Problem::Timeout
            | Problem::Conflict
            | Problem::TooLarge
            | Problem::UnsupportedMediaType
            | Problem::Unprocessable
            | Problem::Internal => None,
        }
    }

    /// Headers that belong to the status, whatever the body.
    pub(crate) fn decorate(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.problem == Problem::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

#[derive(Serialize)]
struct ProblemResponse<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    hint: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, word) = self.problem.code();
        let body = ProblemResponse {
            r#type: format!("urn:pipekeeper:problem:{word}"),
            title: self.title(),
            status: status.as_u16(),
            detail: &self.detail,
            hint: self.hint(),
        };
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        self.decorate(&mut response);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(cause: StoreError) -> Self {
        match cause {
            StoreError::Unavailable { .. } | StoreError::Closed | StoreError::Fenced => {
                error!(%cause, "the store does not work");
                Self::new(Problem::Unavailable, "the store does not work now")
            }
            StoreError::Corrupt { .. } => Self::internal(&cause),
        }
    }
}

impl From<ChangeError> for ApiError {
    fn from(cause: ChangeError) -> Self {
        match cause {
            ChangeError::Store(cause) => cause.into(),
            ChangeError::Conflict { .. } => {
                Self::new(Problem::Conflict, "somebody else changed it at the same time")
                    .with_hint("look at it again")
            }
        }
    }
}

impl From<SubmitError> for ApiError {
    fn from(cause: SubmitError) -> Self {
        let detail = cause.to_string();
        let problem = match cause {
            SubmitError::Rejected(rejection) => match rejection {
                Rejection::Illegal { .. } => Problem::Unprocessable,
                Rejection::Stale { .. } | Rejection::Duplicate => Problem::Conflict,
                Rejection::NotPermitted { .. } => Problem::Forbidden,
            },
            SubmitError::NoSuchRun(_) => Problem::NotFound,
            SubmitError::Quarantined { .. } => Problem::Conflict,
            SubmitError::Unsupported { .. } => Problem::Unprocessable,
            SubmitError::Intake(intake) => match intake {
                IntakeError::Transient { .. } => Problem::Unavailable,
                IntakeError::Terminal { .. } => Problem::Unprocessable,
                IntakeError::NotFound { .. } => Problem::NotFound,
            },
            SubmitError::Unavailable { .. } => {
                error!(cause = detail, "the controller cannot store");
                return Self::new(Problem::Unavailable, "the store does not work now");
            }
            SubmitError::Closed => Problem::Unavailable,
        };
        Self::new(problem, detail)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ApiError, Problem};
    use axum::response::IntoResponse;
    use pipekeeper_store::StoreError;

    #[test]
    fn every_problem_has_its_own_word_and_an_error_status() {
        let words: BTreeSet<_> = Problem::ALL.map(|problem| problem.code().1).into();
        assert_eq!(words.len(), Problem::ALL.len());
        for problem in Problem::ALL {
            let response = ApiError::new(problem, "x").into_response();
            assert!(response.status().as_u16() >= 400);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }

    #[test]
    fn internals_stay_inside() {
        let error = ApiError::from(StoreError::Unavailable {
            reason: "/var/secret/path is full".to_owned(),
        });
        assert!(!error.detail().contains("secret"));
        assert_eq!(error.into_response().headers()["retry-after"], "5");
    }
}
