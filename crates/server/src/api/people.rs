//! People: logging in, one's own tokens, and who there is.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use pipekeeper_access::{Grant, Role, Scope};
use pipekeeper_model::{Actor, Name};
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiJson, ApiPath},
    guard::Origin,
    people::{
        Caller,
        foreign::Subject,
        manage::{UserChange, UserView},
        tokens::{TokenView, TokenWish, scope},
    },
};

/// How long a token of `pipe login` lives.
const LOGIN_DAYS: u32 = 30;

/// `POST /api/v1/login`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    name: String,
    password: String,
    /// What the token is called.
    label: String,
}

/// A new token, which is shown this once.
#[derive(Serialize)]
pub(crate) struct TokenResponse {
    token: String,
    #[serde(flatten)]
    view: TokenView,
}

/// Name and password against a token.
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    Origin(from): Origin,
    ApiJson(body): ApiJson<LoginRequest>,
) -> Result<(StatusCode, Json<TokenResponse>), ApiError> {
    let people = &app.people;
    let caller = people
        .by_password((&body.name, body.password), from, app.now())
        .await?;
    let wish = TokenWish {
        label: body.label,
        days: LOGIN_DAYS,
        scope: None,
    };
    drawn(&app, &caller, wish).await
}

async fn drawn(
    app: &App,
    caller: &Caller,
    wish: TokenWish,
) -> Result<(StatusCode, Json<TokenResponse>), ApiError> {
    let (token, view) = app.people.draw_token(caller, wish, app.now()).await?;
    let token = token.reveal().to_owned();
    Ok((StatusCode::CREATED, Json(TokenResponse { token, view })))
}

/// Who one is.
#[derive(Serialize)]
pub(crate) struct MeResponse {
    actor: Actor,
    user: Option<Name>,
    grants: Vec<Grant>,
    scope: Option<Scope>,
}

/// `GET /api/v1/me`
pub(crate) async fn me(caller: Caller) -> Json<MeResponse> {
    Json(MeResponse {
        actor: caller.actor(),
        user: caller.user,
        grants: caller.principal.grants,
        scope: caller.principal.scope,
    })
}

#[derive(Serialize)]
pub(crate) struct TokensResponse {
    tokens: Vec<TokenView>,
}

/// `GET /api/v1/tokens`
pub(crate) async fn tokens(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<TokensResponse>, ApiError> {
    let tokens = app.people.tokens(&caller).await?;
    Ok(Json(TokensResponse { tokens }))
}

/// `POST /api/v1/tokens`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    label: String,
    days: u32,
    /// The most that it may be used for; all that its owner may, without.
    role: Option<Role>,
    projects: Option<BTreeSet<Name>>,
}

pub(crate) async fn draw_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiJson(body): ApiJson<TokenRequest>,
) -> Result<(StatusCode, Json<TokenResponse>), ApiError> {
    let wish = TokenWish {
        label: body.label,
        days: body.days,
        scope: scope(body.role, body.projects),
    };
    drawn(&app, &caller, wish).await
}

/// `POST /api/v1/tokens/{id}/revoke`
pub(crate) async fn revoke_token(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<TokenView>, ApiError> {
    app.people.revoke_token(&caller, &id, app.now()).await.map(Json)
}

#[derive(Serialize)]
pub(crate) struct UsersResponse {
    users: Vec<UserView>,
}

/// `GET /api/v1/users`
pub(crate) async fn users(State(app): State<Arc<App>>) -> Result<Json<UsersResponse>, ApiError> {
    let users = app.people.users().await?;
    Ok(Json(UsersResponse { users }))
}

/// `POST /api/v1/users/{user}/add`, and `POST /api/v1/users/{user}`, where what is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeRequest {
    password: Option<String>,
    grants: Option<Vec<Grant>>,
    identities: Option<BTreeSet<Actor>>,
    disabled: Option<bool>,
    /// What the issuer of logins calls them; empty takes that away.
    subject: Option<String>,
}

impl ChangeRequest {
    fn into_change(self, app: &App) -> Result<UserChange, ApiError> {
        let subject = match self.subject {
            None => None,
            Some(subject) if subject.is_empty() => Some(None),
            Some(subject) => {
                let oidc = app.parts.oidc.as_ref().ok_or_else(|| {
                    ApiError::new(Problem::Unprocessable, "this server knows no issuer of logins")
                        .with_hint("its configuration names one in `[oidc]`")
                })?;
                Some(Some(Subject {
                    issuer: oidc.issuer().to_owned(),
                    subject,
                }))
            }
        };
        Ok(UserChange {
            password: self.password,
            grants: self.grants,
            identities: self.identities,
            disabled: self.disabled,
            subject,
        })
    }
}

pub(crate) async fn add_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(user): ApiPath<Name>,
    ApiJson(body): ApiJson<ChangeRequest>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    let added = app
        .people
        .add_user(&caller, user, body.into_change(&app)?, app.now());
    Ok((StatusCode::CREATED, Json(added.await?)))
}

pub(crate) async fn change_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(user): ApiPath<Name>,
    ApiJson(body): ApiJson<ChangeRequest>,
) -> Result<Json<UserView>, ApiError> {
    let changed = app
        .people
        .change_user(&caller, &user, body.into_change(&app)?, app.now());
    changed.await.map(Json)
}

/// `POST /api/v1/users/{user}/remove`
pub(crate) async fn remove_user(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(user): ApiPath<Name>,
) -> Result<Json<UserView>, ApiError> {
    app.people.remove_user(&caller, &user, app.now()).await.map(Json)
}
