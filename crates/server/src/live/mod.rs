//! `GET /api/v1/live`: what happens, as server-sent events, one stream per tab.
//!
//! `?run=ID` follows a run, `&node=NAME` a node's log too; without a run, every run's changes are named. News come from the
//! controller's broadcast and log bytes from the file. A stream is pulled, so a slow reader costs no memory: it misses news,
//! is told `resync`, and gets the present state. Events: `run`, `log`, `note`, `resync`. Entry: [`stream`].

mod cursor;
mod follow;
pub(crate) mod record;
mod tail;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::{FutureExt, future::BoxFuture, stream::unfold};
use pipekeeper_access::{Place, Verb};
use pipekeeper_controller::News;
use pipekeeper_model::{Name, RunId};
use pipekeeper_store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
};
use tracing::warn;

use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::ApiQuery,
    load::no_run,
    metrics::Open,
    people::Caller,
};
use cursor::Cursor;
use follow::Follow;
pub(crate) use tail::LINE_SHOWN;
use tail::LogForm;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What to follow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveQuery {
    run: Option<u64>,
    node: Option<String>,
    /// Where to go on, for a first connection; a reconnecting browser's `Last-Event-ID` stands above it.
    cursor: Option<String>,
    #[serde(default)]
    log: LogForm,
}

/// `GET /api/v1/live`
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    ApiQuery(query): ApiQuery<LiveQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let slot = Arc::clone(&app.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(Problem::Busy, "too many live streams are open"))?;
    // Listening starts before loading, so that nothing falls between the two.
    let news = app.parts.handle.listen();
    let resumed = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .map(str::to_owned)
        .or(query.cursor);
    let subject = match query.run {
        None => Subject::Everything(Everything {
            queue: VecDeque::new(),
            projects: caller.narrow(Verb::ReadRuns, None)?,
            seen: BTreeMap::new(),
        }),
        Some(run) => {
            let loaded = Arc::unwrap_or_clone(app.run(RunId(run)).await?);
            if !caller.may(Verb::ReadRuns, Place::project(&loaded.request()?.project)) {
                return Err(no_run(RunId(run)));
            }
            let cursor = resumed.map(|text| Cursor::parse(&text));
            let layout = app.parts.layout.clone();
            let follow = Follow::new(loaded, query.node.as_deref(), cursor, query.log, layout)?;
            Subject::Run(Box::new(follow))
        }
    };
    let may = subject.right();
    let live = Live {
        ends: Box::pin(app.ends(headers, may)),
        news,
        subject,
        _slot: slot,
        _open: app.metrics.stream(),
        app,
    };
    let events = unfold(live, async |mut live| {
        live.next().await.map(|event| (event, live))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(response)
}

/// An open stream.
struct Live {
    app: Arc<App>,
    news: Receiver<News>,
    ends: BoxFuture<'static, ()>,
    subject: Subject,
    _slot: OwnedSemaphorePermit,
    _open: Open,
}

/// What a stream is about.
enum Subject {
    Everything(Everything),
    Run(Box<Follow>),
}

/// The runs of all projects that somebody may see.
struct Everything {
    queue: VecDeque<Event>,
    /// None for all.
    projects: Option<BTreeSet<Name>>,
    /// Whether runs that were told of are among them.
    seen: BTreeMap<RunId, bool>,
}

/// Runs that are remembered as seen or not.
const SEEN: usize = 10_000;

impl Everything {
    async fn sees(&mut self, run: RunId, store: &dyn Store) -> Result<bool, ApiError> {
        let Some(projects) = &self.projects else {
            return Ok(true);
        };
        if let Some(seen) = self.seen.get(&run) {
            return Ok(*seen);
        }
        let summary = store.summary(run).await?;
        let sees = summary.is_some_and(|summary| projects.contains(&summary.project));
        if self.seen.len() >= SEEN {
            self.seen.pop_first();
        }
        self.seen.insert(run, sees);
        Ok(sees)
    }
}

impl Subject {
    /// What its reader must be allowed as long as they read.
    fn right(&self) -> Box<dyn Fn(&Caller) -> bool + Send> {
        match self {
            Self::Everything(everything) => {
                let projects = everything.projects.clone();
                Box::new(move |caller| {
                    let narrowed = caller.narrow(Verb::ReadRuns, None);
                    narrowed.is_ok_and(|allowed| allowed == projects)
                })
            }
            Self::Run(follow) => {
                let project = follow.project();
                Box::new(move |caller| {
                    let place = Place {
                        project: project.as_ref(),
                        environment: None,
                    };
                    caller.may(Verb::ReadRuns, place)
                })
            }
        }
    }
}

/// A change of a run, in streams that follow all.
#[derive(Serialize)]
struct ChangedResponse {
    run: RunId,
    version: u64,
}

impl Live {
    /// The next event, or nothing when the stream is to end.
    async fn next(&mut self) -> Option<Result<Event, Infallible>> {
        loop {
            // Also in the middle of much that is still to be told.
            if (&mut self.ends).now_or_never().is_some() {
                return None;
            }
            let next = match &mut self.subject {
                Subject::Everything(everything) => everything.queue.pop_front(),
                Subject::Run(follow) => follow.next_event().await,
            };
            if let Some(event) = next {
                return Some(Ok(event));
            }
            if let Subject::Run(follow) = &mut self.subject
                && follow.turn_to_next_attempt()
            {
                continue;
            }
            let news = tokio::select! {
                biased;
                () = &mut self.ends => return None,
                news = self.news.recv() => news,
            };
            if let Err(error) = self.hear_all(news).await {
                warn!(detail = error.detail(), "a live stream ends");
                return None;
            }
        }
    }

    /// Takes in what is there before anything is told: a reader that is slow hears less, not late.
    async fn hear_all(&mut self, first: Result<News, RecvError>) -> Result<(), ApiError> {
        self.hear(first).await?;
        loop {
            match self.news.try_recv() {
                Ok(news) => self.hear(Ok(news)).await?,
                Err(TryRecvError::Lagged(missed)) => self.hear(Err(RecvError::Lagged(missed))).await?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    async fn hear(&mut self, news: Result<News, RecvError>) -> Result<(), ApiError> {
        match (&mut self.subject, news) {
            (_, Err(RecvError::Closed)) => Err(ApiError::internal(&"the controller is gone")),
            (Subject::Everything(everything), Err(RecvError::Lagged(_))) => {
                everything.queue.push_back(event("resync", "{}".to_owned()));
                Ok(())
            }
            (Subject::Everything(everything), Ok(News::Run { run, version, .. })) => {
                if everything.sees(run, self.app.parts.store.as_ref()).await? {
                    let changed = ChangedResponse { run, version };
                    everything.queue.push_back(event("run", json(&changed)));
                }
                Ok(())
            }
            (Subject::Everything(_), Ok(News::Attempt { .. } | News::Delivery(_) | News::Elsewhere)) => {
                Ok(())
            }
            (Subject::Run(follow), Err(RecvError::Lagged(_))) => {
                let loaded = self.app.run(follow.id()).await?;
                follow.reload(Arc::unwrap_or_clone(loaded));
                Ok(())
            }
            (Subject::Run(follow), Ok(news)) => follow.hear(news, self.app.parts.store.as_ref()).await,
        }
    }
}

fn event(kind: &str, data: String) -> Event {
    Event::default().event(kind).data(data)
}

fn json(data: &impl Serialize) -> String {
    // What is sent here has no map with other keys than strings, which is all that could fail.
    serde_json::to_string(data).unwrap_or_default()
}
