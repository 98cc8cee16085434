//! Reading runs: lists, one run, why.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use pipekeeper_access::Verb;
use pipekeeper_controller::Layout;
use pipekeeper_engine::NodeState;
use pipekeeper_model::{AttemptId, Millis, NodeId, RunId, Sha};
use pipekeeper_store::RunFilter;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiPath, ApiQuery, name_of, run_before},
    load::{Loaded, blocking, test_details},
    people::Caller,
};

use super::wire::{RunItem, RunResponse};

const PAGE: u32 = 50;
const MOST: u32 = 500;

/// Which runs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunsQuery {
    pub(crate) project: Option<String>,
    pub(crate) pipeline: Option<String>,
    pub(crate) sha: Option<String>,
    #[serde(default)]
    pub(crate) active: Option<bool>,
    pub(crate) group: Option<String>,
    pub(crate) before: Option<u64>,
    pub(crate) limit: Option<u32>,
}

impl RunsQuery {
    /// The runs that are asked for, as far as the caller may see them.
    pub(crate) fn to_filter(&self, caller: &Caller) -> Result<RunFilter, ApiError> {
        let sha = self.sha.as_deref().filter(|sha| !sha.is_empty());
        Ok(RunFilter {
            projects: caller.narrow(Verb::ReadRuns, name_of(self.project.as_deref())?)?,
            pipeline: name_of(self.pipeline.as_deref())?,
            sha: sha
                .map(str::parse::<Sha>)
                .transpose()
                .map_err(|error| ApiError::bad_request(error.to_string()))?,
            active: self.active.unwrap_or(false),
            group: self.group.clone().filter(|group| !group.is_empty()),
            before: run_before(self.before),
        })
    }
}

impl RunsQuery {
    /// Whether it asks for some runs only.
    pub(crate) fn is_filtered(&self) -> bool {
        let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        [&self.project, &self.pipeline, &self.sha, &self.group]
            .into_iter()
            .any(says)
            || self.active.unwrap_or(false)
            || self.before.is_some()
    }
}

/// How many of a list to give.
pub(crate) fn page_size(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, MOST)
}

#[derive(Serialize)]
pub(crate) struct RunsResponse {
    runs: Vec<RunItem>,
    /// The `before` of the next page.
    next: Option<RunId>,
}

/// `GET /api/v1/runs`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<RunsQuery>,
) -> Result<Json<RunsResponse>, ApiError> {
    let limit = page_size(query.limit);
    let runs: Vec<_> = app
        .parts
        .store
        .runs(&query.to_filter(&caller)?, limit)
        .await?
        .into_iter()
        .map(RunItem::from)
        .collect();
    let is_full = u32::try_from(runs.len()).is_ok_and(|count| count == limit);
    let next = runs.last().map(|run| run.id).filter(|_| is_full);
    Ok(Json(RunsResponse { runs, next }))
}

/// `GET /api/v1/runs/{run}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
) -> Result<Json<RunResponse>, ApiError> {
    let loaded = app.run(run).await?;
    let sizes = log_sizes(&app.parts.layout, &loaded).await?;
    let missing = app.missing(run).await?;
    let kept = app.kept_by(run).await?;
    Ok(Json(RunResponse::of(&loaded, &sizes)?.remains(missing, kept)))
}

/// How many bytes of log every attempt has so far.
async fn log_sizes(layout: &Layout, loaded: &Loaded) -> Result<BTreeMap<AttemptId, u64>, ApiError> {
    let run = loaded.run.id();
    let last = loaded.nodes().filter_map(|node| node.last_attempt(run));
    let attempts: Vec<AttemptId> = last
        .flat_map(|last| (1..=last.number).map(move |number| AttemptId { number, ..last }))
        .collect();
    let layout = layout.clone();
    blocking(move || {
        let size = |attempt| std::fs::metadata(layout.log(attempt)).map_or(0, |metadata| metadata.len());
        Ok(attempts
            .into_iter()
            .map(|attempt| (attempt, size(attempt)))
            .collect())
    })
    .await
}

/// Which node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhyQuery {
    node: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct WhyResponse {
    run: RunId,
    nodes: Vec<WhyItem>,
}

#[derive(Serialize)]
struct WhyItem {
    name: String,
    state: &'static str,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopQuery {
    node: String,
}

#[derive(Serialize)]
pub(crate) struct TopResponse {
    run: RunId,
    name: String,
    processes: String,
}

/// `GET /api/v1/runs/{run}/top?node=`: what runs in a node's attempt now.
pub(crate) async fn top(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
    ApiQuery(query): ApiQuery<TopQuery>,
) -> Result<Json<TopResponse>, ApiError> {
    let loaded = app.run(run).await?;
    let node = loaded.node(&query.node)?;
    let NodeState::Running(live) = node.state else {
        let detail = format!("`{}` does not run now", query.node);
        return Err(ApiError::new(Problem::Conflict, detail));
    };
    let told = app.parts.handle.processes(live.attempt).await;
    let processes = told.map_err(|error| ApiError::new(Problem::Conflict, error.to_string()))?;
    Ok(Json(TopResponse {
        run,
        name: query.node,
        processes,
    }))
}

/// What a node's test reports say.
#[derive(Serialize)]
pub(crate) struct TestsResponse {
    run: RunId,
    name: String,
    passed: u32,
    failed: u32,
    skipped: u32,
    failures: Vec<CaseItem>,
    slowest: Vec<TimeItem>,
    problems: Vec<String>,
}

/// A test that failed.
#[derive(Serialize)]
struct CaseItem {
    suite: String,
    name: String,
    duration_ms: Millis,
    message: String,
    text: String,
}

/// A test that took long.
#[derive(Serialize)]
struct TimeItem {
    suite: String,
    name: String,
    duration_ms: Millis,
}

/// `GET /api/v1/runs/{run}/nodes/{node}/tests`: the counts, the failures, the slowest.
pub(crate) async fn tests(
    State(app): State<Arc<App>>,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
) -> Result<Json<TestsResponse>, ApiError> {
    let loaded = app.run(run).await?;
    let counts = (loaded.node(&node)?.state.ended())
        .and_then(|ended| ended.record.as_ref()?.tests.as_ref())
        .ok_or_else(|| ApiError::not_found(format!("`{node}` has no test reports")))?;
    app.check_artifacts(run, "what the reports say").await?;
    let details = test_details(&app.parts.layout, counts).await?;
    Ok(Json(TestsResponse {
        run,
        passed: counts.passed,
        failed: counts.failed,
        skipped: counts.skipped,
        failures: (details.failures.into_iter())
            .map(|case| CaseItem {
                suite: case.suite,
                name: case.name,
                duration_ms: case.duration,
                message: case.message,
                text: case.text,
            })
            .collect(),
        slowest: (details.slowest.into_iter())
            .map(|test| TimeItem {
                suite: test.suite,
                name: test.name,
                duration_ms: test.duration,
            })
            .collect(),
        problems: details.problems,
        name: node,
    }))
}

/// `GET /api/v1/runs/{run}/why`: one node, or every one that has not ended.
pub(crate) async fn why(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
    ApiQuery(query): ApiQuery<WhyQuery>,
) -> Result<Json<WhyResponse>, ApiError> {
    let loaded = app.run(run).await?;
    let wanted: Option<NodeId> = match &query.node {
        Some(name) => Some(loaded.node(name)?.id),
        None => None,
    };
    let nodes = loaded
        .nodes()
        .filter(|node| wanted.map_or(!node.state.is_settled(), |id| id == node.id))
        .map(|node| WhyItem {
            name: node.node.name.clone(),
            state: node.state.word(),
            why: loaded.why(node),
        })
        .collect();
    Ok(Json(WhyResponse { run, nodes }))
}
