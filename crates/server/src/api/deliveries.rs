//! Deliveries and refusals: what webhooks brought, and what became of it.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_access::Verb;
use pipekeeper_model::{RunId, Timestamp};
use pipekeeper_store::{AuditEntry, Delivery, DeliveryId, DeliveryOutcome};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiPath, ApiQuery, name_of},
    people::Caller,
};

use super::runs::page_size;

/// Which deliveries.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveriesQuery {
    pub(crate) project: Option<String>,
    pub(crate) before: Option<u64>,
    pub(crate) limit: Option<u32>,
}

#[derive(Serialize)]
pub(crate) struct DeliveriesResponse {
    deliveries: Vec<DeliveryResponse>,
    /// The `before` of the next page.
    next: Option<DeliveryId>,
}

/// A delivery.
#[derive(Serialize)]
pub(crate) struct DeliveryResponse {
    pub(crate) id: DeliveryId,
    pub(crate) project: String,
    pub(crate) forge_id: String,
    pub(crate) event: String,
    pub(crate) received_at: Timestamp,
    pub(crate) outcome: OutcomeResponse,
    /// The body as text; in lists it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// What became of a delivery.
#[derive(Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum OutcomeResponse {
    Waiting,
    Ran { runs: Vec<RunId>, notes: Vec<String> },
    Ignored { reason: String },
    DuplicateOf { delivery: DeliveryId },
    Errored { reason: String },
}

impl From<Delivery> for DeliveryResponse {
    fn from(delivery: Delivery) -> Self {
        let received = delivery.received;
        Self {
            id: delivery.id,
            project: received.project.into(),
            forge_id: received.forge_id,
            event: received.event,
            received_at: received.received_at,
            outcome: delivery.outcome.into(),
            body: None,
        }
    }
}

impl From<Option<DeliveryOutcome>> for OutcomeResponse {
    fn from(outcome: Option<DeliveryOutcome>) -> Self {
        match outcome {
            None => Self::Waiting,
            Some(DeliveryOutcome::Ran { runs, notes }) => Self::Ran { runs, notes },
            Some(DeliveryOutcome::Ignored { reason }) => Self::Ignored { reason },
            Some(DeliveryOutcome::DuplicateOf { delivery }) => Self::DuplicateOf { delivery },
            Some(DeliveryOutcome::Errored { reason }) => Self::Errored { reason },
        }
    }
}

/// `GET /api/v1/deliveries`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<DeliveriesQuery>,
) -> Result<Json<DeliveriesResponse>, ApiError> {
    let (deliveries, next) = page(&app, &caller, &query).await?;
    Ok(Json(DeliveriesResponse { deliveries, next }))
}

/// A page of the deliveries that the caller may see, and where the next one starts.
pub(crate) async fn page(
    app: &App,
    caller: &Caller,
    query: &DeliveriesQuery,
) -> Result<(Vec<DeliveryResponse>, Option<DeliveryId>), ApiError> {
    let limit = page_size(query.limit);
    let before = query.before.map(DeliveryId);
    let store = app.parts.store.as_ref();
    let asked = name_of(query.project.as_deref())?;
    let found = match caller.narrow(Verb::ReadDeliveries, asked)? {
        None => store.deliveries(None, before, limit).await?,
        Some(projects) => {
            let mut found = Vec::new();
            for project in &projects {
                found.extend(store.deliveries(Some(project), before, limit).await?);
            }
            found.sort_by_key(|delivery| std::cmp::Reverse(delivery.id));
            found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            found
        }
    };
    let deliveries: Vec<_> = found.into_iter().map(DeliveryResponse::from).collect();
    let is_full = u32::try_from(deliveries.len()).is_ok_and(|count| count == limit);
    let next = deliveries.last().map(|delivery| delivery.id).filter(|_| is_full);
    Ok((deliveries, next))
}

/// `GET /api/v1/deliveries/{delivery}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiPath(id): ApiPath<DeliveryId>,
) -> Result<Json<DeliveryResponse>, ApiError> {
    let mut delivery = find(&app, id).await?;
    let body = std::mem::take(&mut delivery.received.body);
    let mut response = DeliveryResponse::from(delivery);
    response.body = Some(String::from_utf8_lossy(&body).into_owned());
    Ok(Json(response))
}

async fn find(app: &App, id: DeliveryId) -> Result<Delivery, ApiError> {
    let delivery = app.parts.store.delivery(id).await?;
    delivery.ok_or_else(|| ApiError::not_found(format!("there is no delivery {}", id.0)))
}

#[derive(Serialize)]
pub(crate) struct ReplayResponse {
    delivery: DeliveryId,
}

/// `POST /api/v1/deliveries/{delivery}/replay`
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(id): ApiPath<DeliveryId>,
) -> Result<Json<ReplayResponse>, ApiError> {
    reopen(&app, &caller, id).await?;
    Ok(Json(ReplayResponse { delivery: id }))
}

/// Has a delivery handled again. Its write is a task of its own: a client that goes away must not tear it.
pub(crate) async fn reopen(app: &Arc<App>, caller: &Caller, id: DeliveryId) -> Result<(), ApiError> {
    let delivery = find(app, id).await?;
    let entry = caller.audit("delivery.replay", format!("delivery/{}", id.0), app.now());
    app.note(AuditEntry {
        project: Some(delivery.received.project),
        ..entry
    })
    .await?;
    let task = Arc::clone(app);
    let write = tokio::spawn(async move {
        let reopened = task.parts.store.reopen_delivery(id).await?;
        task.parts.handle.delivery_stored();
        Ok::<_, ApiError>(reopened)
    });
    match write.await.map_err(|error| ApiError::internal(&error))?? {
        true => Ok(()),
        false => Err(ApiError::new(
            Problem::Conflict,
            format!("delivery {} waits already", id.0),
        )),
    }
}

/// Whose refusals.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusalsQuery {
    project: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct RefusalsResponse {
    refusals: Vec<RefusalItem>,
}

/// A refused request.
#[derive(Serialize)]
pub(crate) struct RefusalItem {
    pub(crate) project: String,
    pub(crate) at: Timestamp,
    pub(crate) reason: String,
}

/// `GET /api/v1/refusals`
pub(crate) async fn refusals(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<RefusalsQuery>,
) -> Result<Json<RefusalsResponse>, ApiError> {
    let refusals = refused(&app, &caller, query.project.as_deref()).await?;
    Ok(Json(RefusalsResponse { refusals }))
}

/// The refusals of one project or of all that the caller may see, newest first.
pub(crate) async fn refused(
    app: &App,
    caller: &Caller,
    project: Option<&str>,
) -> Result<Vec<RefusalItem>, ApiError> {
    let projects = match caller.narrow(Verb::ReadDeliveries, name_of(project)?)? {
        Some(projects) => projects.into_iter().collect(),
        None => app.parts.projects.names(),
    };
    let mut refusals = Vec::new();
    for project in projects {
        for refusal in app.parts.store.refusals(&project).await? {
            refusals.push(RefusalItem {
                project: refusal.project.into(),
                at: refusal.at,
                reason: refusal.reason,
            });
        }
    }
    refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
    Ok(refusals)
}
