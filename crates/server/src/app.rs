//! The state that every handler shares.

use std::sync::Arc;

use axum::Router;

use crate::{ServerParts, metrics::Metrics};

/// What handlers work with.
pub(crate) struct App {
    pub(crate) parts: ServerParts,
    pub(crate) metrics: Arc<Metrics>,
}

impl App {
    pub(crate) fn new(parts: ServerParts) -> Result<Arc<Self>, getrandom::Error> {
        let metrics = Metrics::new();
        Ok(Arc::new(Self { parts, metrics }))
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
    }

    pub(crate) fn close(&self) {}
}
