//! A shell for a person, where a step of an action began.

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use pipekeeper_access::{Place, Verb};
use pipekeeper_controller::{DebugWish, Hold, LookInto, TermName, TerminalSize};
use pipekeeper_model::{Actor, RunId};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use crate::{
    app::{App, Deed},
    error::{ApiError, Problem},
    extract::{ApiPath, ApiQuery},
    people::Caller,
    terminal::{PROTOCOL, serve::serve},
};

/// The person's terminal, and where they want to stand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DebugQuery {
    columns: u16,
    rows: u16,
    #[serde(default)]
    term: String,
    step: Option<String>,
    #[serde(default)]
    pod: WantedPod,
}

/// Which pod they want to look into.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WantedPod {
    /// That of the attempt itself, if it is held.
    #[default]
    Held,
    /// One that is made like it.
    New,
}

/// Whose pod was let go.
#[derive(Serialize)]
pub(crate) struct ReleaseResponse {
    run: RunId,
    name: String,
}

/// `POST /api/v1/runs/{run}/nodes/{node}/debug`, which becomes a terminal.
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
    ApiQuery(query): ApiQuery<DebugQuery>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgrade = request.headers().get(header::UPGRADE);
    if !upgrade.is_some_and(|wanted| wanted.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes())) {
        let detail = format!("a terminal wants a connection that becomes `{PROTOCOL}`");
        return Err(ApiError::bad_request(detail).with_hint("`pipe debug RUN/ACTION` opens one"));
    }
    let loaded = app.run(run).await?;
    let id = loaded.node(&node)?.id;
    let hold = Hold::of(&loaded.run, id, query.step.as_deref()).map_err(|error| {
        ApiError::new(Problem::Conflict, format!("cannot look into `{node}`: {error}"))
            .with_hint(format!("`pipe show {run}` lists what ran"))
    })?;
    let slot = Arc::clone(&app.terminals)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(Problem::Busy, "too many terminals are open"))?;
    let wish = DebugWish {
        run: loaded.run.clone(),
        hold,
        into: match query.pod {
            WantedPod::Held => LookInto::Held,
            WantedPod::New => LookInto::New,
        },
        limit: app.parts.limits.terminal_time,
        size: TerminalSize {
            columns: query.columns,
            rows: query.rows,
        },
        term: TermName::new(&query.term),
    };
    app.note_deed(&caller, Deed::of_node("terminal.open", run, &node))
        .await?;
    let upgraded = hyper::upgrade::on(&mut request);
    let project = loaded.request()?.project.clone();
    let may = move |caller: &Caller| caller.may(Verb::OpenTerminal, Place::project(&project));
    let ends = app.ends(request.headers().clone(), may);
    let session = session(
        Arc::clone(&app),
        slot,
        (node, caller.actor()),
        wish,
        (upgraded, ends),
    );
    tokio::spawn(session);
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(PROTOCOL)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// `POST /api/v1/runs/{run}/nodes/{node}/release`: lets the held pod of a node's last attempt go before its time.
pub(crate) async fn release(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiPath((run, node)): ApiPath<(RunId, String)>,
) -> Result<Json<ReleaseResponse>, ApiError> {
    let attempt = app.run(run).await?.node(&node)?.attempt(run, None)?;
    app.note_deed(&caller, Deed::of_node("pod.release", run, &node))
        .await?;
    let released = app.parts.handle.release(attempt).await;
    let was_held = released.map_err(|error| ApiError::new(Problem::Conflict, error.to_string()))?;
    if !was_held {
        let detail = format!("no pod of `{node}` is held: `pipe debug {run}/{node}` makes a new one");
        return Err(ApiError::new(Problem::Conflict, detail));
    }
    let actor = caller.actor();
    info!(run.id = %run, node.name = node, attempt.id = %attempt, %actor, "a person lets a held pod go");
    Ok(Json(ReleaseResponse { run, name: node }))
}

/// One session, from its first word to its last; both are in the server's log.
async fn session(
    app: Arc<App>,
    slot: OwnedSemaphorePermit,
    (node, actor): (String, Actor),
    wish: DebugWish,
    (upgraded, ends): (hyper::upgrade::OnUpgrade, impl Future<Output = ()> + Send),
) {
    let stream = match upgraded.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(error) => return info!(%error, "a terminal's connection broke before it opened"),
    };
    let attempt = wish.hold.attempt();
    let step = wish.hold.step().to_owned();
    let run = attempt.run;
    info!(run.id = %run, node.name = node, attempt.id = %attempt, step, %actor, "a person looks into an action");
    let begun = Instant::now();
    let end = serve(stream, &app.parts.handle, wish, ends).await;
    let seconds = begun.elapsed().as_secs();
    info!(
        run.id = %run, node.name = node, attempt.id = %attempt, step, %actor, seconds,
        "a look into an action ended: {}", end.as_str()
    );
    drop(slot);
}
