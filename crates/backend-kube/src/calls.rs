//! Calls to the cluster: bounded in time, and counted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use kube::Error;
use tokio::time::timeout;

/// How long a call may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// What was asked of the cluster so far, its watches apart.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    answered: AtomicU64,
    early: AtomicU64,
}

impl Calls {
    /// A call that counts.
    pub(crate) async fn bounded<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.answered();
        bounded(call).await
    }

    /// One more was answered.
    pub(crate) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// One more stream was refused, because the container did not run yet.
    pub(crate) fn early(&self) {
        self.early.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were answered, and how many streams came too early.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        let Self { answered, early } = self;
        (answered.load(Ordering::Relaxed), early.load(Ordering::Relaxed))
    }
}

/// A call that does not answer is an error.
pub(crate) async fn bounded<T>(call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let silence = |_| Error::Service("the cluster does not answer".into());
    timeout(LIMIT, call).await.map_err(silence)?
}
