//! The store in one SQLite file, for one server: one task writes, a few connections read; entry: [`SqliteStore::open`].
//!
//! Every write goes through the writer task, so a caller that gives up leaves nothing half done. SQL holds no rules about
//! runs; it only refuses what must never happen.

mod deliveries;
mod estates;
mod exclusive;
mod failure;
mod open;
mod read;
mod registry;
mod runs;
mod writer;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use async_trait::async_trait;
use pipekeeper_engine::{AdoptedNode, EffectKey, Event};
use pipekeeper_model::{Digest, Name, RunId};
use sqlx::{Row as _, SqlitePool, sqlite::SqliteRow};
use tokio::sync::mpsc;

use crate::{
    Accepted, Commit, CommitError, Delivery, DeliveryId, DeliverySettlement, NewDelivery, RefMove, Refusal,
    RunFilter, RunStamp, RunSummary, Store, StoreError, StoredEffect, StoredRun,
    job::{self, Ask, Job, PreparedCommit, Quarantine, Success},
    rows::Cells,
};

pub use open::OpenError;

/// A store in one SQLite file. It wants to be closed: [`Store::close`] ends its writer in order.
#[derive(Debug)]
pub struct SqliteStore {
    readers: SqlitePool,
    jobs: mpsc::Sender<Job>,
}

impl SqliteStore {
    async fn ask<B, A, E: From<StoreError>>(&self, job: fn(Ask<B, A, E>) -> Job, body: B) -> Result<A, E> {
        job::ask(&self.jobs, job, (body, None)).await
    }

    /// The connections that read.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn accept_delivery(&self, delivery: NewDelivery) -> Result<Accepted, StoreError> {
        self.ask(Job::Accept, delivery).await
    }

    async fn note_refusal(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.ask(Job::Refuse, refusal).await
    }

    async fn refusals(&self, project: &Name) -> Result<Vec<Refusal>, StoreError> {
        read::refusals(&self.readers, project).await
    }

    async fn pending_deliveries(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        read::pending_deliveries(&self.readers, after, limit).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        read::delivery(&self.readers, id).await
    }

    async fn deliveries(
        &self,
        project: Option<&Name>,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        read::deliveries(&self.readers, project, before, limit).await
    }

    async fn settle_delivery(&self, settlement: DeliverySettlement) -> Result<(), StoreError> {
        self.ask(Job::Settle, settlement).await
    }

    async fn reopen_delivery(&self, id: DeliveryId) -> Result<bool, StoreError> {
        self.ask(Job::Reopen, id).await
    }

    async fn find_move(&self, moved: &RefMove) -> Result<Option<DeliveryId>, StoreError> {
        read::find_move(&self.readers, moved).await
    }

    async fn last_run(&self) -> Result<u64, StoreError> {
        read::last_run(&self.readers).await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.commit_all(vec![commit]).await
    }

    async fn commit_all(&self, commits: Vec<Commit>) -> Result<(), CommitError> {
        crate::records::each_run_once(&commits)?;
        // JSON is made here, by the caller's task, so that the one writer only writes.
        let prepared = commits.into_iter().map(PreparedCommit::new);
        self.ask(Job::Commit, prepared.collect::<Result<_, _>>()?).await
    }

    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        read::load(&self.readers, run).await
    }

    async fn stamp(&self, run: RunId) -> Result<Option<RunStamp>, StoreError> {
        read::stamp(&self.readers, run).await
    }

    async fn events(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Event)>, StoreError> {
        read::events(&self.readers, run, after, limit).await
    }

    async fn summary(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        read::summary(&self.readers, run).await
    }

    async fn active(&self) -> Result<Vec<(RunId, u64)>, StoreError> {
        read::active(&self.readers).await
    }

    async fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        read::runs(&self.readers, filter, limit).await
    }

    async fn effects(&self, after: Option<u64>, limit: u32) -> Result<Vec<StoredEffect>, StoreError> {
        read::effects(&self.readers, after, limit).await
    }

    async fn settle_effects(&self, keys: Vec<EffectKey>) -> Result<(), StoreError> {
        self.ask(Job::SettleEffects, keys).await
    }

    async fn remember(&self, inputs: Digest, result: AdoptedNode) -> Result<(), StoreError> {
        self.ask(Job::Remember, Success { inputs, result }).await
    }

    async fn recall(&self, inputs: &Digest) -> Result<Option<AdoptedNode>, StoreError> {
        read::recall(&self.readers, inputs).await
    }

    async fn quarantine(&self, run: RunId, reason: String) -> Result<(), StoreError> {
        self.ask(Job::Quarantine, Quarantine { run, reason }).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.ask(Job::Check, ()).await
    }

    async fn close(&self) {
        // The readers first: a checkpoint cannot empty the log beside an open read.
        self.readers.close().await;
        // The only failure is that it is closed already.
        let _closed: Result<(), StoreError> = self.ask(Job::Close, ()).await;
    }
}

impl Cells for SqliteRow {
    fn number_or_null(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text_or_null(&self, column: &str) -> Result<Option<Cow<'_, str>>, sqlx::Error> {
        Ok(self.try_get::<Option<&str>, _>(column)?.map(Cow::Borrowed))
    }

    fn flag(&self, column: &str) -> Result<bool, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes(&self, column: &str) -> Result<Vec<u8>, sqlx::Error> {
        self.try_get(column)
    }
}
