//! The one task of a store that writes: it takes what is queued, has it applied in one transaction, and answers after the
//! commit. So a caller that gives up leaves nothing half done; entry: [`run`].

use std::future::Future;

use tokio::sync::mpsc;

use crate::{StoreError, job::Job};

/// The most operations in one transaction.
pub(crate) const BATCH: usize = 256;
/// How large they may be together: whoever comes next waits for all of them.
const BATCH_BYTES: usize = 4 << 20;

/// What a database does for its writer task.
pub(crate) trait Transact: Send {
    /// Applies all of a batch in one transaction, with an answer in each of its operations, or nothing of it.
    fn transact(&mut self, batch: &mut [Job]) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Whom a failure concerns.
    fn blame(error: &sqlx::Error) -> Blame;

    /// A failure as callers see it.
    fn to_store_error(error: &sqlx::Error) -> StoreError;

    /// Ends in order.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// Whom a failure of a batch concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// One of its operations: alone, the others may well succeed.
    Operation,
    /// The database: every operation would fail in the same way, and the connection is better made anew.
    Database,
}

/// Writes until it is told to close or nobody is left who could ask.
pub(crate) async fn run<D: Transact>(mut database: D, mut jobs: mpsc::Receiver<Job>) {
    let mut closing = Vec::new();
    let mut batch = Vec::with_capacity(BATCH);
    while jobs.recv_many(&mut batch, BATCH).await > 0 {
        gather(&mut jobs, &mut batch).await;
        closing.extend(batch.extract_if(.., |job| matches!(job, Job::Close(_))));
        if !closing.is_empty() {
            jobs.close();
        }
        if !batch.is_empty() {
            write(&mut database, &mut batch).await;
        }
    }
    database.close().await;
    for mut job in closing {
        if let Job::Close(ask) = &mut job {
            ask.answer(());
        }
        job.send(None);
    }
}

/// Writes a batch as one, or one by one if one of them spoils it.
async fn write<D: Transact>(database: &mut D, batch: &mut Vec<Job>) {
    match database.transact(batch).await {
        Err(error) if batch.len() > 1 && D::blame(&error) == Blame::Operation => {
            for mut job in batch.drain(..) {
                let failure = database.transact(std::slice::from_mut(&mut job)).await.err();
                job.send(failure.as_ref().map(D::to_store_error).as_ref());
            }
        }
        result => {
            let failure = result.err().as_ref().map(D::to_store_error);
            if let Some(failure) = &failure {
                tracing::warn!(operations = batch.len(), "a batch of writes failed: {failure}");
            }
            batch.drain(..).for_each(|job| job.send(failure.as_ref()));
        }
    }
}

/// Takes what comes within a turn of the runtime: callers that were answered just now may ask again at once, and the more
/// share one sync, the more are served.
async fn gather(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>) {
    let mut bytes: usize = batch.iter().map(Job::bytes).sum();
    loop {
        let held = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(job) = jobs.try_recv()
        {
            bytes += job.bytes();
            batch.push(job);
        }
        if batch.len() == held {
            return;
        }
    }
}
