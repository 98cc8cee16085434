//! The store of a simulation: the memory store behind one slow, unreliable writer.
//!
//! Its data outlives every server. Each write that lands is told to the checker at once.

use std::sync::Arc;

use async_trait::async_trait;
use pipekeeper_engine::{AdoptedNode, EffectKey, Event};
use pipekeeper_model::{Digest, Millis, Name, RunId, Timestamp};
use pipekeeper_store::{
    Accepted, Claim, Claimed, Commit, CommitError, Delivery, DeliveryId, DeliverySettlement, Epoch, Hint,
    Lease, MemoryStore, NewDelivery, RefMove, Refusal, RunFilter, RunStamp, RunSummary, Store, StoreError,
    StoredEffect, StoredRun,
};

use tokio::sync::mpsc;

use super::{
    Bug, Fault, Violation,
    world::{Turn, World},
};

/// The store as one server sees it.
#[derive(Clone)]
pub(crate) struct SimStore {
    inner: MemoryStore,
    world: Arc<World>,
    /// Whose it is, unless it is a user's.
    server: Option<usize>,
    /// As whose holder it writes.
    epoch: Option<Epoch>,
}

impl SimStore {
    /// As what users ask comes to it.
    pub(crate) fn of_users(inner: MemoryStore, world: &Arc<World>) -> Self {
        Self {
            inner,
            world: Arc::clone(world),
            server: None,
            epoch: None,
        }
    }

    /// As a server sees it.
    pub(crate) fn of(inner: MemoryStore, world: &Arc<World>, server: usize) -> Self {
        Self {
            server: Some(server),
            ..Self::of_users(inner, world)
        }
    }

    /// Waits for its turn to write.
    async fn my_turn(&self, turn: &Turn) -> Result<(), StoreError> {
        if !turn.come().await {
            return Err(unavailable("the store gave it up"));
        }
        if self.world.is_disk_full() {
            self.world.hit(&Fault::DiskFull.name());
            return Err(unavailable("the disk is full"));
        }
        fence(&self.world, self.epoch)
    }

    async fn read(&self) -> Result<(), StoreError> {
        self.world.pause().await;
        if self.world.strikes(Fault::StoreIsSlow) {
            self.world.sleep(Millis(self.world.between(500, 20_000))).await;
        }
        self.fails()
    }

    fn fails(&self) -> Result<(), StoreError> {
        if self.world.strikes(Fault::StoreFails) {
            self.world.trace(|| "store: a call fails".to_owned());
            return Err(unavailable("it fails"));
        }
        Ok(())
    }

    /// Makes one write in its turn.
    async fn write<T>(&self, write: impl Future<Output = T> + Send) -> Result<T, StoreError> {
        let turn = self.world.enter(self.server);
        self.read().await?;
        self.my_turn(&turn).await?;
        let written = write.await;
        drop(turn);
        self.reply().await?;
        Ok(written)
    }

    async fn reply(&self) -> Result<(), StoreError> {
        self.world.pause().await;
        if self.world.strikes(Fault::StoreLosesReply) {
            self.world.trace(|| "store: a reply is lost".to_owned());
            return Err(unavailable("its reply is lost"));
        }
        Ok(())
    }

    async fn commit_in_turn(&self, commits: Vec<Commit>) -> Result<(), CommitError> {
        let turn = self.world.enter(self.server);
        let mut late = LateWrite {
            store: self.clone(),
            commits,
        };
        self.read().await?;
        self.my_turn(&turn).await?;
        let commits = std::mem::take(&mut late.commits);
        if self.world.has_bug(Bug::EffectBeforeCommit) {
            let store = self.clone();
            self.world.spawner.spawn(async move {
                // The place in the queue keeps later writes behind this one.
                store.world.sleep(Millis(2_000)).await;
                drop(store.land(commits).await);
                drop(turn);
            });
            return Ok(());
        }
        let landed = self.land(commits).await;
        drop(turn);
        self.reply().await?;
        landed
    }
}

/// A write that its server did not live to see.
struct LateWrite {
    store: SimStore,
    commits: Vec<Commit>,
}

impl Drop for LateWrite {
    fn drop(&mut self) {
        let lives = |server| self.store.world.handle_of(server).is_some();
        let is_lost = self.commits.is_empty() || self.store.server.is_some_and(lives);
        if is_lost || !self.store.world.strikes_often(Fault::LateWrite) {
            return;
        }
        let commits = std::mem::take(&mut self.commits);
        let store = self.store.clone();
        let world = Arc::clone(&store.world);
        self.store.world.spawner.spawn(async move {
            world.sleep(Millis(world.between(0, 30_000))).await;
            let turn = world.enter(None);
            turn.come().await;
            let landed = match fence(&world, store.epoch) {
                Ok(()) => store.land(commits).await,
                Err(fenced) => Err(fenced.into()),
            };
            world.trace(|| format!("store: a dead server's write lands: {landed:?}"));
        });
    }
}

/// Refuses what an earlier holder of the lease writes, in its turn.
fn fence(world: &World, epoch: Option<Epoch>) -> Result<(), StoreError> {
    let Some(epoch) = epoch else { return Ok(()) };
    let present = world.lease(|row| row.epoch);
    if epoch == present {
        return Ok(());
    }
    world.hit("guard I8 an old holder is refused");
    if world.has_bug(Bug::EpochUnchecked) {
        let text = format!("the holder of the lease {epoch} wrote when it was at {present}");
        world.violate(Violation {
            invariant: "I8",
            text,
        });
        return Ok(());
    }
    Err(StoreError::Fenced)
}

impl SimStore {
    /// Writes commits and tells the checker what was written.
    async fn land(&self, mut commits: Vec<Commit>) -> Result<(), CommitError> {
        let (store, world) = (&self.inner, &self.world);
        if world.has_bug(Bug::LostCompare) {
            for commit in &mut commits {
                if commit.expected > 0
                    && let Some(stored) = store.load(commit.summary.id).await?
                {
                    commit.expected = stored.version;
                }
            }
        }
        let told = commits.clone();
        if world.has_bug(Bug::OutboxRowDropped) {
            for commit in &mut commits {
                commit.effects.clear();
            }
        }
        if world.has_bug(Bug::DeliveryWithoutRuns)
            && let [only] = commits.as_slice()
            && let Some(settlement) = only.delivery.clone()
            && world.between(0, 3) == 0
        {
            store.settle_delivery(settlement).await?;
            world.check(|ledger| ledger.settled_delivery(&told));
            return Ok(());
        }
        store.commit_all(commits).await?;
        world.trace(|| {
            let line = |commit: &Commit| {
                let facts: Vec<String> = commit.events.iter().map(brief).collect();
                format!("r{}@{}: {}", commit.summary.id, commit.expected, facts.join(", "))
            };
            format!("commit {}", told.iter().map(line).collect::<Vec<_>>().join(" + "))
        });
        world.check(|ledger| {
            for commit in &told {
                ledger.committed(commit);
            }
            ledger.settled_delivery(&told);
        });
        for commit in &told {
            let added = u64::try_from(commit.events.len()).unwrap_or(u64::MAX);
            let hint = Hint::Run {
                run: commit.summary.id,
                version: commit.expected + added,
                added,
            };
            if world.tell(self.server, hint) {
                world.hit("guard I8 told others");
            }
        }
        Ok(())
    }
}

/// A fact in a few words.
fn brief(event: &Event) -> String {
    let text = format!("{:?}", event.fact);
    let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
    match event.fact.node() {
        Some(node) => format!("{name}(n{})", node.0),
        None => name,
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable {
        reason: reason.to_owned(),
    }
}

#[async_trait]
impl Store for SimStore {
    async fn accept_delivery(&self, delivery: NewDelivery) -> Result<Accepted, StoreError> {
        let accepted = self.write(self.inner.accept_delivery(delivery)).await?;
        self.world.tell(self.server, Hint::Delivery);
        accepted
    }

    async fn note_refusal(&self, refusal: Refusal) -> Result<(), StoreError> {
        self.inner.note_refusal(refusal).await
    }

    async fn refusals(&self, project: &Name) -> Result<Vec<Refusal>, StoreError> {
        self.inner.refusals(project).await
    }

    async fn pending_deliveries(
        &self,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.read().await?;
        let found = self.inner.pending_deliveries(after, limit).await;
        self.world.pause().await;
        found
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.inner.delivery(id).await
    }

    async fn deliveries(
        &self,
        project: Option<&Name>,
        before: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError> {
        self.inner.deliveries(project, before, limit).await
    }

    async fn settle_delivery(&self, settlement: DeliverySettlement) -> Result<(), StoreError> {
        self.write(self.inner.settle_delivery(settlement)).await?
    }

    async fn reopen_delivery(&self, id: DeliveryId) -> Result<bool, StoreError> {
        self.inner.reopen_delivery(id).await
    }

    async fn find_move(&self, moved: &RefMove) -> Result<Option<DeliveryId>, StoreError> {
        self.inner.find_move(moved).await
    }

    async fn last_run(&self) -> Result<u64, StoreError> {
        self.read().await?;
        self.inner.last_run().await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.commit_in_turn(vec![commit]).await
    }

    async fn commit_all(&self, commits: Vec<Commit>) -> Result<(), CommitError> {
        self.commit_in_turn(commits).await
    }

    async fn load(&self, run: RunId) -> Result<Option<StoredRun>, StoreError> {
        self.read().await?;
        let stored = self.inner.load(run).await?;
        self.world.check(|ledger| ledger.loaded(run, stored.as_ref()));
        self.world.pause().await;
        Ok(stored)
    }

    async fn stamp(&self, run: RunId) -> Result<Option<RunStamp>, StoreError> {
        self.inner.stamp(run).await
    }

    async fn events(&self, run: RunId, after: u64, limit: u32) -> Result<Vec<(u64, Event)>, StoreError> {
        self.inner.events(run, after, limit).await
    }

    async fn summary(&self, run: RunId) -> Result<Option<RunSummary>, StoreError> {
        self.inner.summary(run).await
    }

    async fn active(&self) -> Result<Vec<(RunId, u64)>, StoreError> {
        self.read().await?;
        self.inner.active().await
    }

    async fn runs(&self, filter: &RunFilter, limit: u32) -> Result<Vec<RunSummary>, StoreError> {
        self.read().await?;
        let runs = self.inner.runs(filter, limit).await;
        self.world.pause().await;
        runs
    }

    async fn effects(&self, after: Option<u64>, limit: u32) -> Result<Vec<StoredEffect>, StoreError> {
        self.read().await?;
        if self.world.has_bug(Bug::EffectsForgotten) {
            return Ok(Vec::new());
        }
        let effects = self.inner.effects(after, limit).await;
        self.world.pause().await;
        effects
    }

    async fn settle_effects(&self, keys: Vec<EffectKey>) -> Result<(), StoreError> {
        self.write(self.inner.settle_effects(keys)).await?
    }

    async fn remember(&self, inputs: Digest, result: AdoptedNode) -> Result<(), StoreError> {
        self.write(self.inner.remember(inputs, result)).await?
    }

    async fn recall(&self, inputs: &Digest) -> Result<Option<AdoptedNode>, StoreError> {
        self.read().await?;
        let found = if self.world.has_bug(Bug::OtherInputsReused) {
            Ok(self
                .inner
                .successes()
                .into_iter()
                .next()
                .map(|(_, result)| result))
        } else {
            self.inner.recall(inputs).await
        };
        self.world.pause().await;
        found
    }

    async fn quarantine(&self, run: RunId, reason: String) -> Result<(), StoreError> {
        self.world.check(|ledger| ledger.quarantined(run, &reason));
        self.inner.quarantine(run, reason).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.inner.check().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Lease for SimStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let (world, server) = (Arc::clone(&self.world), self.server);
        self.write(async move {
            let now = world.now();
            let claimed = world.lease(|row| {
                let has_run_out = row.renewed_at + claim.length <= now;
                match claim.held {
                    Some(held) if held == row.epoch => {}
                    None if has_run_out => row.epoch = Epoch(row.epoch.0 + 1),
                    Some(_) | None => {
                        let holder = "another".to_owned();
                        return Claimed::Other { holder };
                    }
                }
                row.renewed_at = now;
                Claimed::Held(row.epoch)
            });
            world.trace(|| format!("store: server {server:?} claims ({:?}): {claimed:?}", claim.held));
            claimed
        })
        .await
    }

    async fn release(&self, epoch: Epoch) -> Result<(), StoreError> {
        let world = Arc::clone(&self.world);
        self.write(async move {
            world.lease(|row| {
                if row.epoch == epoch {
                    row.renewed_at = Timestamp(0);
                }
            });
        })
        .await
    }

    fn fenced(&self, epoch: Epoch) -> Arc<dyn Store> {
        Arc::new(Self {
            epoch: Some(epoch),
            ..self.clone()
        })
    }

    fn hints(&self) -> mpsc::Receiver<Hint> {
        let heard = self.world.listen(self.server.unwrap_or_default());
        let (world, server) = (Arc::clone(&self.world), self.server);
        let spawner = world.spawner.clone();
        spawner.spawn(async move {
            while server.is_some_and(|server| world.remind(server)) {
                world.sleep(Millis::seconds(30)).await;
            }
        });
        heard
    }
}
