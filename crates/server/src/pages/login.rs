//! `/login`: the printed token opens a session, so that forms can act.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiQuery, read_body},
};

use super::{Frame, PageError, forms::read_form, page};

/// Where to go after login.
#[derive(Deserialize)]
pub(crate) struct LoginQuery {
    next: Option<String>,
}

#[derive(Deserialize)]
struct LoginForm {
    token: String,
    #[serde(default)]
    next: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    is_refused: bool,
}

/// `GET /login`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiQuery(query): ApiQuery<LoginQuery>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    page(&LoginPage {
        frame: Frame::new(&app, &headers, "login", "/runs"),
        next: local_path(query.next.as_deref()).to_owned(),
        is_refused: false,
    })
}

/// `POST /login`
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    let bytes = read_body(&headers, body, app.body_limits(), |_| Ok(())).await?;
    let form: LoginForm = read_form(&bytes)?;
    let next = local_path(Some(&form.next));
    if !app.parts.admin_token.is(form.token.trim()) {
        let again = page(&LoginPage {
            frame: Frame::new(&app, &headers, "login", "/runs"),
            next: next.to_owned(),
            is_refused: true,
        })?;
        return Ok((StatusCode::UNAUTHORIZED, again).into_response());
    }
    app.sessions.close(&headers);
    let cookie = app
        .sessions
        .open(app.now())
        .map_err(|_| ApiError::new(Problem::Unavailable, "the system gives no random bytes"))?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
}

/// `POST /logout`
pub(crate) async fn leave(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let cookie = app.sessions.close(&headers);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/runs")).into_response()
}

/// A path of this server, whatever was asked for.
fn local_path(next: Option<&str>) -> &str {
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
