//! What ended runs of a [`MemoryStore`] left.

use std::{collections::BTreeSet, ops::Bound};

use async_trait::async_trait;
use pipekeeper_model::{Name, RunId, Timestamp};

use crate::{
    DeliveryId, Estate, Estates, Gone, Left, Loss, MemoryStore, Part, RecordKind, StoreError, StoredEstate,
};

use super::{data::Data, to_usize};

#[derive(Clone, Debug)]
pub(super) struct Kept {
    left: Left,
    logs_gone: Option<Gone>,
    artifacts_gone: Option<Gone>,
}

#[async_trait]
impl Estates for MemoryStore {
    async fn unfinished(&self) -> Result<Vec<RunId>, StoreError> {
        let data = self.data()?;
        let open = data.runs.iter().filter(|(_, run)| run.summary.outcome.is_none());
        Ok(open.map(|(id, _)| *id).collect())
    }

    async fn without_estate(&self, after: Option<RunId>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let data = self.data()?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ended = (data.runs.range((start, Bound::Unbounded)))
            .filter(|(id, run)| run.summary.outcome.is_some() && !data.estates.contains_key(id));
        Ok(ended.map(|(id, _)| *id).take(to_usize(limit)).collect())
    }

    async fn keep_estates(&self, estates: Vec<Estate>) -> Result<(), StoreError> {
        let mut data = self.data()?;
        for Estate { run, left } in estates {
            if data
                .runs
                .get(&run)
                .is_some_and(|run| run.summary.outcome.is_some())
            {
                data.estates.entry(run).or_insert(Kept {
                    left,
                    logs_gone: None,
                    artifacts_gone: None,
                });
            }
        }
        Ok(())
    }

    async fn estates(&self, before: Option<RunId>, limit: u32) -> Result<Vec<StoredEstate>, StoreError> {
        let data = self.data()?;
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = data.estates.range((Bound::Unbounded, end)).rev();
        let stored = newest_first.filter_map(|(run, _)| data.estate(*run));
        Ok(stored.take(to_usize(limit)).collect())
    }

    async fn estate(&self, run: RunId) -> Result<Option<StoredEstate>, StoreError> {
        Ok(self.data()?.estate(run))
    }

    async fn give_up(&self, losses: Vec<Loss>) -> Result<(), StoreError> {
        let mut data = self.data()?;
        for Loss { run, part, gone } in losses {
            if data.is_kept(run) {
                continue;
            }
            let Some(kept) = data.estates.get_mut(&run) else {
                continue;
            };
            match part {
                Part::Logs => kept.logs_gone.get_or_insert(gone),
                Part::Artifacts => kept.artifacts_gone.get_or_insert(gone),
            };
            match part {
                Part::Logs => {}
                Part::Artifacts => data.successes.retain(|_, success| success.attempt.run != run),
            }
        }
        Ok(())
    }

    async fn remove_runs(&self, runs: Vec<RunId>) -> Result<u64, StoreError> {
        Ok(self.data()?.remove_runs(&runs))
    }

    async fn remove_deliveries(
        &self,
        project: &Name,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        Ok(self.data()?.remove_deliveries(project, before, to_usize(limit)))
    }
}

impl Data {
    fn estate(&self, run: RunId) -> Option<StoredEstate> {
        let Kept {
            left,
            logs_gone,
            artifacts_gone,
        } = self.estates.get(&run)?.clone();
        Some(StoredEstate {
            run: self.summary(run)?,
            left,
            logs_gone,
            artifacts_gone,
        })
    }

    /// Whether somebody keeps a run.
    fn is_kept(&self, run: RunId) -> bool {
        self.records.has(RecordKind::KeptRun, &run.to_string())
    }

    fn remove_runs(&mut self, runs: &[RunId]) -> u64 {
        let newest = self.last_run();
        let mut removed = 0;
        for run in runs {
            let ended = self
                .runs
                .get(run)
                .is_some_and(|run| run.summary.outcome.is_some());
            let waits = self.effects.values().any(|effect| effect.run == *run);
            if ended && !waits && run.0 < newest && !self.is_kept(*run) {
                self.runs.remove(run);
                self.estates.remove(run);
                self.successes.retain(|_, success| success.attempt.run != *run);
                removed += 1;
            }
        }
        removed
    }

    fn remove_deliveries(&mut self, project: &Name, before: Timestamp, limit: usize) -> u64 {
        let newest_moves: BTreeSet<DeliveryId> = (self.moves.values())
            .filter_map(|entries| entries.last().map(|entry| entry.delivery))
            .collect();
        let old = self.deliveries.values().filter(|delivery| {
            delivery.outcome.is_some()
                && delivery.received.project == *project
                && delivery.received.received_at < before
                && !newest_moves.contains(&delivery.id)
        });
        let old: BTreeSet<DeliveryId> = old.map(|delivery| delivery.id).take(limit).collect();
        self.deliveries.retain(|id, _| !old.contains(id));
        self.by_forge_id.retain(|_, id| !old.contains(id));
        for entries in self.moves.values_mut() {
            entries.retain(|entry| !old.contains(&entry.delivery));
        }
        u64::try_from(old.len()).unwrap_or(u64::MAX)
    }
}
