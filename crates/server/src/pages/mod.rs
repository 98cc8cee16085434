//! The pages: made on the server, readable and usable without scripts. Scripts only keep them fresh.

pub(crate) mod deliveries;
pub(crate) mod forms;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod login;
pub(crate) mod present;
mod reports;
pub(crate) mod run;
pub(crate) mod runs;
mod tree;

use askama::Template;
use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{Html, IntoResponse, Redirect, Response},
};

use crate::{app::App, assets, error::ApiError, session::Session};

/// `GET /`
pub(crate) async fn root() -> Redirect {
    Redirect::to("/runs")
}

/// What stands around every page.
pub(crate) struct Frame {
    version: &'static str,
    assets: &'static str,
    here: &'static str,
    session: Option<Session>,
    /// Where the login page leads back to.
    next: String,
}

impl Frame {
    pub(crate) fn new(app: &App, headers: &HeaderMap, here: &'static str, next: impl Into<String>) -> Self {
        Self {
            version: app.parts.version,
            assets: &assets::VERSION,
            here,
            session: app.session(headers),
            next: present::Part(&next.into()).to_string(),
        }
    }

    /// The token of a form that posts to `path`; none if nobody is signed in.
    pub(crate) fn form_token(&self, path: &str) -> Option<String> {
        self.session.as_ref().map(|session| session.form_token(path))
    }

    fn logout_token(&self) -> Option<String> {
        self.form_token("/logout")
    }
}

/// Makes a page of a template.
pub(crate) fn page(template: &impl Template) -> Result<Response, PageError> {
    let text = template.render().map_err(|error| ApiError::internal(&error))?;
    Ok(Html(text).into_response())
}

/// A request for a page failed.
pub(crate) struct PageError(ApiError);

impl From<ApiError> for PageError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<pipekeeper_store::StoreError> for PageError {
    fn from(error: pipekeeper_store::StoreError) -> Self {
        Self(error.into())
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    status: u16,
    title: &'a str,
    detail: &'a str,
    hint: &'a str,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let error = self.0;
        let template = ErrorPage {
            frame: Frame {
                version: "",
                assets: &assets::VERSION,
                here: "",
                session: None,
                next: String::new(),
            },
            status: error.status().as_u16(),
            title: error.title(),
            detail: error.detail(),
            hint: error.hint(),
        };
        let Ok(text) = template.render() else {
            return error.into_response();
        };
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        let mut response = (error.status(), [(header::CONTENT_TYPE, kind)], text).into_response();
        error.decorate(&mut response);
        response
    }
}
