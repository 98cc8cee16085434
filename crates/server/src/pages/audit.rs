//! `/audit`: who did what to what.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use pipekeeper_model::Timestamp;
use pipekeeper_store::StoredAudit;

use crate::{
    api::audit::{AuditQuery, page as list},
    app::App,
    extract::ApiQuery,
    people::Caller,
};

use super::{
    Frame, PageError, page,
    present::{Part, When},
};

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    rows: Vec<Row>,
    actor: String,
    subject: String,
    next: Option<String>,
}

struct Row {
    at: When,
    who: String,
    from: String,
    verb: String,
    subject: String,
    /// The run's page, if the subject is of one.
    link: Option<String>,
    reason: String,
    before: String,
    after: String,
}

/// `GET /audit`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> Result<Response, PageError> {
    let now = app.now();
    let (entries, next) = list(&app, &caller, &query).await?;
    let actor = query.actor.unwrap_or_default();
    let subject = query.subject.unwrap_or_default();
    let (project, verb) = (query.project.unwrap_or_default(), query.verb.unwrap_or_default());
    let address = |before| {
        format!(
            "/audit?before={before}&actor={}&subject={}&project={}&verb={}",
            Part(&actor),
            Part(&subject),
            Part(&project),
            Part(&verb)
        )
    };
    page(&AuditPage {
        frame: Frame::new(&app, Some(caller), "audit", "/audit"),
        rows: entries.into_iter().map(|stored| Row::of(stored, now)).collect(),
        next: next.map(address),
        actor,
        subject,
    })
}

impl Row {
    fn of(stored: StoredAudit, now: Timestamp) -> Self {
        let entry = stored.entry;
        let run = entry
            .subject
            .strip_prefix("run/")
            .and_then(|rest| rest.split('/').next());
        let run = run.and_then(|run| run.parse::<u64>().ok());
        Self {
            at: When::new(entry.at, now),
            who: entry.actor.to_string(),
            from: entry.from.unwrap_or_default(),
            verb: entry.verb,
            link: run.map(|run| format!("/runs/{run}")),
            subject: entry.subject,
            reason: entry.reason.unwrap_or_default(),
            before: entry.before.unwrap_or_default(),
            after: entry.after.unwrap_or_default(),
        }
    }
}
