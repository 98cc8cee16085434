//! `GET /api/v1/runs/{run}/record`: a run's events as they were recorded, from any one of them on, then what happens, until
//! the run has ended. One JSON object a line, of the form that `pipe run --output json` prints; an empty line says that the
//! server is still there.
//!
//! ```text
//! {"type":"event","number":7,"event":{…}}       as recorded; a reader of the same version can fold them
//! {"type":"log","attempt":"r57-n0-a1"}          its log may have grown
//! {"type":"waits","attempt":"…","reason":"…"}   what keeps it from starting
//! {"type":"silent","attempt":"…","seconds":10,"processes":"…"}   it put nothing out for so long
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, future::BoxFuture, stream::unfold};
use pipekeeper_access::{Place, Verb};
use pipekeeper_controller::{AttemptNews, News};
use pipekeeper_engine::{Event, Fact, NodeState};
use pipekeeper_model::{AttemptId, RunId};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{Receiver, error::RecvError},
    },
    time::timeout,
};
use tracing::warn;

use super::KEEP_ALIVE;
use crate::{
    app::App,
    error::{ApiError, Problem},
    extract::{ApiPath, ApiQuery},
    load::Loaded,
    metrics::Open,
    people::Caller,
};

/// Events that are read at once.
const PAGE: u32 = 500;

/// From where on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordQuery {
    #[serde(default)]
    after: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Event {
        number: u64,
        event: &'a Event,
    },
    Log {
        attempt: AttemptId,
    },
    Waits {
        attempt: AttemptId,
        reason: String,
    },
    Silent {
        attempt: AttemptId,
        seconds: u64,
        processes: String,
    },
}

/// The record of a run, followed to its end.
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    ApiPath(run): ApiPath<RunId>,
    ApiQuery(query): ApiQuery<RecordQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let slot = Arc::clone(&app.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::new(Problem::Busy, "too many live streams are open"))?;
    // Listening starts before reading, so that nothing falls between the two.
    let news = app.parts.handle.listen();
    let loaded = app.run(run).await?;
    let project = loaded.request()?.project.clone();
    let may = move |caller: &Caller| caller.may(Verb::ReadRuns, Place::project(&project));
    let mut recording = Recording {
        closed: Box::pin(app.ends(headers, may)),
        news,
        run,
        number: query.after,
        has_ended: loaded.run.is_finished() && query.after >= loaded.version,
        lines: VecDeque::new(),
        logs: BTreeSet::new(),
        waits: BTreeMap::new(),
        silent: BTreeMap::new(),
        _slot: slot,
        _open: app.metrics.stream(),
        app,
    };
    recording.catch_up(&loaded);
    let lines = unfold(recording, async |mut recording| {
        let line = recording.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(line)), recording))
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response())
}

struct Recording {
    app: Arc<App>,
    news: Receiver<News>,
    closed: BoxFuture<'static, ()>,
    run: RunId,
    /// The last event that was told.
    number: u64,
    has_ended: bool,
    lines: VecDeque<String>,
    /// What is told once the events are.
    logs: BTreeSet<AttemptId>,
    waits: BTreeMap<AttemptId, String>,
    /// For how many seconds, and what its processes are.
    silent: BTreeMap<AttemptId, (u64, String)>,
    _slot: OwnedSemaphorePermit,
    _open: Open,
}

impl Recording {
    /// What is told of live attempts to somebody who heard nothing of them.
    fn catch_up(&mut self, loaded: &Loaded) {
        for state in loaded.run.nodes() {
            if let NodeState::Running(live) = state {
                self.logs.insert(live.attempt);
                let reason = self.app.parts.handle.obstacles().of(live.attempt);
                self.waits.extend(reason.map(|reason| (live.attempt, reason)));
            }
        }
    }

    /// The next line, or nothing when the stream is to end.
    async fn next(&mut self) -> Option<String> {
        loop {
            // Also in the middle of much that is still to be told.
            if (&mut self.closed).now_or_never().is_some() {
                return None;
            }
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            if self.has_ended {
                return None;
            }
            if let Err(error) = self.read().await {
                warn!(detail = error.detail(), "a record's stream ends");
                return None;
            }
            self.tell_attempts();
            if !self.lines.is_empty() {
                continue;
            }
            let news = tokio::select! {
                biased;
                () = &mut self.closed => return None,
                news = timeout(KEEP_ALIVE, self.news.recv()) => news,
            };
            match news {
                Err(_) => return Some("\n".to_owned()),
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(_)) | Ok(News::Elsewhere)) => {
                    let loaded = self.app.run(self.run).await.ok()?;
                    self.catch_up(&loaded);
                }
                Ok(Ok(news)) => self.hear(news),
            }
        }
    }

    /// Reads the events that were not told yet: the store has them, news are hints.
    async fn read(&mut self) -> Result<(), ApiError> {
        let store = self.app.parts.store.as_ref();
        for (number, event) in store.events(self.run, self.number, PAGE).await? {
            let event = &event;
            self.has_ended |= matches!(event.fact, Fact::RunFinished { .. });
            self.lines.push_back(line(&Line::Event { number, event }));
            self.number = number;
        }
        Ok(())
    }

    fn tell_attempts(&mut self) {
        let logs = std::mem::take(&mut self.logs).into_iter();
        self.lines
            .extend(logs.map(|attempt| line(&Line::Log { attempt })));
        let waits = std::mem::take(&mut self.waits).into_iter();
        self.lines
            .extend(waits.map(|(attempt, reason)| line(&Line::Waits { attempt, reason })));
        let silent = std::mem::take(&mut self.silent).into_iter();
        let told = silent.map(|(attempt, (seconds, processes))| {
            line(&Line::Silent {
                attempt,
                seconds,
                processes,
            })
        });
        self.lines.extend(told);
    }

    fn hear(&mut self, news: News) {
        let News::Attempt { attempt, what } = news else {
            return;
        };
        if attempt.run != self.run {
            return;
        }
        match what {
            AttemptNews::LogGrew { .. } => {
                self.logs.insert(attempt);
            }
            AttemptNews::Waiting { reason } => {
                self.waits.insert(attempt, reason);
            }
            AttemptNews::Silent { seconds, processes } => {
                self.silent.insert(attempt, (seconds, processes));
            }
            AttemptNews::StepStarted { .. } => {}
        }
    }
}

fn line(line: &Line<'_>) -> String {
    // What is sent here has no map with other keys than strings, which is all that could fail.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}
