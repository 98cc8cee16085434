//! `/login/oidc`: to the issuer of logins, and back.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use crate::{
    Exposure,
    app::App,
    error::{ApiError, Problem},
    extract::ApiQuery,
    guard::{Origin, Visitor},
    oidc::{Flow, Oidc, flow_of},
    people::Caller,
};

use super::{PageError, login::local_path, present};

/// Where to go after login.
#[derive(Deserialize)]
pub(crate) struct LeaveQuery {
    next: Option<String>,
}

/// What an issuer sends somebody back with.
#[derive(Deserialize)]
pub(crate) struct BackQuery {
    code: Option<String>,
    state: Option<String>,
    /// Who says so, if they say it.
    iss: Option<String>,
    error: Option<String>,
}

/// The address of a login through the issuer that leads to a path.
pub(crate) fn address(next: &str) -> String {
    format!("/login/oidc?next={}", present::Part(next))
}

/// `GET /login/oidc`
pub(crate) async fn leave(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<LeaveQuery>,
) -> Result<Response, PageError> {
    let oidc = issuer(&app)?;
    let flow = Flow::draw(local_path(query.next.as_deref()))?;
    let away = oidc.leave(&flow, &back_address(&app, &headers)?, app.now()).await;
    let url = away.map_err(|refused| {
        tracing::warn!("nobody can log in through the issuer: {refused}");
        ApiError::from(&refused)
    })?;
    let cookie = flow.cookie(app.is_secure());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&url)).into_response())
}

/// `GET /login/oidc/back`
pub(crate) async fn back(
    State(app): State<Arc<App>>,
    Visitor(visitor): Visitor,
    Origin(from): Origin,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<BackQuery>,
) -> Result<Response, PageError> {
    let oidc = issuer(&app)?;
    let now = app.now();
    let refuse = async |why: String| app.people.note_refusal((None, &why), from, now).await;
    let (flow, code) = match expected(oidc, flow_of(&headers, app.is_secure()), query) {
        Ok(expected) => expected,
        Err(why) => {
            refuse(why.to_owned()).await;
            return Err(not_asked().into());
        }
    };
    oidc.admit(from)?;
    let person = match oidc
        .arrive(&flow, (code, &back_address(&app, &headers)?), now)
        .await
    {
        Ok(person) => person,
        Err(refused) => {
            refuse(refused.to_string()).await;
            return Err(ApiError::from(&refused).into());
        }
    };
    let caller = match app.people.by_issuer(&person, oidc.newcomers(), from, now).await {
        Ok(caller) => Caller { from, ..caller },
        Err(error) => {
            refuse(format!(
                "subject `{}`: {}",
                person.subject.subject,
                error.detail()
            ))
            .await;
            return Err(error.into());
        }
    };
    if let Some(old) = &visitor {
        app.people.close_session(old, now).await?;
    }
    let session = app.people.open_session(&caller, app.is_secure(), now).await?;
    let cookies = AppendHeaders([
        (header::SET_COOKIE, session),
        (header::SET_COOKIE, Flow::no_cookie(app.is_secure())),
    ]);
    Ok((cookies, Redirect::to(local_path(Some(&flow.next)))).into_response())
}

/// The way that somebody comes back from, with their code; or what is wrong with it.
fn expected(oidc: &Oidc, flow: Option<Flow>, query: BackQuery) -> Result<(Flow, String), &'static str> {
    let flow = flow.ok_or("nobody left for the issuer from this browser, or long ago")?;
    if !query.state.is_some_and(|state| flow.is(&state)) {
        return Err("the state is another");
    }
    if query.iss.is_some_and(|issuer| issuer != oidc.issuer()) {
        return Err("another issuer answered");
    }
    if query.error.is_some() {
        return Err("the issuer refused it");
    }
    let code = query.code.ok_or("the issuer gave no code")?;
    Ok((flow, code))
}

fn issuer(app: &App) -> Result<&Oidc, ApiError> {
    let issuer = app.parts.oidc.as_deref();
    issuer.ok_or_else(|| ApiError::not_found("this server knows no issuer of logins"))
}

/// Where the issuer sends people back to. The host of a request was checked before anything looked at it.
fn back_address(app: &App, headers: &HeaderMap) -> Result<String, ApiError> {
    let base = match &app.parts.exposure {
        Exposure::Proxied { host } | Exposure::Tls { host, .. } => format!("https://{host}"),
        Exposure::Loopback => {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            format!("http://{}", host.ok_or_else(not_asked)?)
        }
    };
    Ok(format!("{base}/login/oidc/back"))
}

fn not_asked() -> ApiError {
    ApiError::new(Problem::Unauthorized, "the login did not succeed").with_hint("begin it again at /login")
}
