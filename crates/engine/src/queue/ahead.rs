//! Locks for people: what is in use, and what stands before a claim that waits. Entry points: [`InUse::all`], [`Ahead::of`].

use std::collections::BTreeMap;

use super::{Claim, ClaimId, ClaimState, LockKey, turns::line};

/// A lock that somebody has or waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse<'c> {
    /// The lock.
    pub key: &'c LockKey,
    /// How many may hold it at once.
    pub slots: u32,
    /// Who has it, the longest first.
    pub holders: Vec<&'c Claim>,
    /// Who waits for it, in the order in which they get it.
    pub waiting: Vec<&'c Claim>,
}

impl<'c> InUse<'c> {
    /// Every lock in use.
    pub fn all(claims: &'c [Claim]) -> Vec<Self> {
        let mut holders: Vec<&Claim> = claims
            .iter()
            .filter(|claim| claim.state == ClaimState::Held)
            .collect();
        holders.sort_by_key(|claim| (claim.since, claim.id));
        let mut all: BTreeMap<&LockKey, Self> = BTreeMap::new();
        for claim in holders.into_iter().chain(line(claims)) {
            for (key, share) in &claim.locks {
                let lock = all.entry(key).or_insert_with(|| Self {
                    key,
                    slots: share.slots,
                    holders: Vec::new(),
                    waiting: Vec::new(),
                });
                lock.slots = lock.slots.min(share.slots);
                match claim.state {
                    ClaimState::Held => lock.holders.push(claim),
                    ClaimState::Waiting => lock.waiting.push(claim),
                }
            }
        }
        all.into_values().collect()
    }
}

/// What a claim waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead<'c> {
    /// Each of its locks that others hold, with the one that has held it longest.
    pub held: Vec<(&'c LockKey, &'c Claim)>,
    /// How many wait for one of its locks and go first.
    pub before: usize,
}

impl<'c> Ahead<'c> {
    /// What stands before this claim; none if it does not wait.
    pub fn of(claims: &'c [Claim], id: ClaimId) -> Option<Self> {
        let line = line(claims);
        let place = line.iter().position(|claim| claim.id == id)?;
        let claim = *line.get(place)?;
        let shares = |other: &&&Claim| other.locks.keys().any(|key| claim.locks.contains_key(key));
        let holder = |key: &&'c LockKey| {
            let mut holders: Vec<&Claim> = claims
                .iter()
                .filter(|other| other.state == ClaimState::Held && other.locks.contains_key(*key))
                .collect();
            holders.sort_by_key(|holder| holder.since);
            holders.first().copied()
        };
        Some(Self {
            held: claim
                .locks
                .keys()
                .filter_map(|key| Some((key, holder(&key)?)))
                .collect(),
            before: line.iter().take(place).filter(shares).count(),
        })
    }
}
