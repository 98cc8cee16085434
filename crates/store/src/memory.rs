//! The store in memory: for `pipe run` and the simulator. It keeps nothing beyond the process; entry: [`MemoryStore`].

mod data;
mod estates;
mod registry;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use pipekeeper_engine::{AdoptedNode, EffectKey, Event};
use pipekeeper_model::{Digest, Name, RunId};

use crate::{
    Accepted, Commit, CommitError, Delivery, DeliveryId, DeliverySettlement, NewDelivery, RefMove, Refusal,
    RunFilter, RunStamp, RunSummary, Store, StoreError, StoredEffect, StoredRun,
};
use data::Data;

/// A store in memory. Its clones share the data and are closed together.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
    closed: Arc<AtomicBool>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An open store on the same data, as the next process would find it; this one stays as it is.
    pub fn reopen(&self) -> Self {
        Self {
            data: Arc::clone(&self.data),
            closed: Arc::default(),
        }
    }

    /// An empty store whose runs are numbered from the one after `last`, with successes of runs up to there.
    pub fn after(last: u64, successes: impl IntoIterator<Item = (Digest, AdoptedNode)>) -> Self {
        let data = Data::after(last, successes);
        Self {
            data: Arc::new(Mutex::new(data)),
            closed: Arc::default(),
        }
    }

    /// Every kept success, with its inputs.
    pub fn successes(&self) -> Vec<(Digest, AdoptedNode)> {
        let data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        data.successes()
    }

    fn data(&self) -> Result<MutexGuard<'_, Data>, StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(self.data.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn accept_delivery(&self, delivery: NewDelivery) -> Result<Accepted, StoreError> {
        Ok(self.data()?.accept(delivery))
    }

    async fn note_refusal(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.data()?.refuse(refusal);
        Ok(())
    }

    async fn refusals(&self, project: &Name) -> Result<Vec<Refusal>, StoreError> {
        Ok(self.data()?.refusals(project))
    }

    async fn pending_deliveries(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.data()?.pending(after, to_usize(limit)))
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        Ok(self.data()?.delivery(id).cloned())
    }

    async fn deliveries(
        &self,
        project: Option<&Name>,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.data()?.deliveries(project, before, to_usize(limit)))
    }

    async fn settle_delivery(&self, settlement: DeliverySettlement) -> Result<(), StoreError> {
        self.data()?.settle(settlement);
        Ok(())
    }

    async fn reopen_delivery(&self, id: DeliveryId) -> Result<bool, StoreError> {
        Ok(self.data()?.reopen(id))
    }

    async fn find_move(&self, moved: &RefMove) -> Result<Option<DeliveryId>, StoreError> {
        Ok(self.data()?.find_move(moved))
    }

    async fn last_run(&self) -> Result<u64, StoreError> {
        Ok(self.data()?.last_run())
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let mut data = self.data()?;
        data.check(&commit)?;
        data.write(commit);
        Ok(())
    }

    async fn commit_all(&self, commits: Vec<Commit>) -> Result<(), CommitError> {
        let mut data = self.data()?;
        crate::records::each_run_once(&commits)?;
        for commit in &commits {
            data.check(commit)?;
        }
        for commit in commits {
            data.write(commit);
        }
        Ok(())
    }

    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        Ok(self.data()?.load(run))
    }

    async fn stamp(&self, run: RunId) -> Result<Option<RunStamp>, StoreError> {
        Ok(self.data()?.stamp(run))
    }

    async fn events(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Event)>, StoreError> {
        Ok(self.data()?.events(run, after, to_usize(limit)))
    }

    async fn summary(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        Ok(self.data()?.summary(run))
    }

    async fn active(&self) -> Result<Vec<(RunId, u64)>, StoreError> {
        Ok(self.data()?.active())
    }

    async fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        Ok(self.data()?.runs(filter, to_usize(limit)))
    }

    async fn effects(&self, after: Option<u64>, limit: u32) -> Result<Vec<StoredEffect>, StoreError> {
        Ok(self.data()?.effects(after, to_usize(limit)))
    }

    async fn settle_effects(&self, keys: Vec<EffectKey>) -> Result<(), StoreError> {
        self.data()?.settle_effects(&keys);
        Ok(())
    }

    async fn remember(&self, inputs: Digest, result: AdoptedNode) -> Result<(), StoreError> {
        self.data()?.remember(inputs, result);
        Ok(())
    }

    async fn recall(&self, inputs: &Digest) -> Result<Option<AdoptedNode>, StoreError> {
        Ok(self.data()?.recall(inputs))
    }

    async fn quarantine(&self, run: RunId, reason: String) -> Result<(), StoreError> {
        self.data()?.quarantine(run, reason);
        Ok(())
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.data().map(|_| ())
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

fn to_usize(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
