//! Whose turn it is.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{Claim, ClaimId, ClaimState, LockKey};

/// The claims that wait and may have their locks now, all of each, in the order in which they are given.
///
/// Who comes first goes first, and whoever wants several locks keeps its place at each: nobody who came later takes a slot
/// that it will want. Where claims want different numbers of slots of one lock, the fewest count.
pub fn turns(claims: &[Claim]) -> Vec<ClaimId> {
    let mut free = slots(claims);
    for claim in claims.iter().filter(|claim| claim.state == ClaimState::Held) {
        take(&mut free, claim);
    }
    let mut given = Vec::new();
    for claim in line(claims) {
        let fits = claim
            .locks
            .keys()
            .all(|key| free.get(key).is_some_and(|left| *left > 0));
        if fits {
            given.push(claim.id);
        }
        // What does not fit keeps its place.
        take(&mut free, claim);
    }
    given
}

/// Those that wait, first come first; claims that want the newest to go first come after all others, the newest first.
pub(super) fn line(claims: &[Claim]) -> Vec<&Claim> {
    let waiting = claims.iter().filter(|claim| claim.state == ClaimState::Waiting);
    let newest =
        |claim: &&Claim| !claim.locks.is_empty() && claim.locks.values().all(|share| share.newest_first);
    let (mut newest, mut oldest): (Vec<&Claim>, Vec<&Claim>) = waiting.partition(newest);
    oldest.sort_by_key(|claim| (claim.since, claim.id));
    newest.sort_by_key(|claim| Reverse((claim.since, claim.id)));
    oldest.extend(newest);
    oldest
}

/// How many slots each lock has.
fn slots(claims: &[Claim]) -> BTreeMap<&LockKey, u32> {
    let mut slots = BTreeMap::new();
    for (key, share) in claims.iter().flat_map(|claim| &claim.locks) {
        let known = slots.entry(key).or_insert(share.slots);
        *known = share.slots.min(*known);
    }
    slots
}

fn take<'c>(free: &mut BTreeMap<&'c LockKey, u32>, claim: &'c Claim) {
    for key in claim.locks.keys() {
        if let Some(left) = free.get_mut(key) {
            *left = left.saturating_sub(1);
        }
    }
}
