//! What the API says of a run and its nodes. These types are not the domain's: the domain may change, they may not.

use std::collections::BTreeMap;

use pipekeeper_engine::{Approval, AttemptPhase, Ended, NodeState, RunPhase, Why, explain};
use pipekeeper_model::{
    Approver, AttemptId, Bytes, GitRef, Name, OutputValue, Param, ParamKind, RunId, StepResult, Timestamp,
    plan::{Body, Section, Start},
};
use pipekeeper_store::RunSummary;
use serde::Serialize;

use super::keep::KeptResponse;
use crate::{
    error::ApiError,
    gone::Missing,
    load::{Loaded, NodeRef},
};

/// A run in a list.
#[derive(Debug, Serialize)]
pub(crate) struct RunItem {
    pub(crate) id: RunId,
    project: String,
    pipeline: String,
    event: String,
    r#ref: Option<RefResponse>,
    sha: Option<String>,
    subject: String,
    actor: String,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    phase: String,
    outcome: Option<&'static str>,
    needs_person: bool,
}

/// A branch or a tag.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub(crate) enum RefResponse {
    Branch(String),
    Tag(String),
}

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct RunResponse {
    id: RunId,
    version: u64,
    project: String,
    pipeline: String,
    file: String,
    event: &'static str,
    r#ref: Option<RefResponse>,
    sha: Option<String>,
    subject: String,
    actor: String,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
    phase: &'static str,
    outcome: Option<&'static str>,
    quarantined: Option<String>,
    plan: String,
    params: BTreeMap<String, String>,
    /// Who keeps it whatever its age, if somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<KeptResponse>,
    /// What of it is no longer kept.
    #[serde(flatten)]
    missing: Missing,
    nodes: Vec<NodeResponse>,
}

/// A node of a run.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct NodeResponse {
    name: String,
    action: String,
    groups: Vec<String>,
    section: &'static str,
    kind: &'static str,
    state: &'static str,
    outcome: Option<&'static str>,
    why: String,
    needs: Vec<String>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    deadline: Option<Timestamp>,
    attempts: Vec<AttemptResponse>,
    steps: Vec<StepResponse>,
    outputs: BTreeMap<String, String>,
    large_outputs: BTreeMap<String, LargeOutputResponse>,
    artifacts: Vec<ArtifactResponse>,
    summary: Option<String>,
    tests: Option<TestsResponse>,
    gate: Option<GateResponse>,
    start: Option<StartResponse>,
    bypassed: Option<ApprovalResponse>,
    adopted_from: Option<RunId>,
}

/// One try of a node.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct AttemptResponse {
    number: u32,
    /// The size of its log, where it was looked at.
    log_bytes: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct StepResponse {
    name: String,
    code: Option<i32>,
    signal: Option<i32>,
    line: Option<u32>,
    log_start: u64,
    log_end: u64,
    started_at: Timestamp,
    ended_at: Timestamp,
}

#[derive(Debug, PartialEq, Serialize)]
struct ArtifactResponse {
    name: String,
    digest: String,
    bytes: u64,
    files: u64,
}

/// An output that is kept as a file; `/nodes/{node}/outputs/{key}` has it.
#[derive(Debug, PartialEq, Serialize)]
struct LargeOutputResponse {
    digest: String,
    bytes: Bytes,
}

/// The counts of a node's test reports; `/nodes/{node}/tests` has the failures.
#[derive(Debug, PartialEq, Serialize)]
struct TestsResponse {
    passed: u32,
    failed: u32,
    skipped: u32,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct GateResponse {
    text: String,
    /// The environment that it is the gate of.
    environment: Option<Name>,
    subject: String,
    needed: u32,
    by: Vec<Approver>,
    not_by: Option<String>,
    params: Vec<ParamResponse>,
    approvals: Vec<ApprovalResponse>,
    since: Timestamp,
    expires: Timestamp,
}

#[derive(Debug, PartialEq, Serialize)]
struct ParamResponse {
    name: String,
    r#type: &'static str,
    values: Vec<String>,
    default: Option<String>,
    help: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
struct ApprovalResponse {
    by: String,
    at: Timestamp,
    comment: Option<String>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct StartResponse {
    how: &'static str,
    looked_by: Option<String>,
    /// Whether somebody else than they is to confirm it.
    by_other: bool,
    expires: Timestamp,
}

impl From<&GitRef> for RefResponse {
    fn from(git_ref: &GitRef) -> Self {
        match git_ref {
            GitRef::Branch(name) => Self::Branch(name.clone()),
            GitRef::Tag(name) => Self::Tag(name.clone()),
        }
    }
}

impl From<RunSummary> for RunItem {
    fn from(summary: RunSummary) -> Self {
        Self {
            id: summary.id,
            project: summary.project.into(),
            pipeline: summary.pipeline.into(),
            event: summary.event,
            r#ref: summary.git_ref.as_ref().map(RefResponse::from),
            sha: summary.sha.map(String::from),
            subject: summary.subject,
            actor: summary.actor.to_string(),
            created_at: summary.created_at,
            finished_at: summary.finished_at,
            phase: summary.phase,
            outcome: summary.outcome.map(|outcome| outcome.as_str()),
            needs_person: summary.needs_person,
        }
    }
}

impl RunResponse {
    /// The same, with what is no longer kept of it, and who keeps it.
    pub(crate) fn remains(self, missing: Missing, kept: Option<KeptResponse>) -> Self {
        Self {
            kept,
            missing,
            ..self
        }
    }

    /// Says everything about a run; the sizes are those of its nodes' logs, where they are known.
    pub(crate) fn of(loaded: &Loaded, sizes: &BTreeMap<AttemptId, u64>) -> Result<Self, ApiError> {
        let request = loaded.request()?;
        let (actor, created_at) = loaded.requested_by()?;
        let event = &request.context.event;
        let params = request.plan.params.iter();
        Ok(Self {
            id: loaded.run.id(),
            version: loaded.version,
            project: request.project.to_string(),
            pipeline: request.plan.pipeline.to_string(),
            file: request.plan.file.clone(),
            event: event.kind.as_str(),
            r#ref: event.revision.git_ref.as_ref().map(RefResponse::from),
            sha: event.revision.sha.as_ref().map(ToString::to_string),
            subject: event.revision.subject.clone(),
            actor: actor.to_string(),
            created_at,
            finished_at: finished_at(loaded.run.phase()),
            phase: phase_word(loaded.run.phase()),
            outcome: loaded.run.outcome().map(|outcome| outcome.as_str()),
            quarantined: loaded.quarantined.clone(),
            plan: request.plan.digest().to_string(),
            params: params
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            kept: None,
            missing: Missing::default(),
            nodes: loaded
                .nodes()
                .map(|node| NodeResponse {
                    why: loaded.why(node),
                    ..NodeResponse::of(&loaded.run, node, sizes)
                })
                .collect(),
        })
    }
}

/// The word for a run's phase.
pub(crate) fn phase_word(phase: Option<&RunPhase>) -> &'static str {
    match phase {
        None | Some(RunPhase::Pending) => "pending",
        Some(RunPhase::Running) => "running",
        Some(RunPhase::Stopping { .. }) => "stopping",
        Some(RunPhase::Finished { .. }) => "finished",
    }
}

/// When a run ended.
pub(crate) fn finished_at(phase: Option<&RunPhase>) -> Option<Timestamp> {
    match phase {
        Some(RunPhase::Finished { at, .. }) => Some(*at),
        None | Some(RunPhase::Pending | RunPhase::Running | RunPhase::Stopping { .. }) => None,
    }
}

impl NodeResponse {
    /// Says everything about a node.
    pub(crate) fn of(
        run: &pipekeeper_engine::Run,
        node: NodeRef<'_>,
        sizes: &BTreeMap<AttemptId, u64>,
    ) -> Self {
        let (started_at, ended_at) = times(node.state);
        let ended = node.state.ended();
        let needs = node.node.needs.iter();
        let record = ended.and_then(|ended| ended.record.as_ref());
        Self {
            name: node.node.name.clone(),
            action: node.node.action.to_string(),
            groups: node.node.groups.clone(),
            section: match node.node.section {
                Section::Main => "main",
                Section::Finally => "finally",
            },
            kind: kind_word(&node.node.body),
            state: node.state.word(),
            outcome: node.state.outcome().map(|outcome| outcome.as_str()),
            why: explain(run, node.id).to_string(),
            needs: needs
                .filter_map(|need| Some(run.plan()?.node(*need)?.name.clone()))
                .collect(),
            started_at,
            ended_at,
            deadline: node.state.deadline(),
            attempts: attempts(run.id(), node, sizes),
            steps: record
                .iter()
                .flat_map(|record| record.steps.iter().map(StepResponse::from))
                .collect(),
            outputs: ended
                .iter()
                .flat_map(|ended| ended.outputs())
                .filter_map(|(key, value)| Some((key.to_owned(), value.text()?.to_owned())))
                .collect(),
            large_outputs: large_outputs(ended),
            artifacts: artifacts(ended),
            summary: record.and_then(|record| record.summary.clone()),
            tests: record
                .and_then(|record| record.tests.as_ref())
                .map(|tests| TestsResponse {
                    passed: tests.passed,
                    failed: tests.failed,
                    skipped: tests.skipped,
                }),
            gate: gate(run, node),
            start: start(node),
            bypassed: ended.and_then(Ended::bypass).map(ApprovalResponse::from),
            adopted_from: ended
                .and_then(|ended| ended.adopted.as_ref())
                .map(|from| from.run),
        }
    }
}

/// What a node does, in one word.
pub(crate) fn kind_word(body: &Body) -> &'static str {
    match body {
        Body::Work(_) => "work",
        Body::Approve(_) => "approve",
        Body::Wait(_) => "wait",
        Body::Promote(_) => "promote",
        Body::Sync(_) => "sync",
        Body::Call(_) => "call",
    }
}

/// When a node started to do or to wait for something, and when it ended.
pub(crate) fn times(state: &NodeState) -> (Option<Timestamp>, Option<Timestamp>) {
    match state {
        NodeState::Waiting | NodeState::Backoff { .. } | NodeState::Skipped { .. } => (None, None),
        NodeState::AwaitingStart { since, .. }
        | NodeState::AwaitingTime { since, .. }
        | NodeState::Ready { since, .. } => (Some(*since), None),
        NodeState::Deciding(gate) => (Some(gate.since), None),
        NodeState::Running(live) => match &live.phase {
            AttemptPhase::Seeking { since, .. }
            | AttemptPhase::Queued { since, .. }
            | AttemptPhase::Launching { since, .. }
            | AttemptPhase::Ticketed { since, .. } => (Some(*since), None),
            AttemptPhase::Stopping { .. } => (None, None),
        },
        NodeState::Done(ended) => {
            let started = ended.record.as_ref().map(|record| record.started_at);
            (started, Some(ended.at))
        }
    }
}

fn attempts(run: RunId, node: NodeRef<'_>, sizes: &BTreeMap<AttemptId, u64>) -> Vec<AttemptResponse> {
    let Some(last) = node.last_attempt(run).filter(|last| last.run == run) else {
        return Vec::new();
    };
    (1..=last.number)
        .map(|number| AttemptResponse {
            number,
            log_bytes: sizes.get(&AttemptId { number, ..last }).copied(),
        })
        .collect()
}

fn large_outputs(ended: Option<&Ended>) -> BTreeMap<String, LargeOutputResponse> {
    let outputs = ended.into_iter().flat_map(Ended::outputs);
    outputs
        .filter_map(|(key, value)| match value {
            OutputValue::Text(_) => None,
            OutputValue::File { digest, bytes } => Some((
                key.to_owned(),
                LargeOutputResponse {
                    digest: digest.to_string(),
                    bytes: *bytes,
                },
            )),
        })
        .collect()
}

fn artifacts(ended: Option<&Ended>) -> Vec<ArtifactResponse> {
    let artifacts = ended.into_iter().flat_map(Ended::artifacts);
    artifacts
        .map(|artifact| ArtifactResponse {
            name: artifact.name.to_string(),
            digest: artifact.digest.to_string(),
            bytes: artifact.bytes,
            files: artifact.files,
        })
        .collect()
}

impl From<&StepResult> for StepResponse {
    fn from(step: &StepResult) -> Self {
        Self {
            name: step.name.clone(),
            code: step.code,
            signal: step.signal,
            line: step.line,
            log_start: step.log_start,
            log_end: step.log_end,
            started_at: step.started_at,
            ended_at: step.ended_at,
        }
    }
}

impl From<&Param> for ParamResponse {
    fn from(param: &Param) -> Self {
        let (r#type, values) = match &param.kind {
            ParamKind::Text => ("string", Vec::new()),
            ParamKind::Int => ("int", Vec::new()),
            ParamKind::Bool => ("bool", Vec::new()),
            ParamKind::Enum(values) => ("enum", values.clone()),
        };
        Self {
            name: param.name.to_string(),
            r#type,
            values,
            default: param.default.as_ref().map(ToString::to_string),
            help: param.help.clone(),
        }
    }
}

impl From<&Approval> for ApprovalResponse {
    fn from(approval: &Approval) -> Self {
        Self {
            by: approval.by.to_string(),
            at: approval.at,
            comment: approval.comment.clone(),
        }
    }
}

/// What a gate asks.
pub(crate) fn gate_text(body: &Body) -> &str {
    match body {
        Body::Approve(gate) => &gate.text,
        Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => "",
    }
}

/// The values that a gate asks for.
pub(crate) fn gate_params(body: &Body) -> impl Iterator<Item = &Param> {
    let params = match body {
        Body::Approve(gate) => Some(gate.params.values()),
        Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => None,
    };
    params.into_iter().flatten()
}

/// What is asked at a node that is an open gate.
pub(crate) fn gate(run: &pipekeeper_engine::Run, node: NodeRef<'_>) -> Option<GateResponse> {
    let (NodeState::Deciding(open), Why::AwaitsApproval(progress)) = (node.state, explain(run, node.id))
    else {
        return None;
    };
    Some(GateResponse {
        text: gate_text(&node.node.body).to_owned(),
        environment: run.plan().and_then(|plan| plan.guarded_by(node.id)).cloned(),
        subject: open.subject.to_string(),
        needed: progress.needed,
        by: progress.by,
        not_by: progress.not_by.map(|actor| actor.to_string()),
        params: gate_params(&node.node.body).map(ParamResponse::from).collect(),
        approvals: open.approvals.iter().map(ApprovalResponse::from).collect(),
        since: open.since,
        expires: open.expires,
    })
}

/// What is asked at a node that waits for its start.
pub(crate) fn start(node: NodeRef<'_>) -> Option<StartResponse> {
    let NodeState::AwaitingStart { expires, looked, .. } = node.state else {
        return None;
    };
    Some(StartResponse {
        how: match node.node.start {
            Start::Auto => "auto",
            Start::Manual => "manual",
            Start::Confirm { .. } => "confirm",
            Start::Timed(_) => "timed",
        },
        looked_by: looked.as_ref().map(ToString::to_string),
        by_other: node.node.start == Start::Confirm { by_other: true },
        expires: *expires,
    })
}
