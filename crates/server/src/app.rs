//! The state that every handler shares.

use std::sync::Arc;

use axum::http::HeaderMap;
use pipekeeper_model::{Actor, RunId, Timestamp};
use tokio::sync::{Semaphore, watch};

use crate::{
    ServerParts,
    error::ApiError,
    extract::BodyLimits,
    load::{Loaded, Recent},
    metrics::Metrics,
    session::{Session, Sessions},
};

/// What handlers work with. No lock of it is held across an await.
pub(crate) struct App {
    pub(crate) parts: ServerParts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Sessions,
    pub(crate) hooks: Semaphore,
    pub(crate) large_hooks: Arc<Semaphore>,
    pub(crate) trees: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) terminals: Arc<Semaphore>,
    recent: Recent,
    closing: watch::Sender<Phase>,
}

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
}

impl App {
    pub(crate) fn new(parts: ServerParts) -> Result<Arc<Self>, getrandom::Error> {
        let limits = &parts.limits;
        Ok(Arc::new(Self {
            metrics: Metrics::new(),
            sessions: Sessions::new()?,
            hooks: Semaphore::new(limits.hooks),
            large_hooks: Arc::new(Semaphore::new(limits.large_hooks)),
            trees: Arc::new(Semaphore::new(limits.trees)),
            streams: Arc::new(Semaphore::new(limits.live_streams)),
            terminals: Arc::new(Semaphore::new(limits.terminals)),
            recent: Recent::new(&parts.handle),
            closing: watch::Sender::new(Phase::Open),
            parts,
        }))
    }

    /// The newest state of a run that exists.
    pub(crate) async fn run(&self, id: RunId) -> Result<Arc<Loaded>, ApiError> {
        self.recent.load(self.parts.store.as_ref(), id).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The one whom the token stands for, until there are users.
    pub(crate) fn admin(&self) -> Actor {
        Actor::user("admin")
    }

    pub(crate) fn session(&self, headers: &HeaderMap) -> Option<Session> {
        self.sessions.find(headers, self.now())
    }

    pub(crate) fn body_limits(&self) -> BodyLimits {
        let limits = &self.parts.limits;
        BodyLimits {
            bytes: limits.api_body,
            idle: limits.idle_timeout,
            whole: limits.body_timeout,
        }
    }

    /// Tells live streams to end.
    pub(crate) fn close(&self) {
        self.closing.send_replace(Phase::Closing);
    }

    /// Resolves when the server closes.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut phase = self.closing.subscribe();
        async move {
            // A sender that is gone means the same.
            let _ = phase.wait_for(|phase| *phase == Phase::Closing).await;
        }
    }
}
