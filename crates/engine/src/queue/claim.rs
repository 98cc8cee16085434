//! Claims: the locks that a run has or waits for.

use std::{collections::BTreeMap, fmt};

use pipekeeper_model::{
    Name, NodeId, RunId, Timestamp,
    plan::{Lock, LockScope},
};

use crate::{
    Run,
    hold::{HoldState, Party},
};

/// Names a claim: the run and the first node of the hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId {
    /// The run.
    pub run: RunId,
    /// The hold.
    pub hold: NodeId,
}

/// What one hold of a run has or waits for: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which.
    pub id: ClaimId,
    /// The run's project.
    pub project: Name,
    /// The run's pipeline.
    pub pipeline: Name,
    /// The first action of the hold, for people.
    pub action: Name,
    /// The locks.
    pub locks: BTreeMap<LockKey, Share>,
    /// Whether it has them.
    pub state: ClaimState,
    /// Since when.
    pub since: Timestamp,
}

/// Whether a claim has its locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// It waits.
    Waiting,
    /// It has them.
    Held,
}

/// A lock: two projects' locks of one name are two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockKey {
    /// The project whose it is; none if all projects share it.
    pub project: Option<Name>,
    /// Its name.
    pub name: Name,
}

/// How a claim wants a lock to be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How many may hold it at once.
    pub slots: u32,
    /// Whether the newest that waits goes first.
    pub newest_first: bool,
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            Some(_) => write!(f, "`{}`", self.name),
            None => write!(f, "`{}` of the server", self.name),
        }
    }
}

impl Run {
    /// How a hold stands, if it waits or has its locks.
    pub fn hold(&self, hold: NodeId) -> Option<HoldState> {
        self.existing()?.holds.get(hold)
    }

    /// The locks that it has or waits for.
    pub fn claims(&self) -> Vec<Claim> {
        let Some(body) = self.existing() else {
            return Vec::new();
        };
        let claim = |(hold, state): (NodeId, HoldState)| {
            let party = body.index.parties.get(&hold)?;
            let (state, since) = match state {
                HoldState::Waiting { since, .. } => (ClaimState::Waiting, since),
                HoldState::Held { since } => (ClaimState::Held, since),
            };
            Some(Claim {
                id: ClaimId { run: self.id, hold },
                project: body.request.project.clone(),
                pipeline: body.request.plan.pipeline.clone(),
                action: body.request.plan.node(hold)?.action.clone(),
                locks: party.keys(&body.request.project),
                state,
                since,
            })
        };
        body.holds.iter().filter_map(claim).collect()
    }
}

impl Party {
    /// The locks by their keys; where the members differ about one, the fewest slots and the oldest first.
    pub(crate) fn keys(&self, project: &Name) -> BTreeMap<LockKey, Share> {
        let mut keys: BTreeMap<LockKey, Share> = BTreeMap::new();
        for lock in &self.locks {
            let share = Share {
                slots: lock.slots,
                newest_first: lock.newest_first,
            };
            let known = keys.entry(key(lock, project)).or_insert(share);
            known.slots = known.slots.min(share.slots);
            known.newest_first &= share.newest_first;
        }
        keys
    }
}

fn key(lock: &Lock, project: &Name) -> LockKey {
    LockKey {
        project: match lock.scope {
            LockScope::Project => Some(project.clone()),
            LockScope::Server => None,
        },
        name: lock.name.clone(),
    }
}
