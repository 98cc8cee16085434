//! `/runs`: what waits for a person first, then everything, newest first.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use pipekeeper_access::{Place, Verb};
use pipekeeper_model::{GitRef, Timestamp};
use pipekeeper_store::{RunFilter, RunSummary};

use crate::{
    api::runs::{RunsQuery, page_size},
    app::App,
    extract::ApiQuery,
    people::Caller,
};

use super::{
    Frame, PageError, page,
    present::{Mark, Part, When, span},
};

/// How many running runs are looked through for those that wait for a person.
const LOOKED_THROUGH: u32 = 200;

#[derive(Template)]
#[template(path = "runs.html")]
struct RunsPage {
    frame: Frame,
    waiting: Vec<Row>,
    rows: Vec<Row>,
    projects: Vec<String>,
    project: String,
    pipeline: String,
    is_active: bool,
    is_first: bool,
    is_filtered: bool,
    next: Option<String>,
}

struct Row {
    id: u64,
    mark: Mark,
    project: String,
    pipeline: String,
    subject: String,
    event: String,
    git_ref: Option<String>,
    sha: Option<String>,
    actor: String,
    created: When,
    took: String,
}

/// `GET /runs`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiQuery(query): ApiQuery<RunsQuery>,
    caller: Caller,
) -> Result<Response, PageError> {
    let store = app.parts.store.as_ref();
    let filter = query.to_filter(&caller)?;
    let mut projects = app.parts.projects.names();
    projects.retain(|project| caller.may(Verb::ReadRuns, Place::project(project)));
    let limit = page_size(query.limit);
    let now = app.now();
    let is_first = filter.before.is_none();
    let waiting = if is_first {
        let active = RunFilter {
            active: true,
            ..filter.clone()
        };
        store.runs(&active, LOOKED_THROUGH).await?
    } else {
        Vec::new()
    };
    let runs = store.runs(&filter, limit).await?;
    let is_full = u32::try_from(runs.len()).is_ok_and(|count| count == limit);
    let oldest = runs.last().filter(|_| is_full).map(|run| run.id.0);
    let row = |summary: &RunSummary| Row::of(summary, now);
    page(&RunsPage {
        frame: Frame::new(&app, Some(caller), "runs", "/runs"),
        waiting: waiting.iter().filter(|run| run.needs_person).map(row).collect(),
        rows: runs
            .iter()
            .filter(|run| !(is_first && run.needs_person))
            .map(row)
            .collect(),
        projects: projects.into_iter().map(String::from).collect(),
        next: oldest.map(|before| next_page(&query, before)),
        is_filtered: query.is_filtered(),
        project: query.project.unwrap_or_default(),
        pipeline: query.pipeline.unwrap_or_default(),
        is_active: filter.active,
        is_first,
    })
}

fn next_page(query: &RunsQuery, before: u64) -> String {
    let mut address = format!("/runs?before={before}");
    let kept = [
        ("project", &query.project),
        ("pipeline", &query.pipeline),
        ("sha", &query.sha),
        ("group", &query.group),
    ];
    for (key, value) in kept {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            address.push_str(&format!("&{key}={}", Part(value)));
        }
    }
    if query.active == Some(true) {
        address.push_str("&active=true");
    }
    address
}

impl Row {
    fn of(summary: &RunSummary, now: Timestamp) -> Self {
        let end = summary.finished_at.unwrap_or(now);
        Self {
            id: summary.id.0,
            mark: Mark::summary(summary),
            project: summary.project.to_string(),
            pipeline: summary.pipeline.to_string(),
            subject: summary.subject.clone(),
            event: summary.event.clone(),
            git_ref: summary.git_ref.as_ref().map(ref_text),
            sha: summary.sha.as_ref().map(|sha| sha.short().to_owned()),
            actor: summary.actor.to_string(),
            created: When::new(summary.created_at, now),
            took: span(end.since(summary.created_at)),
        }
    }
}

/// A branch by its name, a tag as such.
pub(crate) fn ref_text(git_ref: &GitRef) -> String {
    match git_ref {
        GitRef::Branch(name) => name.clone(),
        GitRef::Tag(name) => format!("tag {name}"),
    }
}
