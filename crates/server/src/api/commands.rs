//! What people ask of runs. Handlers write intents through the controller's handle; the engine decides.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode};
use pipekeeper_access::{Place, Verb};
use pipekeeper_controller::{RetryWhich, SubmitError, Wish, WishOf};
use pipekeeper_engine::{CancelReason, Earlier, Input, Look, Verdict};
use pipekeeper_model::{Digest, Name, RunId, Sha, plan::Body};
use pipekeeper_store::AuditEntry;
use serde::{Deserialize, Serialize};

use crate::{
    app::{App, Deed},
    error::ApiError,
    extract::{ApiJson, ApiPath},
    load::{Loaded, NodeRef},
    people::Caller,
};

/// Bytes of what a person says to a decision.
const COMMENT: usize = 8 * 1024;

/// The run that a request led to.
#[derive(Serialize)]
pub(crate) struct RunRef {
    pub(crate) run: RunId,
}

/// `POST /api/v1/runs`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartRunRequest {
    project: Name,
    pipeline: Name,
    revision: Option<String>,
    tree: Option<TreeRequest>,
    #[serde(default)]
    params: BTreeMap<Name, String>,
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default)]
    reuse: ReuseRequest,
}

/// A working tree that was sent before, and the cluster that its actions run on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeRequest {
    id: Sha,
    cluster: Name,
}

/// Whether earlier successes may stand in for actions with `reuse:`; they may unless it says `false`.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(crate) struct ReuseRequest(bool);

impl Default for ReuseRequest {
    fn default() -> Self {
        Self(true)
    }
}

impl From<ReuseRequest> for Earlier {
    fn from(asked: ReuseRequest) -> Self {
        if asked.0 { Self::Adopt } else { Self::Ignore }
    }
}

pub(crate) async fn start_run(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiJson(body): ApiJson<StartRunRequest>,
) -> Result<(StatusCode, Json<RunRef>), ApiError> {
    caller.check(Verb::StartRun, Place::project(&body.project))?;
    let of = match (body.revision, body.tree) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request(
                "a run is made of a revision or of a tree, not of both",
            ));
        }
        (revision, None) => WishOf::Revision(revision),
        (None, Some(TreeRequest { id: tree, cluster })) => WishOf::Tree { tree, cluster },
    };
    let wish = Wish {
        project: body.project,
        pipeline: body.pipeline,
        of,
        params: body.params,
        actions: body.actions,
        earlier: body.reuse.into(),
    };
    let entry = AuditEntry {
        project: Some(wish.project.clone()),
        ..caller.audit(
            "run.start",
            format!("project/{}/{}", wish.project, wish.pipeline),
            app.now(),
        )
    };
    app.note(entry).await?;
    let actor = caller.actor();
    let handle = app.parts.handle.clone();
    let run = detached(async move { handle.wish(actor, wish).await }).await?;
    Ok((StatusCode::CREATED, Json(RunRef { run })))
}

/// `POST /api/v1/runs/{run}/cancel`
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(run): ApiPath<RunId>,
) -> Result<Json<RunRef>, ApiError> {
    cancel_run(&app, &caller, run).await?;
    Ok(Json(RunRef { run }))
}

/// Asks a run to end.
pub(crate) async fn cancel_run(app: &App, caller: &Caller, run: RunId) -> Result<(), ApiError> {
    let deed = Deed::of_run("run.cancel", run);
    submit(app, caller, deed, Input::CancelRequested(CancelReason::Asked)).await
}

/// `POST /api/v1/runs/{run}/retry`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryRequest {
    which: WhichRequest,
    #[serde(default)]
    reuse: ReuseRequest,
}

/// Which nodes run again.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WhichRequest {
    All,
    Failed,
}

pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath(run): ApiPath<RunId>,
    ApiJson(body): ApiJson<RetryRequest>,
) -> Result<(StatusCode, Json<RunRef>), ApiError> {
    let run = retry_run(&app, &caller, run, (body.which, body.reuse)).await?;
    Ok((StatusCode::CREATED, Json(RunRef { run })))
}

/// Makes a new run of a finished one.
pub(crate) async fn retry_run(
    app: &App,
    caller: &Caller,
    run: RunId,
    (which, reuse): (WhichRequest, ReuseRequest),
) -> Result<RunId, ApiError> {
    let which = match which {
        WhichRequest::All => RetryWhich::All,
        WhichRequest::Failed => RetryWhich::Failed,
    };
    app.note_deed(caller, Deed::of_run("run.retry", run)).await?;
    let actor = caller.actor();
    let handle = app.parts.handle.clone();
    detached(async move { handle.retry(run, actor, which, reuse.into()).await }).await
}

/// `POST /api/v1/runs/{run}/nodes/{node}/reject`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionRequest {
    subject: Digest,
    comment: Option<String>,
}

/// `POST /api/v1/runs/{run}/nodes/{node}/approve`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApprovalRequest {
    subject: Digest,
    comment: Option<String>,
    #[serde(default)]
    params: BTreeMap<Name, String>,
    #[serde(default)]
    bypass: BypassRequest,
}

/// Whether the gate's rule is gone past; it is kept unless it says `true`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
struct BypassRequest(bool);

pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    ApiJson(body): ApiJson<ApprovalRequest>,
) -> Result<Json<RunRef>, ApiError> {
    let verdict = if body.bypass.0 {
        Verdict::Bypass
    } else {
        Verdict::Approve
    };
    let decision = Decision {
        verdict,
        subject: body.subject,
        comment: body.comment,
        params: body.params,
    };
    decide(&app, &caller, (run, &node), decision).await?;
    Ok(Json(RunRef { run }))
}

pub(crate) async fn reject(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    ApiJson(body): ApiJson<DecisionRequest>,
) -> Result<Json<RunRef>, ApiError> {
    let decision = Decision {
        verdict: Verdict::Reject,
        subject: body.subject,
        comment: body.comment,
        params: BTreeMap::new(),
    };
    decide(&app, &caller, (run, &node), decision).await?;
    Ok(Json(RunRef { run }))
}

/// What a person decided, on the subject that they saw.
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) subject: Digest,
    pub(crate) comment: Option<String>,
    pub(crate) params: BTreeMap<Name, String>,
}

/// Tells a gate what a person decided.
pub(crate) async fn decide(
    app: &App,
    caller: &Caller,
    (run, node): (RunId, &str),
    decision: Decision,
) -> Result<(), ApiError> {
    let Decision {
        verdict,
        subject,
        comment,
        params,
    } = decision;
    let loaded = app.run(run).await?;
    let gate = loaded.node(node)?;
    let id = gate.id;
    check_unnamed(caller, &loaded, gate)?;
    let comment = comment.filter(|comment| !comment.trim().is_empty());
    if comment.as_ref().is_some_and(|comment| comment.len() > COMMENT) {
        return Err(ApiError::bad_request(format!(
            "the comment has more than {COMMENT} bytes"
        )));
    }
    let verb = match verdict {
        Verdict::Approve => "gate.approve",
        Verdict::Reject => "gate.reject",
        Verdict::Bypass => "gate.bypass",
    };
    let deed = Deed {
        reason: comment.clone(),
        ..Deed::of_node(verb, run, node)
    };
    let input = Input::GateDecided {
        node: id,
        verdict,
        subject,
        comment,
        params,
        standing: app.people.everybody().await?.standing(caller, &loaded.run, id)?,
    };
    submit(app, caller, deed, input).await
}

/// At a gate that leaves it open who decides, it takes somebody who may set things going, and not only look.
pub(crate) fn check_unnamed(caller: &Caller, loaded: &Loaded, gate: NodeRef<'_>) -> Result<(), ApiError> {
    if !names_nobody(&gate.node.body) {
        return Ok(());
    }
    let request = loaded.run.request();
    let place = Place {
        project: request.map(|request| &request.project),
        environment: request.and_then(|request| request.plan.guarded_by(gate.id)),
    };
    caller.check(Verb::StartAction, place)
}

fn names_nobody(body: &Body) -> bool {
    match body {
        Body::Approve(gate) => gate.by.is_empty(),
        Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => false,
    }
}

/// `POST /api/v1/runs/{run}/nodes/{node}/start`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartNodeRequest {
    #[serde(default)]
    confirm: bool,
}

pub(crate) async fn start_node(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    ApiJson(body): ApiJson<StartNodeRequest>,
) -> Result<Json<RunRef>, ApiError> {
    let look = if body.confirm { Look::Second } else { Look::First };
    press_start(&app, &caller, (run, &node), look).await?;
    Ok(Json(RunRef { run }))
}

/// Presses a node's start.
pub(crate) async fn press_start(
    app: &App,
    caller: &Caller,
    (run, node): (RunId, &str),
    look: Look,
) -> Result<(), ApiError> {
    let loaded = app.run(run).await?;
    let id = loaded.node(node)?.id;
    let deed = Deed::of_node("action.start", run, node);
    let input = Input::StartPressed {
        node: id,
        look,
        standing: app.people.everybody().await?.standing(caller, &loaded.run, id)?,
    };
    submit(app, caller, deed, input).await
}

/// Gives an input to a run in the name of the caller, once the audit log knows of it.
async fn submit(app: &App, caller: &Caller, deed: Deed, input: Input) -> Result<(), ApiError> {
    let run = deed.run;
    let refused = deed.refused();
    app.note_deed(caller, deed).await?;
    let actor = caller.actor();
    let handle = app.parts.handle.clone();
    let done = detached(async move { handle.submit(run, actor, input).await }).await;
    if let Err(error) = &done
        && !error.is_ours()
    {
        // What was noted was not done after all.
        let reason = Some(error.detail().to_owned());
        app.note_deed(caller, Deed { reason, ..refused }).await?;
    }
    done
}

/// Runs a request to the controller in a task of its own: a client that goes away must not tear it.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, SubmitError>> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::spawn(work).await;
    Ok(done.map_err(|error| ApiError::internal(&error))??)
}
