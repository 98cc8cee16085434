//! `/setup`: the link that a server without people prints makes the first admin, once.

use std::sync::Arc;

use askama::Template;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use pipekeeper_model::Name;
use serde::Deserialize;

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiQuery, read_body},
    guard::Origin,
};

use super::{Frame, PageError, forms::read_form, page};

#[derive(Deserialize)]
pub(crate) struct SetupQuery {
    #[serde(default)]
    key: String,
}

#[derive(Deserialize)]
struct SetupForm {
    key: String,
    name: String,
    password: String,
    again: String,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    frame: Frame,
    key: String,
    name: String,
    /// Why the last try failed.
    refused: Option<String>,
}

/// `GET /setup`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiQuery(query): ApiQuery<SetupQuery>,
) -> Result<Response, PageError> {
    if !app.people.is_link(&query.key, app.now()).await? {
        let error = ApiError::new(Problem::Forbidden, "this link was used, or its time is over")
            .with_hint("a server without people prints a new one when it starts; with people, sign in");
        return Err(error.into());
    }
    page(&SetupPage {
        frame: Frame::new(&app, None, "login", "/runs"),
        key: query.key,
        name: String::new(),
        refused: None,
    })
}

/// `POST /setup`
pub(crate) async fn enter(
    State(app): State<Arc<App>>,
    Origin(from): Origin,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, PageError> {
    let bytes = read_body(&headers, body, app.body_limits(), |_| Ok(())).await?;
    let form: SetupForm = read_form(&bytes)?;
    let wanted = if form.password == form.again {
        form.name.parse::<Name>().map_err(|error| error.to_string())
    } else {
        Err("the two passwords differ".to_owned())
    };
    let made = match wanted {
        Ok(name) => {
            let people = &app.people;
            people
                .use_link(&form.key, (name, form.password), from, app.now())
                .await
        }
        Err(reason) => Err(ApiError::new(Problem::Unprocessable, reason)),
    };
    match made {
        Ok(caller) => {
            let cookie = app
                .people
                .open_session(&caller, app.is_secure(), app.now())
                .await?;
            Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/runs")).into_response())
        }
        Err(error) if error.problem() == Problem::Unprocessable => {
            let again = page(&SetupPage {
                frame: Frame::new(&app, None, "login", "/runs"),
                key: form.key,
                name: form.name,
                refused: Some(error.detail().to_owned()),
            })?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, again).into_response())
        }
        Err(error) => Err(error.into()),
    }
}
