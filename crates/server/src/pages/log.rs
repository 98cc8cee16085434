//! `/runs/{run}/nodes/{node}`: a node's whole log, in windows, with numbered lines.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use pipekeeper_model::RunId;
use serde::Deserialize;

use crate::{
    ansi::Renderer,
    app::App,
    extract::{ApiPath, ApiQuery},
    gone::gone,
    load::blocking,
    logs,
    people::Caller,
};

use super::{
    Frame, PageError, page,
    present::{Mark, Part, size},
    run::LogLine,
};

const WINDOW: usize = 512 * 1024;
const LINE: usize = 1024 * 1024;

/// Which part of which log.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogPageQuery {
    attempt: Option<u32>,
    #[serde(default)]
    offset: u64,
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    frame: Frame,
    run: u64,
    name: String,
    link: String,
    mark: Mark,
    attempt: u32,
    /// The numbers of all attempts.
    attempts: Vec<u32>,
    lines: Vec<LogLine>,
    size: String,
    before: Option<u64>,
    after: Option<u64>,
}

/// `GET /runs/{run}/nodes/{node}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiPath((run, name)): ApiPath<(RunId, String)>,
    ApiQuery(query): ApiQuery<LogPageQuery>,
    caller: Caller,
) -> Result<Response, PageError> {
    let loaded = app.run(run).await?;
    let node = loaded.node(&name)?;
    let newest = node.attempt(run, None)?;
    let attempt = node.attempt(run, query.attempt)?;
    if let Some(how) = app.log_gone(run, attempt).await? {
        return Err(gone("the log", &how).into());
    }
    let path = app.parts.layout.log(attempt);
    let (slice, lines) = blocking(move || {
        let slice = logs::window(&path, query.offset, WINDOW)?;
        let lines = Renderer::render(&slice.bytes, LINE);
        Ok((slice, lines))
    })
    .await?;
    let window = u64::try_from(WINDOW).unwrap_or(u64::MAX);
    let link = Part(&name).to_string();
    page(&LogPage {
        frame: Frame::new(&app, Some(caller), "runs", format!("/runs/{run}/nodes/{link}")),
        run: run.0,
        link,
        mark: Mark::node(node.state),
        attempt: attempt.number,
        attempts: (1..=newest.number).collect(),
        lines: (slice.first_line..)
            .zip(lines)
            .map(|(number, html)| LogLine { number, html })
            .collect(),
        size: size(slice.size),
        before: (slice.start > 0).then(|| slice.start.saturating_sub(window)),
        after: (slice.end() < slice.size).then(|| slice.end()),
        name,
    })
}
