//! For those who keep the server running: is it alive, can it do its work, what does it count.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use pipekeeper_controller::{Duty, SubmitError};
use pipekeeper_engine::Input;
use pipekeeper_model::{Actor, RunId};
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    app::App,
    error::{ApiError, Problem},
};

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
pub(crate) struct HealthResponse {
    status: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
pub(crate) struct ReadyResponse {
    status: &'static str,
    version: &'static str,
    /// `performing`, or `deciding` where another server of the same database performs.
    duty: &'static str,
    /// How many documents cannot be used; `pipe get` says which, and why.
    unusable: usize,
}

/// `GET /healthz`: the process answers.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Json<HealthResponse> {
    Json(HealthResponse {
        status: "alive",
        version: app.parts.version,
    })
}

/// `GET /readyz`: the store takes writes and the controller answers.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Result<Json<ReadyResponse>, ApiError> {
    let silent = |what| ApiError::new(Problem::Unavailable, format!("{what} does not answer"));
    timeout(PATIENCE, app.parts.store.check())
        .await
        .map_err(|_| silent("the store"))??;
    // No run has the number 0, so that any answer but a closed door shows that somebody listens.
    let asked = app
        .parts
        .handle
        .submit(RunId(0), Actor::System, Input::DeadlineReached);
    match timeout(PATIENCE, asked).await {
        Ok(Err(SubmitError::Closed)) | Err(_) => Err(silent("the controller")),
        Ok(_) => Ok(Json(ReadyResponse {
            status: "ready",
            version: app.parts.version,
            duty: match app.parts.handle.duty() {
                Duty::Performing(_) => "performing",
                Duty::Deciding { .. } => "deciding",
            },
            unusable: app.parts.composer.unusable().len(),
        })),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, kind)],
        app.metrics.text(app.parts.handle.kept()),
    )
        .into_response()
}
