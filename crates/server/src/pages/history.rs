//! `/runs/{run}/history`: a run's events in words.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use pipekeeper_model::RunId;

use crate::{
    api::events::{EventItem, EventsQuery, history},
    app::App,
    extract::{ApiPath, ApiQuery},
    people::Caller,
};

use super::{Frame, PageError, page, present::When};

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    frame: Frame,
    run: u64,
    events: Vec<(EventItem, When)>,
    next: Option<u64>,
}

/// `GET /runs/{run}/history`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
    ApiQuery(query): ApiQuery<EventsQuery>,
    caller: Caller,
) -> Result<Response, PageError> {
    let now = app.now();
    let (events, next) = history(&app, run, &query).await?;
    page(&HistoryPage {
        frame: Frame::new(&app, Some(caller), "runs", format!("/runs/{run}/history")),
        run: run.0,
        events: events
            .into_iter()
            .map(|event| {
                let when = When::new(event.at, now);
                (event, when)
            })
            .collect(),
        next,
    })
}
