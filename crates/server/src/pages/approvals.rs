//! `/approvals`: what waits for people, over all projects, with the forms that answer.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    app::App,
    error::ApiError,
    inbox::{self, MOST, Waiting},
    people::Caller,
};

use super::{
    Frame, PageError,
    gate::{Ask, GateCard, gate_card},
    page,
    runs::ref_text,
};

const ADDRESS: &str = "/approvals";

#[derive(Template)]
#[template(path = "approvals.html")]
struct ApprovalsPage {
    frame: Frame,
    /// What whoever looks can decide.
    own: Vec<Item>,
    others: Vec<Item>,
    /// How many there are at the most, if there are more.
    cut: Option<usize>,
}

/// Something that waits, and of which run.
struct Item {
    card: GateCard,
    run: u64,
    project: String,
    pipeline: String,
    git_ref: Option<String>,
    sha: Option<String>,
    subject: String,
    actor: String,
}

/// `GET /approvals`
pub(crate) async fn show(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, PageError> {
    let now = app.now();
    let frame = Frame::new(&app, Some(caller.clone()), "approvals", ADDRESS);
    let inbox = inbox::open(&app, &caller, |waiting| {
        let Waiting {
            summary,
            loaded,
            node,
            ..
        } = waiting;
        let card = gate_card(loaded, *node, waiting.leave.clone(), (&frame, ADDRESS), now);
        Ok(Item {
            card: card.ok_or_else(|| ApiError::internal(&"a node waits for a person and asks nothing"))?,
            run: summary.id.0,
            project: summary.project.to_string(),
            pipeline: summary.pipeline.to_string(),
            git_ref: summary.git_ref.as_ref().map(ref_text),
            sha: summary.sha.as_ref().map(|sha| sha.short().to_owned()),
            subject: summary.subject.clone(),
            actor: summary.actor.to_string(),
        })
    });
    let inbox = inbox.await?;
    let is_own = |item: &Item| item.card.leave.approve.is_ok();
    let (own, others) = inbox.entries.into_iter().partition(is_own);
    page(&ApprovalsPage {
        frame,
        own,
        others,
        cut: inbox.has_more.then_some(MOST),
    })
}
