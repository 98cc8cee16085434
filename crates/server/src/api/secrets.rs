//! Secrets: set, listed without their values, removed; and the key that seals them, changed.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use pipekeeper_model::{EventKind, Name};
use pipekeeper_spec::document::{Kind, SecretTier};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    app::App,
    documents::check_changeable,
    error::ApiError,
    extract::ApiJson,
    people::Caller,
    vault::{Rotated, SecretSet, SecretView, SecretWish},
};

#[derive(Serialize)]
pub(crate) struct SecretsResponse {
    secrets: Vec<SecretView>,
}

/// `GET /api/v1/secrets`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<SecretsResponse>, ApiError> {
    let secrets = app.parts.vault.list(&caller).await?;
    Ok(Json(SecretsResponse { secrets }))
}

/// `POST /api/v1/secrets/set`; it has no `Debug`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetRequest {
    name: Name,
    project: Option<Name>,
    environment: Option<Name>,
    events: Option<BTreeSet<EventKind>>,
    tiers: Option<BTreeSet<SecretTier>>,
    images: Option<Vec<String>>,
    value: String,
}

pub(crate) async fn set(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiJson(body): ApiJson<SetRequest>,
) -> Result<Json<SecretSet>, ApiError> {
    let wish = SecretWish {
        name: body.name,
        project: body.project,
        environment: body.environment,
        events: body.events,
        tiers: body.tiers,
        images: body.images,
    };
    let says_who = wish.events.is_some() || wish.tiers.is_some() || wish.images.is_some();
    if says_who {
        check_changeable((Kind::Secret, &wish.name), app.parts.composer.as_ref())?;
    }
    let value = Zeroizing::new(body.value);
    let projects = app.parts.projects.names();
    let set = app.parts.vault.set(&caller, (wish, value), &projects, app.now());
    let set = set.await?;
    app.parts.composer.changed();
    Ok(Json(set))
}

/// `POST /api/v1/secrets/remove`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveRequest {
    name: Name,
    project: Option<Name>,
    environment: Option<Name>,
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiJson(body): ApiJson<RemoveRequest>,
) -> Result<Json<SecretView>, ApiError> {
    let wish = SecretWish {
        name: body.name,
        project: body.project,
        environment: body.environment,
        events: None,
        tiers: None,
        images: None,
    };
    check_changeable((Kind::Secret, &wish.name), app.parts.composer.as_ref())?;
    let removed = app.parts.vault.remove(&caller, &wish, app.now()).await?;
    app.parts.composer.changed();
    Ok(Json(removed))
}

/// `POST /api/v1/secrets/rotate-key`
pub(crate) async fn rotate_key(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Rotated>, ApiError> {
    app.parts.vault.rotate(&caller, app.now()).await.map(Json)
}
