//! `/login`: a name and a password, or a token, open a session, so that forms can act.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use crate::{
    app::App,
    error::Problem,
    extract::{ApiQuery, read_body},
    guard::{Origin, Visitor},
    people::Caller,
    session,
};

use super::{Frame, PageError, forms::read_form, page, present};

/// Where to go after login.
#[derive(Deserialize)]
pub(crate) struct LoginQuery {
    next: Option<String>,
}

/// A name with its password, or a token alone.
#[derive(Deserialize)]
struct LoginForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    name: String,
    /// Why the last try failed.
    refused: Option<String>,
    /// Whether there are people with passwords.
    has_people: bool,
    /// The other way in.
    issuer: Option<Issuer>,
}

/// The issuer of logins.
struct Issuer {
    /// What its button says.
    name: String,
    /// Where it leads.
    href: String,
}

impl Issuer {
    fn of(app: &App, next: &str) -> Option<Self> {
        let oidc = app.parts.oidc.as_ref()?;
        Some(Self {
            name: oidc.name().to_owned(),
            href: super::oidc::address(next),
        })
    }
}

/// The address of the login page that leads back to a path.
pub(crate) fn address(next: &str) -> String {
    format!("/login?next={}", present::Part(next))
}

/// `GET /login`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Visitor(visitor): Visitor,
    ApiQuery(query): ApiQuery<LoginQuery>,
) -> Result<Response, PageError> {
    page(&LoginPage {
        frame: Frame::new(&app, visitor, "login", "/runs"),
        issuer: Issuer::of(&app, local_path(query.next.as_deref())),
        next: local_path(query.next.as_deref()).to_owned(),
        name: String::new(),
        refused: None,
        has_people: app.people.are_known().await?,
    })
}

/// `POST /login`
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    Visitor(visitor): Visitor,
    Origin(from): Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    let bytes = read_body(&headers, body, app.body_limits(), |_| Ok(())).await?;
    let form: LoginForm = read_form(&bytes)?;
    let next = local_path(Some(&form.next)).to_owned();
    let entered = if form.token.is_empty() {
        let given = (form.name.as_str(), form.password);
        app.people.by_password(given, from, app.now()).await
    } else {
        let entered = app.people.by_token(form.token.trim(), app.now()).await;
        if entered.as_ref().is_err_and(|error| !error.is_ours()) {
            let why = (None, "the token is not valid");
            app.people.note_refusal(why, from, app.now()).await;
        }
        entered
    };
    match entered {
        Ok(caller) => {
            if let Some(old) = &visitor {
                app.people.close_session(old, app.now()).await?;
            }
            let caller = Caller { from, ..caller };
            let cookie = app
                .people
                .open_session(&caller, app.is_secure(), app.now())
                .await?;
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response())
        }
        Err(error) if error.is_ours() && error.problem() != Problem::Busy => Err(error.into()),
        Err(error) => {
            let status = error.status();
            let again = page(&LoginPage {
                frame: Frame::new(&app, None, "login", "/runs"),
                issuer: Issuer::of(&app, &next),
                next,
                name: form.name,
                refused: Some(format!("{}; {}", error.detail(), error.hint())),
                has_people: app.people.are_known().await?,
            })?;
            Ok((status, again).into_response())
        }
    }
}

/// `POST /logout`
pub(crate) async fn leave(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, PageError> {
    app.people.close_session(&caller, app.now()).await?;
    let cookie = session::no_cookie(app.is_secure());
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response())
}

/// A path of this server, whatever was asked for.
pub(super) fn local_path(next: Option<&str>) -> &str {
    let is_local = |path: &&str| {
        let lower = path.to_ascii_lowercase();
        path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            && !lower.contains("%2f")
            && !lower.contains("%5c")
    };
    next.filter(is_local).unwrap_or("/runs")
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn login_leads_to_this_server_only() {
        for good in ["/runs/7", "/runs/7?node=test%5Bdb%5D"] {
            assert_eq!(local_path(Some(good)), good);
        }
        for bad in [
            "//evil",
            "/\\evil",
            "https://evil",
            "",
            "/%2Fevil",
            "/%5cevil",
            "/a\r\nb",
            "/é",
        ] {
            assert_eq!(local_path(Some(bad)), "/runs", "{bad}");
        }
    }
}
