//! Forms that work without scripts: they act and lead back to the page (303).

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, State},
    response::Redirect,
};
use pipekeeper_engine::{Look, Verdict};
use pipekeeper_model::{Digest, RunId};
use pipekeeper_store::DeliveryId;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    api::{
        commands::{
            Decision, ReuseRequest, WhichRequest, cancel_run, decide as tell_gate, press_start, retry_run,
        },
        deliveries::reopen,
    },
    app::App,
    error::ApiError,
    extract::ApiPath,
    people::Caller,
};

use super::{PageError, login::local_path};

/// Reads the fields of a form.
pub(crate) fn read_form<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::bad_request("the form is no text"))?;
    serde_urlencoded::from_str(text).map_err(|error| ApiError::bad_request(format!("read the form: {error}")))
}

/// A form's fields; the guard has read and checked the body already.
pub(crate) struct Fields<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Fields<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, PageError> {
        let body = Bytes::from_request(request, app)
            .await
            .map_err(|_| ApiError::bad_request("the form broke off"))?;
        Ok(Self(read_form(&body)?))
    }
}

/// `POST /runs/{run}/cancel`
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(run): ApiPath<RunId>,
) -> Result<Redirect, PageError> {
    cancel_run(&app, &caller, run).await?;
    Ok(back_to(run))
}

/// Which nodes run again.
#[derive(Deserialize)]
pub(crate) struct RetryForm {
    which: WhichRequest,
}

/// `POST /runs/{run}/retry`
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(run): ApiPath<RunId>,
    Fields(form): Fields<RetryForm>,
) -> Result<Redirect, PageError> {
    let which = (form.which, ReuseRequest::default());
    Ok(back_to(retry_run(&app, &caller, run, which).await?))
}

/// A person's answer at a gate.
#[derive(Deserialize)]
pub(crate) struct DecisionForm {
    subject: Digest,
    verdict: Verdict,
    #[serde(default)]
    comment: String,
    /// The page that it was pressed on, if that is not the run's.
    next: Option<String>,
    /// Among them the values that the gate asks for, as `param.NAME`.
    #[serde(flatten)]
    rest: BTreeMap<String, String>,
}

/// `POST /runs/{run}/nodes/{node}/decide`
pub(crate) async fn decide(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    Fields(form): Fields<DecisionForm>,
) -> Result<Redirect, PageError> {
    let values = form.rest.into_iter().filter_map(|(key, value)| {
        let name = key.strip_prefix("param.")?.parse().ok()?;
        Some((name, value))
    });
    let decision = Decision {
        verdict: form.verdict,
        subject: form.subject,
        comment: Some(form.comment),
        params: values.collect(),
    };
    tell_gate(&app, &caller, (run, &node), decision).await?;
    Ok(back(form.next.as_deref(), run))
}

/// Which of the two looks of `start: confirm`.
#[derive(Deserialize)]
pub(crate) struct StartForm {
    look: Look,
    next: Option<String>,
}

/// `POST /runs/{run}/nodes/{node}/start`
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    Fields(form): Fields<StartForm>,
) -> Result<Redirect, PageError> {
    press_start(&app, &caller, (run, &node), form.look).await?;
    Ok(back(form.next.as_deref(), run))
}

/// `POST /deliveries/{delivery}/replay`
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(id): ApiPath<DeliveryId>,
) -> Result<Redirect, PageError> {
    reopen(&app, &caller, id).await?;
    Ok(Redirect::to("/deliveries"))
}

/// To the page that a form came from.
fn back(next: Option<&str>, run: RunId) -> Redirect {
    match next {
        Some(next) => Redirect::to(local_path(Some(next))),
        None => back_to(run),
    }
}

fn back_to(run: RunId) -> Redirect {
    Redirect::to(&format!("/runs/{run}"))
}
