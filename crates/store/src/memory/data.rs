//! The data of a [`MemoryStore`](super::MemoryStore): plain values behind its lock.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map, hash_map},
    ops::Bound,
};

use pipekeeper_engine::{AdoptedNode, EffectKey, Event, Snapshot};
use pipekeeper_model::{Digest, GitRef, Name, RunId, Sha};

use crate::{
    Accepted, Commit, CommitError, Delivery, DeliveryId, DeliverySettlement, NewDelivery, RefMove, Refusal,
    RunFilter, RunStamp, RunSummary, StoredEffect, StoredRun, records::REFUSALS_KEPT,
};

use super::{estates::Kept, registry::Records};

#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) deliveries: BTreeMap<DeliveryId, Delivery>,
    pending: BTreeSet<DeliveryId>,
    pub(super) by_forge_id: HashMap<(Name, String), DeliveryId>,
    refusals: BTreeMap<Name, VecDeque<Refusal>>,
    pub(super) moves: HashMap<(Name, GitRef), Vec<LedgerEntry>>,
    pub(super) runs: BTreeMap<RunId, RunData>,
    pub(super) effects: BTreeMap<u64, StoredEffect>,
    effect_keys: HashMap<EffectKey, u64>,
    last_effect: u64,
    /// The last run of a store before this one.
    last_run_before: u64,
    pub(super) successes: BTreeMap<Digest, AdoptedNode>,
    pub(super) estates: BTreeMap<RunId, Kept>,
    pub(super) records: Records,
}

#[derive(Debug)]
pub(super) struct LedgerEntry {
    before: Option<Sha>,
    after: Option<Sha>,
    pub(super) delivery: DeliveryId,
}

#[derive(Debug)]
pub(super) struct RunData {
    pub(super) summary: RunSummary,
    events: Vec<Event>,
    snapshot: Option<(usize, Snapshot)>,
    quarantined: Option<String>,
}

impl Data {
    pub(super) fn after(last: u64, successes: impl IntoIterator<Item = (Digest, AdoptedNode)>) -> Self {
        let mut data = Self {
            last_run_before: last,
            ..Self::default()
        };
        for (inputs, result) in successes {
            data.remember(inputs, result);
        }
        data
    }

    pub(super) fn accept(&mut self, received: NewDelivery) -> Accepted {
        let key = (received.project.clone(), received.forge_id.clone());
        if let Some(known) = self.by_forge_id.get(&key) {
            return Accepted::Duplicate(*known);
        }
        let id = DeliveryId(self.deliveries.last_key_value().map_or(0, |(last, _)| last.0) + 1);
        self.by_forge_id.insert(key, id);
        self.pending.insert(id);
        let outcome = None;
        self.deliveries.insert(
            id,
            Delivery {
                id,
                received,
                outcome,
            },
        );
        Accepted::New(id)
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        let kept = self.refusals.entry(refusal.project.clone()).or_default();
        kept.push_front(refusal);
        kept.truncate(REFUSALS_KEPT);
    }

    pub(super) fn refusals(&self, project: &Name) -> Vec<Refusal> {
        self.refusals
            .get(project)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    pub(super) fn pending(&self, after: Option<DeliveryId>, limit: usize) -> Vec<Delivery> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.pending.range((start, Bound::Unbounded));
        ids.filter_map(|id| self.deliveries.get(id))
            .take(limit)
            .map(without_body)
            .collect()
    }

    pub(super) fn delivery(&self, id: DeliveryId) -> Option<&Delivery> {
        self.deliveries.get(&id)
    }

    pub(super) fn deliveries(
        &self,
        project: Option<&Name>,
        before: Option<DeliveryId>,
        limit: usize,
    ) -> Vec<Delivery> {
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self
            .deliveries
            .range((Bound::Unbounded, end))
            .rev()
            .map(|(_, delivery)| delivery);
        all.filter(|delivery| project.is_none_or(|project| delivery.received.project == *project))
            .take(limit)
            .map(without_body)
            .collect()
    }

    pub(super) fn settle(&mut self, settlement: DeliverySettlement) {
        let DeliverySettlement {
            delivery,
            outcome,
            moved,
        } = settlement;
        if !self.pending.remove(&delivery) {
            return;
        }
        if let Some(stored) = self.deliveries.get_mut(&delivery) {
            stored.outcome = Some(outcome);
        }
        if let Some(moved) = moved {
            let RefMove {
                project,
                git_ref,
                before,
                after,
            } = moved;
            self.moves
                .entry((project, git_ref))
                .or_default()
                .push(LedgerEntry {
                    before,
                    after,
                    delivery,
                });
        }
    }

    pub(super) fn reopen(&mut self, id: DeliveryId) -> bool {
        let taken = self
            .deliveries
            .get_mut(&id)
            .and_then(|delivery| delivery.outcome.take());
        if taken.is_none() {
            return false;
        }
        self.pending.insert(id);
        for entries in self.moves.values_mut() {
            entries.retain(|entry| entry.delivery != id);
        }
        true
    }

    pub(super) fn find_move(&self, moved: &RefMove) -> Option<DeliveryId> {
        let entries = self.moves.get(&(moved.project.clone(), moved.git_ref.clone()))?;
        // Newest first: an entry back to `before` that is met before the same move makes this a new one.
        for entry in entries.iter().rev() {
            if entry.before == moved.before && entry.after == moved.after {
                return Some(entry.delivery);
            }
            if entry.after == moved.before {
                return None;
            }
        }
        None
    }

    pub(super) fn last_run(&self) -> u64 {
        self.runs
            .last_key_value()
            .map_or(self.last_run_before, |(id, _)| id.0)
    }

    /// Whether the commit may be written.
    pub(super) fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let run = commit.summary.id;
        let stored = self.runs.get(&run);
        let at_version = match stored {
            Some(stored) => commit.expected > 0 && stored.version() == commit.expected,
            None => {
                let newest = self.runs.last_key_value().map(|(newest, _)| *newest);
                commit.expected == 0 && newest < Some(run)
            }
        };
        if !at_version {
            let expected = commit.expected;
            return Err(CommitError::Conflict { run: run.0, expected });
        }
        let outcome = stored.and_then(|stored| stored.summary.outcome);
        if outcome.is_some() && (!commit.events.is_empty() || commit.summary.outcome != outcome) {
            return Err(CommitError::Finished { run: run.0 });
        }
        match &commit.delivery {
            Some(settlement) if !self.pending.contains(&settlement.delivery) => {
                let delivery = settlement.delivery.0;
                Err(CommitError::NotPending { delivery })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Writes a commit that was checked.
    pub(super) fn write(&mut self, commit: Commit) {
        let id = commit.summary.id;
        let run = match self.runs.entry(id) {
            btree_map::Entry::Occupied(stored) => {
                let run = stored.into_mut();
                run.update(commit.summary);
                run
            }
            btree_map::Entry::Vacant(place) => place.insert(RunData {
                summary: commit.summary,
                events: Vec::new(),
                snapshot: None,
                quarantined: None,
            }),
        };
        run.events.extend(commit.events);
        if let Some(snapshot) = commit.snapshot {
            run.snapshot = Some((run.events.len(), snapshot));
        }
        self.settle_effects(&commit.settled);
        for effect in commit.effects {
            let sequence = self.last_effect + 1;
            if let hash_map::Entry::Vacant(place) = self.effect_keys.entry(effect.key()) {
                place.insert(sequence);
                self.last_effect = sequence;
                self.effects.insert(
                    sequence,
                    StoredEffect {
                        run: id,
                        sequence,
                        effect,
                    },
                );
            }
        }
        if let Some(settlement) = commit.delivery {
            self.settle(settlement);
        }
    }

    pub(super) fn stamp(&self, run: RunId) -> Option<RunStamp> {
        let run = self.runs.get(&run)?;
        Some(RunStamp {
            version: run.version(),
            quarantined: run.quarantined.clone(),
        })
    }

    pub(super) fn load(&self, run: RunId) -> Option<StoredRun> {
        let run = self.runs.get(&run)?;
        let start = run.snapshot.as_ref().map_or(0, |(version, _)| *version);
        Some(StoredRun {
            snapshot: run.snapshot.as_ref().map(|(_, snapshot)| snapshot.clone()),
            tail: run.events.iter().skip(start).cloned().collect(),
            version: run.version(),
            quarantined: run.quarantined.clone(),
        })
    }

    pub(super) fn events(&self, run: RunId, after: u64, limit: usize) -> Vec<(u64, Event)> {
        let events = self.runs.get(&run).into_iter().flat_map(|run| &run.events);
        (1_u64..)
            .zip(events)
            .skip(usize::try_from(after).unwrap_or(usize::MAX))
            .take(limit)
            .map(|(number, event)| (number, event.clone()))
            .collect()
    }

    pub(super) fn summary(&self, run: RunId) -> Option<RunSummary> {
        self.runs.get(&run).map(|run| run.summary.clone())
    }

    pub(super) fn active(&self) -> Vec<(RunId, u64)> {
        let open = |run: &RunData| run.quarantined.is_none() && run.summary.outcome.is_none();
        let active = self.runs.iter().filter(|(_, run)| open(run));
        active.map(|(id, run)| (*id, run.version())).collect()
    }

    pub(super) fn runs(&self, filter: &RunFilter, limit: usize) -> Vec<RunSummary> {
        let end = filter.before.map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = self.runs.range((Bound::Unbounded, end)).rev().map(|(_, run)| run);
        newest_first
            .filter(|run| !filter.active || run.quarantined.is_none())
            .map(|run| &run.summary)
            .filter(|summary| matches(filter, summary))
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn effects(&self, after: Option<u64>, limit: usize) -> Vec<StoredEffect> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.effects
            .range((start, Bound::Unbounded))
            .map(|(_, effect)| effect)
            .filter(|effect| {
                let run = self.runs.get(&effect.run);
                run.is_some_and(|run| run.quarantined.is_none())
            })
            .take(limit)
            .cloned()
            .collect()
    }

    pub(super) fn settle_effects(&mut self, keys: &[EffectKey]) {
        for key in keys {
            if let Some(sequence) = self.effect_keys.remove(key) {
                self.effects.remove(&sequence);
            }
        }
    }

    pub(super) fn remember(&mut self, inputs: Digest, result: AdoptedNode) {
        let known = self.successes.get(&inputs);
        if known.is_none_or(|known| known.attempt.run <= result.attempt.run) {
            self.successes.insert(inputs, result);
        }
    }

    pub(super) fn recall(&self, inputs: &Digest) -> Option<AdoptedNode> {
        self.successes.get(inputs).cloned()
    }

    pub(super) fn successes(&self) -> Vec<(Digest, AdoptedNode)> {
        let kept = self.successes.iter();
        kept.map(|(inputs, result)| (inputs.clone(), result.clone()))
            .collect()
    }

    pub(super) fn quarantine(&mut self, run: RunId, reason: String) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.quarantined.get_or_insert(reason);
        }
    }
}

impl RunData {
    fn update(&mut self, newer: RunSummary) {
        self.summary.finished_at = newer.finished_at;
        self.summary.outcome = newer.outcome;
        self.summary.phase = newer.phase;
        self.summary.needs_person = newer.needs_person;
        self.summary.next_deadline = newer.next_deadline;
    }

    fn version(&self) -> u64 {
        u64::try_from(self.events.len()).unwrap_or(u64::MAX)
    }
}

fn matches(filter: &RunFilter, summary: &RunSummary) -> bool {
    let RunFilter {
        projects,
        pipeline,
        sha,
        active,
        group,
        before: _,
    } = filter;
    projects
        .as_ref()
        .is_none_or(|projects| projects.contains(&summary.project))
        && pipeline
            .as_ref()
            .is_none_or(|pipeline| summary.pipeline == *pipeline)
        && (sha.is_none() || summary.sha == *sha)
        && (group.is_none() || summary.group == *group)
        && (!active || summary.outcome.is_none())
}

fn without_body(delivery: &Delivery) -> Delivery {
    let received = &delivery.received;
    Delivery {
        id: delivery.id,
        received: NewDelivery {
            project: received.project.clone(),
            forge_id: received.forge_id.clone(),
            event: received.event.clone(),
            received_at: received.received_at,
            body: Vec::new(),
        },
        outcome: delivery.outcome.clone(),
    }
}
