//! The pages: made on the server, readable and usable without scripts. Scripts only keep them fresh.

pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod deliveries;
pub(crate) mod forms;
mod gate;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod login;
pub(crate) mod oidc;
pub(crate) mod present;
mod reports;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod settings;
pub(crate) mod setup;
mod tree;

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Redirect, Response},
};

use pipekeeper_access::{Place, Projects, Verb};

use crate::{app::App, assets, error::ApiError, people::Caller};

/// `GET /`
pub(crate) async fn root() -> Redirect {
    Redirect::to("/runs")
}

/// What stands around every page.
pub(crate) struct Frame {
    version: &'static str,
    assets: &'static str,
    here: &'static str,
    /// Who is signed in.
    caller: Option<Caller>,
    /// Where the login page leads back to.
    next: String,
}

impl Frame {
    pub(crate) fn new(
        app: &App,
        caller: Option<Caller>,
        here: &'static str,
        next: impl Into<String>,
    ) -> Self {
        Self {
            version: app.parts.version,
            assets: &assets::VERSION,
            here,
            caller: caller.filter(|caller| caller.session.is_some()),
            next: present::Part(&next.into()).to_string(),
        }
    }

    /// The token of a form that posts to `path`; none if nobody is signed in who may do this there.
    pub(crate) fn form_token(&self, path: &str, verb: Verb, place: Place<'_>) -> Option<String> {
        let caller = self.caller.as_ref().filter(|caller| caller.may(verb, place))?;
        Some(caller.session.as_ref()?.form_token(path))
    }

    /// Who is signed in.
    fn who(&self) -> Option<String> {
        Some(self.caller.as_ref()?.principal.actor.to_string())
    }

    fn logout_token(&self) -> Option<String> {
        self.own_form_token("/logout")
    }

    /// The token of a form about oneself that posts to `path`; none if nobody is signed in.
    fn own_form_token(&self, path: &str) -> Option<String> {
        Some(self.caller.as_ref()?.session.as_ref()?.form_token(path))
    }

    /// Whether somebody is signed in who may look at the audit log somewhere.
    fn shows_audit(&self) -> bool {
        let audit = |caller: &Caller| caller.principal.projects(Verb::ReadAudit);
        let nowhere = Projects::Only(BTreeSet::new());
        self.caller
            .as_ref()
            .is_some_and(|caller| audit(caller) != nowhere)
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
                caller: None,
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
