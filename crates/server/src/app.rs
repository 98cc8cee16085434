//! The state that every handler shares.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderMap;
use pipekeeper_model::{RunId, Timestamp};
use pipekeeper_store::AuditEntry;
use tokio::sync::{Semaphore, watch};

use crate::{
    Exposure, ServerParts,
    documents::Desk,
    error::ApiError,
    extract::BodyLimits,
    load::{Loaded, Recent},
    metrics::Metrics,
    people::{Caller, OpenReads, People},
};

/// What handlers work with. No lock of it is held across an await.
pub(crate) struct App {
    pub(crate) parts: ServerParts,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) people: People,
    pub(crate) hooks: Semaphore,
    pub(crate) large_hooks: Arc<Semaphore>,
    pub(crate) trees: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) terminals: Arc<Semaphore>,
    recent: Recent,
    closing: watch::Sender<Phase>,
}

/// Something that somebody does to a run, in the words of the audit log.
pub(crate) struct Deed {
    pub(crate) run: RunId,
    pub(crate) verb: &'static str,
    pub(crate) subject: String,
    pub(crate) reason: Option<String>,
}

impl Deed {
    pub(crate) fn of_run(verb: &'static str, run: RunId) -> Self {
        Self {
            run,
            verb,
            subject: format!("run/{run}"),
            reason: None,
        }
    }

    /// The same deed, refused.
    pub(crate) fn refused(&self) -> Self {
        Self {
            run: self.run,
            verb: "refused",
            subject: self.subject.clone(),
            reason: None,
        }
    }

    pub(crate) fn of_node(verb: &'static str, run: RunId, node: &str) -> Self {
        Self {
            subject: format!("run/{run}/{node}"),
            ..Self::of_run(verb, run)
        }
    }
}

/// How often rights are looked at again while something is open.
const RIGHTS_CHECKED: Duration = Duration::from_secs(15);

/// How far the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
}

impl App {
    pub(crate) fn new(parts: ServerParts) -> Result<Arc<Self>, ApiError> {
        let limits = &parts.limits;
        let people = People::new(
            Arc::clone(&parts.registry),
            parts.admin_token.clone(),
            match parts.exposure {
                Exposure::Loopback => OpenReads::UntilThereArePeople,
                Exposure::Proxied { .. } | Exposure::Tls { .. } => OpenReads::Never,
            },
        )?;
        Ok(Arc::new(Self {
            metrics: Metrics::new(),
            people,
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

    /// What documents are judged and kept with.
    pub(crate) fn desk(&self) -> Desk<'_> {
        Desk {
            registry: self.parts.registry.as_ref(),
            vault: self.parts.vault.as_ref(),
            composer: self.parts.composer.as_ref(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Whether browsers reach it over TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.parts.exposure.host().is_some()
    }

    /// Writes into the audit log what somebody is about to do; what the log cannot take is not done.
    pub(crate) async fn note(&self, entry: AuditEntry) -> Result<(), ApiError> {
        Ok(self.parts.registry.change(Vec::new(), vec![entry]).await?)
    }

    /// The same for something that is done to a run.
    pub(crate) async fn note_deed(&self, caller: &Caller, deed: Deed) -> Result<(), ApiError> {
        let summary = self.parts.store.summary(deed.run).await?;
        let entry = caller.audit(deed.verb, deed.subject, self.now());
        self.note(AuditEntry {
            project: summary.map(|summary| summary.project),
            reason: deed.reason,
            ..entry
        })
        .await
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

    /// Resolves when the server closes, or once whoever sent these headers may not do something any more: what stays open
    /// for long is not open for longer than its right.
    pub(crate) fn ends(
        self: &Arc<Self>,
        headers: HeaderMap,
        may: impl Fn(&Caller) -> bool + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let closed = self.closed();
        let app = Arc::clone(self);
        let revoked = async move {
            loop {
                tokio::time::sleep(RIGHTS_CHECKED).await;
                match app.people.caller(&headers, app.now()).await {
                    Ok(Some(caller)) if may(&caller) => {}
                    Ok(Some(_) | None) => return,
                    Err(error) if error.is_ours() => {}
                    Err(_) => return,
                }
            }
        };
        async move {
            tokio::select! {
                () = closed => {}
                () = revoked => {}
            }
        }
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
