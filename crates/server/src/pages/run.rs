//! `/runs/{run}`: outcome, gates, tree, and the log of the node that matters most.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use pipekeeper_access::{Place, Verb};
use pipekeeper_engine::{NodeState, RunPhase};
use pipekeeper_model::{
    ArtifactResult, NodeId, Outcome, OutputValue, RunId, StepResult, Timestamp, plan::Section,
};
use serde::Deserialize;

use crate::{
    ansi::Renderer,
    api::{
        events::cancel_text,
        wire::{finished_at, phase_word},
    },
    app::App,
    error::ApiError,
    extract::{ApiPath, ApiQuery},
    gone::Missing,
    inbox::{leave, need},
    live::LINE_SHOWN,
    load::{Loaded, NodeRef, blocking, test_details},
    logs::{self, Slice},
    markdown,
    people::Caller,
};

use super::{
    Frame, PageError,
    gate::{Ask, GateCard, gate_card},
    page,
    present::{Mark, Part, When, size, span},
    reports::TestsPane,
    runs::ref_text,
    tree::{Line, lines, why},
};

const LINES: usize = 200;

/// Which node is shown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunQuery {
    node: Option<String>,
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    frame: Frame,
    head: Head,
    gates: Vec<GateCard>,
    lines: Vec<Line>,
    node: Option<NodePane>,
    live: Option<String>,
}

struct Head {
    id: u64,
    mark: Mark,
    title: String,
    project: String,
    pipeline: String,
    event: &'static str,
    git_ref: Option<String>,
    sha: Option<(String, String)>,
    actor: String,
    created: When,
    took: String,
    note: Option<String>,
    /// Who keeps it whatever its age, and why.
    kept: Option<String>,
    cancel: Option<Button>,
    retry: Option<Button>,
}

/// A form of one button; its token is there if somebody is signed in who may press it.
pub(crate) struct Button {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
}

impl Button {
    pub(crate) fn new(frame: &Frame, path: String, verb: Verb, place: Place<'_>) -> Self {
        let token = frame.form_token(&path, verb, place);
        Self { path, token }
    }
}

struct NodePane {
    name: String,
    link: String,
    mark: Mark,
    why: Option<String>,
    attempt: Option<u32>,
    adopted_from: Option<u64>,
    log: Vec<LogLine>,
    log_size: String,
    missing: Missing,
    is_cut: bool,
    steps: Vec<StepLine>,
    outputs: Vec<OutputLine>,
    artifacts: Vec<ArtifactLine>,
    tests: Option<TestsPane>,
    /// HTML of ours.
    summary: Option<String>,
}

/// A numbered line of a log.
pub(crate) struct LogLine {
    pub(crate) number: u64,
    pub(crate) html: String,
}

struct StepLine {
    name: String,
    mark: Mark,
    end: String,
    took: String,
}

struct OutputLine {
    key: String,
    link: String,
    text: String,
    /// The size of one that is kept as a file.
    file: Option<String>,
}

struct ArtifactLine {
    name: String,
    short: String,
    size: String,
    files: u64,
}

/// `GET /runs/{run}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
    ApiQuery(query): ApiQuery<RunQuery>,
    caller: Caller,
) -> Result<Response, PageError> {
    let loaded = app.run(run).await?;
    let now = app.now();
    let shown = match &query.node {
        Some(name) => Some(loaded.node(name)?),
        None => most_telling(&loaded),
    };
    let address = format!("/runs/{run}");
    let frame = Frame::new(&app, Some(caller.clone()), "runs", address.as_str());
    let slice = match shown.and_then(|node| node.last_attempt(run)) {
        Some(attempt) => {
            let path = app.parts.layout.log(attempt);
            let most = log_budget(loaded.run.nodes().len());
            blocking(move || logs::tail(&path, LINES, most)).await?
        }
        None => Slice::default(),
    };
    let missing = match shown.and_then(|node| node.last_attempt(run)) {
        Some(attempt) => Missing {
            logs: app.log_gone(run, attempt).await?,
            ..app.missing(run).await?
        },
        None => Missing::default(),
    };
    let counts = shown.and_then(|node| node.state.ended()?.record.as_ref()?.tests.as_ref());
    let tests = match counts {
        Some(counts) => Some(TestsPane::new(
            counts,
            test_details(&app.parts.layout, counts).await?,
        )),
        None => None,
    };
    page(&RunPage {
        head: Head {
            kept: app.kept_by(run).await?.map(|kept| kept.words()),
            ..head(&loaded, &frame, now)?
        },
        gates: gates(&app, &loaded, &caller, (&frame, &address)).await?,
        lines: lines(&loaded, shown.map(|node| node.id), now),
        live: (!loaded.run.is_finished()).then(|| live_address(&loaded, shown, &slice)),
        node: shown.map(|node| pane(&loaded, node, (&slice, missing), tests)),
        frame,
    })
}

/// What waits for a person.
async fn gates(
    app: &App,
    loaded: &Loaded,
    caller: &Caller,
    (frame, address): (&Frame, &str),
) -> Result<Vec<GateCard>, ApiError> {
    if !loaded.nodes().any(|node| need(node.state).is_some()) {
        return Ok(Vec::new());
    }
    let now = app.now();
    let everybody = app.people.everybody().await?;
    let open = loaded.nodes().filter(|node| need(node.state).is_some());
    let card = |node| {
        let leave = leave(loaded, node, caller, &everybody, now);
        gate_card(loaded, node, leave, (frame, address), now)
    };
    Ok(open.filter_map(card).collect())
}

/// How many bytes of log fit beside so many nodes if the page is to be painted from 60 KiB.
fn log_budget(nodes: usize) -> usize {
    const ALONE: usize = 23 * 1024;
    const LEAST: usize = 7 * 1024;
    const NODE: usize = 80;
    ALONE.saturating_sub(nodes.saturating_mul(NODE)).max(LEAST)
}

/// The first node that failed, else one that runs, else the last that ended (`finally` entries last of
/// all, they only tidy up), else the first.
fn most_telling(loaded: &Loaded) -> Option<NodeRef<'_>> {
    let is_bad = |node: &NodeRef<'_>| match node.state.outcome() {
        Some(Outcome::Failed | Outcome::Errored | Outcome::Lost | Outcome::TimedOut) => {
            !node.node.allow_failure
        }
        Some(
            Outcome::Succeeded
            | Outcome::Skipped
            | Outcome::Superseded
            | Outcome::Cancelled
            | Outcome::Rejected,
        )
        | None => false,
    };
    let has_log = |node: &NodeRef<'_>| node.last_attempt(loaded.run.id()).is_some();
    loaded
        .nodes()
        .find(is_bad)
        .or_else(|| {
            loaded
                .nodes()
                .find(|node| matches!(node.state, NodeState::Running(_)))
        })
        .or_else(|| {
            let ended = loaded.nodes().filter(has_log);
            ended.max_by_key(|node| (node.node.section == Section::Main, ended_at(node.state)))
        })
        .or_else(|| loaded.nodes().next())
}

fn ended_at(state: &NodeState) -> Option<Timestamp> {
    state.ended().map(|ended| ended.at)
}

fn live_address(loaded: &Loaded, shown: Option<NodeRef<'_>>, slice: &Slice) -> String {
    let run = loaded.run.id();
    let mut address = format!("/api/v1/live?run={run}");
    if let Some(node) = shown {
        address.push_str(&format!("&log=html&node={}", Part(&node.node.name)));
        if let Some(attempt) = node.last_attempt(run) {
            let NodeId(id) = node.id;
            address.push_str(&format!(
                "&cursor={}:{id}:{}:{}",
                loaded.version,
                attempt.number,
                slice.resume()
            ));
            return address;
        }
    }
    address.push_str(&format!("&cursor={}", loaded.version));
    address
}

fn head(loaded: &Loaded, frame: &Frame, now: Timestamp) -> Result<Head, ApiError> {
    let request = loaded.request()?;
    let (actor, created) = loaded.requested_by()?;
    let id = loaded.run.id();
    let event = &request.context.event;
    let revision = &event.revision;
    let is_finished = loaded.run.is_finished();
    let needs_person = loaded.nodes().any(|node| need(node.state).is_some());
    let title = match revision.subject.as_str() {
        "" => format!("{} #{id}", request.plan.pipeline),
        subject => subject.to_owned(),
    };
    Ok(Head {
        id: id.0,
        mark: Mark::run(loaded.run.outcome(), phase_word(loaded.run.phase()), needs_person),
        title,
        project: request.project.to_string(),
        pipeline: request.plan.pipeline.to_string(),
        event: event.kind.as_str(),
        git_ref: revision.git_ref.as_ref().map(ref_text),
        sha: revision
            .sha
            .as_ref()
            .map(|sha| (sha.short().to_owned(), sha.to_string())),
        actor: actor.to_string(),
        created: When::new(created, now),
        took: match finished_at(loaded.run.phase()) {
            Some(at) => format!("took {}", span(at.since(created))),
            None => format!("for {}", span(now.since(created))),
        },
        note: note(loaded),
        kept: None,
        cancel: (!is_finished).then(|| {
            let path = format!("/runs/{id}/cancel");
            Button::new(frame, path, Verb::CancelRun, Place::project(&request.project))
        }),
        retry: is_finished.then(|| {
            let path = format!("/runs/{id}/retry");
            Button::new(frame, path, Verb::RetryRun, Place::project(&request.project))
        }),
    })
}

fn note(loaded: &Loaded) -> Option<String> {
    if let Some(reason) = &loaded.quarantined {
        return Some(format!("Set aside: {reason}"));
    }
    match loaded.run.phase()? {
        RunPhase::Pending => Some("Waits for its turn in its concurrency group".to_owned()),
        RunPhase::Stopping { reason } => Some(format!("Being stopped: {}", cancel_text(reason))),
        RunPhase::Running | RunPhase::Finished { .. } => None,
    }
}

fn pane(
    loaded: &Loaded,
    node: NodeRef<'_>,
    (slice, missing): (&Slice, Missing),
    tests: Option<TestsPane>,
) -> NodePane {
    let run = loaded.run.id();
    let ended = node.state.ended();
    let record = ended.and_then(|ended| ended.record.as_ref());
    NodePane {
        name: node.node.name.clone(),
        link: Part(&node.node.name).to_string(),
        mark: Mark::node(node.state),
        why: why(loaded, node),
        attempt: node.last_attempt(run).map(|attempt| attempt.number),
        adopted_from: ended
            .and_then(|ended| ended.adopted.as_ref())
            .map(|from| from.run.0),
        log: numbered(slice),
        log_size: size(slice.size),
        missing,
        is_cut: slice.start > 0,
        steps: record
            .iter()
            .flat_map(|record| record.steps.iter().map(StepLine::of))
            .collect(),
        outputs: ended
            .iter()
            .flat_map(|ended| ended.outputs())
            .map(|(key, value)| OutputLine::of(key, value))
            .collect(),
        artifacts: ended
            .iter()
            .flat_map(|ended| ended.artifacts())
            .map(ArtifactLine::of)
            .collect(),
        tests,
        summary: record
            .and_then(|record| record.summary.as_deref())
            .map(|text| markdown::render(&shortened(text, SUMMARY))),
    }
}

/// How many characters of a value and of a summary a page shows.
const VALUE: usize = 2_000;
const SUMMARY: usize = 12_000;

/// Pages show the start of a long text; the API has all of it.
fn shortened(text: &str, most: usize) -> String {
    let mut shown: String = text.chars().take(most).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn numbered(slice: &Slice) -> Vec<LogLine> {
    (slice.first_line..)
        .zip(Renderer::render(&slice.bytes, LINE_SHOWN))
        .map(|(number, html)| LogLine { number, html })
        .collect()
}

impl StepLine {
    fn of(step: &StepResult) -> Self {
        let (outcome, end) = match (step.code, step.signal) {
            (Some(0), _) => (Outcome::Succeeded, String::new()),
            (Some(code), _) => (Outcome::Failed, format!("exit code {code}")),
            (None, Some(signal)) => (Outcome::Failed, format!("signal {signal}")),
            (None, None) => (Outcome::Lost, "no exit code".to_owned()),
        };
        let place = match step.line {
            Some(line) if outcome != Outcome::Succeeded => format!("{end}, line {line}"),
            Some(_) | None => end,
        };
        Self {
            name: step.name.clone(),
            mark: Mark::outcome(outcome),
            end: place,
            took: span(step.ended_at.since(step.started_at)),
        }
    }
}

impl OutputLine {
    fn of(key: &str, value: &OutputValue) -> Self {
        let (text, file) = match value {
            OutputValue::Text(text) => (shortened(text, VALUE), None),
            OutputValue::File { bytes, .. } => (String::new(), Some(bytes.to_string())),
        };
        Self {
            key: key.to_owned(),
            link: Part(key).to_string(),
            text,
            file,
        }
    }
}

impl ArtifactLine {
    fn of(artifact: &ArtifactResult) -> Self {
        Self {
            name: artifact.name.to_string(),
            short: artifact.digest.to_short(),
            size: size(artifact.bytes),
            files: artifact.files,
        }
    }
}
