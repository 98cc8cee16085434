//! `/deliveries`: what webhooks brought, what became of it, and what was refused.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use pipekeeper_access::{Place, Verb};
use pipekeeper_model::Timestamp;

use crate::{
    api::deliveries::{
        DeliveriesQuery, DeliveryResponse, OutcomeResponse, RefusalItem, page as list, refused,
    },
    app::App,
    extract::ApiQuery,
    people::Caller,
};

use super::{
    Frame, PageError, page,
    present::{Mark, When},
    run::Button,
};

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    rows: Vec<Row>,
    refusals: Vec<(RefusalItem, When)>,
    next: Option<u64>,
}

struct Row {
    id: u64,
    project: String,
    event: String,
    received: When,
    mark: Mark,
    runs: Vec<u64>,
    text: String,
    replay: Option<Button>,
}

/// `GET /deliveries`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiQuery(query): ApiQuery<DeliveriesQuery>,
    caller: Caller,
) -> Result<Response, PageError> {
    let now = app.now();
    let (deliveries, next) = list(&app, &caller, &query).await?;
    let refusals = refused(&app, &caller, query.project.as_deref()).await?;
    let frame = Frame::new(&app, Some(caller), "deliveries", "/deliveries");
    page(&DeliveriesPage {
        rows: deliveries
            .into_iter()
            .map(|delivery| Row::of(delivery, now, &frame))
            .collect(),
        refusals: refusals
            .into_iter()
            .map(|refusal| {
                let when = When::new(refusal.at, now);
                (refusal, when)
            })
            .collect(),
        next: next.map(|next| next.0),
        frame,
    })
}

impl Row {
    fn of(delivery: DeliveryResponse, now: Timestamp, frame: &Frame) -> Self {
        let id = delivery.id.0;
        let project = delivery.project.parse().ok();
        let place = Place {
            project: project.as_ref(),
            environment: None,
        };
        let button = || {
            let path = format!("/deliveries/{id}/replay");
            Some(Button::new(frame, path, Verb::ReplayDelivery, place))
        };
        let mark = |class, word| Mark { class, word };
        let (mark, runs, text, replay) = match delivery.outcome {
            OutcomeResponse::Waiting => (mark("run", "waiting"), Vec::new(), String::new(), None),
            OutcomeResponse::Ran { runs, notes } => (
                mark("ok", "ran"),
                runs.into_iter().map(|run| run.0).collect(),
                notes.join("; "),
                button(),
            ),
            OutcomeResponse::Ignored { reason } => (mark("skip", "ignored"), Vec::new(), reason, button()),
            OutcomeResponse::DuplicateOf { delivery } => (
                mark("new", "duplicate"),
                Vec::new(),
                format!("the same as delivery {}", delivery.0),
                button(),
            ),
            OutcomeResponse::Errored { reason } => (mark("err", "errored"), Vec::new(), reason, button()),
        };
        Self {
            id,
            project: delivery.project,
            event: delivery.event,
            received: When::new(delivery.received_at, now),
            mark,
            runs,
            text,
            replay,
        }
    }
}
