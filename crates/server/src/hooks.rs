//! `POST /hooks/{token}`: verified over the raw bytes, stored, then answered. Nothing else happens inline.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use pipekeeper_forge::{RawDelivery, Verified, verify};
use pipekeeper_model::Name;
use pipekeeper_store::{Accepted, DeliveryId, NewDelivery, Refusal, StoreError};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use crate::{
    HookProject,
    app::App,
    error::{ApiError, Problem},
    extract::{ApiPath, BodyLimits, read_body},
};

/// From here on a body counts as large.
const LARGE: usize = 1024 * 1024;

#[derive(Serialize)]
struct AcceptedResponse {
    delivery: DeliveryId,
    status: &'static str,
}

/// Takes one delivery.
pub(crate) async fn receive(
    State(app): State<Arc<App>>,
    ApiPath(token): ApiPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let Some(project) = app.parts.projects.by_token(&token) else {
        app.metrics.delivery("unknown");
        return Err(ApiError::not_found("no project has this address")
            .with_hint("compare the webhook's address at the forge with the project's"));
    };
    let _slot = slot(&app, app.hooks.try_acquire())?;
    let _open = app.metrics.hook();
    let (body, large) = read(&app, &headers, body).await?;
    let pairs = readable(&headers);
    let raw = RawDelivery {
        headers: &pairs,
        body: &body,
    };
    let seal = match &project.seal {
        Ok(seal) => seal,
        Err(reason) => return Err(unverifiable(&app, &project.name, reason)),
    };
    let verified = match verify(seal.forge, &seal.secret, &raw) {
        Ok(verified) => verified,
        Err(reason) => return Err(refuse(&app, project, reason.to_string()).await),
    };
    pipekeeper_failpoint::hit("hook_read");
    let accepted = store(&app, project, verified, body, large).await?;
    pipekeeper_failpoint::hit("hook_stored");
    let (delivery, status) = match accepted {
        Accepted::New(delivery) => (delivery, "accepted"),
        Accepted::Duplicate(delivery) => (delivery, "duplicate"),
    };
    app.metrics.delivery(status);
    let answer = AcceptedResponse { delivery, status };
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Nobody can say whether it is genuine; forges deliver again what is not answered well.
fn unverifiable(app: &App, project: &Name, reason: &str) -> ApiError {
    app.metrics.delivery("unverifiable");
    warn!("a delivery of the project `{project}` is not taken: {reason}");
    let detail = format!("the project `{project}` takes no deliveries now: {reason}");
    ApiError::new(Problem::Unavailable, detail)
        .with_hint("`pipe get Project` says more; then deliver it again")
}

fn slot<P, E>(app: &App, permit: Result<P, E>) -> Result<P, ApiError> {
    permit.map_err(|_| {
        app.metrics.delivery("busy");
        ApiError::new(Problem::Busy, "too many deliveries arrive at once")
    })
}

/// The body, and the permit of a large one: it bounds how many are in memory.
async fn read(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let limits = BodyLimits {
        bytes: app.parts.limits.hook_body,
        ..app.body_limits()
    };
    let mut large = None;
    let body = read_body(headers, body, limits, |length| {
        if length > LARGE && large.is_none() {
            large = Some(slot(app, Arc::clone(&app.large_hooks).try_acquire_owned())?);
        }
        Ok(())
    })
    .await?;
    Ok((body, large))
}

fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// Writes in a task of its own: a client that goes away drops this future, never the write.
async fn store(
    app: &Arc<App>,
    project: HookProject,
    verified: Verified,
    body: Bytes,
    large: Option<OwnedSemaphorePermit>,
) -> Result<Accepted, ApiError> {
    let delivery = NewDelivery {
        project: project.name,
        forge_id: verified.delivery_id,
        event: verified.event,
        received_at: app.now(),
        body: body.into(),
    };
    let app = Arc::clone(app);
    let write = tokio::spawn(async move {
        let accepted = app.parts.store.accept_delivery(delivery).await;
        drop(large);
        let accepted = accepted?;
        app.parts.handle.delivery_stored();
        Ok::<_, StoreError>(accepted)
    });
    Ok(write.await.map_err(|error| ApiError::internal(&error))??)
}

async fn refuse(app: &Arc<App>, project: HookProject, reason: String) -> ApiError {
    app.metrics.delivery("refused");
    let refusal = Refusal {
        project: project.name,
        at: app.now(),
        reason: reason.clone(),
    };
    let app = Arc::clone(app);
    let write = tokio::spawn(async move {
        if let Err(error) = app.parts.store.note_refusal(refusal).await {
            warn!(%error, "a refused delivery was not noted");
        }
    });
    // The refusal stands whether or not it was noted.
    let _ = write.await;
    ApiError::new(Problem::Unauthorized, reason).with_hint("sign the delivery with the project's secret")
}
