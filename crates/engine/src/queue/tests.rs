//! The queue on its own: tables, and many random lines against what must hold of any.

use std::collections::BTreeMap;

use pipekeeper_model::{NodeId, RunId, Timestamp};

use super::*;

fn share(slots: u32) -> Share {
    Share {
        slots,
        newest_first: false,
    }
}

/// `41+ db:1 net:2`: run 41 holds `db` of one slot and `net` of two; `-` waits, `^` wants the newest to go first.
fn claim(text: &str) -> Claim {
    let mut words = text.split(' ');
    let head = words.next().unwrap();
    let (run, sign) = head.split_at(head.len() - 1);
    let run: u64 = run.parse().unwrap();
    let lock = |word: &str| {
        let (name, slots) = word.split_once(':').unwrap();
        let key = LockKey {
            project: Some("mall".parse().unwrap()),
            name: name.parse().unwrap(),
        };
        let share = Share {
            newest_first: sign == "^",
            ..share(slots.parse().unwrap())
        };
        (key, share)
    };
    Claim {
        id: ClaimId {
            run: RunId(run),
            hold: NodeId(0),
        },
        project: "mall".parse().unwrap(),
        pipeline: "web".parse().unwrap(),
        action: "deploy".parse().unwrap(),
        locks: words.map(lock).collect(),
        state: if sign == "+" {
            ClaimState::Held
        } else {
            ClaimState::Waiting
        },
        since: Timestamp(run.try_into().unwrap()),
    }
}

fn given(texts: &[&str]) -> Vec<u64> {
    let claims: Vec<Claim> = texts.iter().map(|text| claim(text)).collect();
    turns(&claims).iter().map(|id| id.run.0).collect()
}

#[test]
fn who_comes_first_goes_first_and_all_slots_are_used() {
    assert_eq!(given(&["3- db:1", "2- db:1"]), [2]);
    assert_eq!(given(&["1+ db:1", "2- db:1"]), [] as [u64; 0]);
    assert_eq!(given(&["1+ db:3", "2- db:3", "3- db:3", "4- db:3"]), [2, 3]);
    assert_eq!(given(&["1- db:1", "2- net:1"]), [1, 2]);
}

#[test]
fn the_newest_goes_first_where_all_want_it_so() {
    assert_eq!(given(&["1^ db:1", "2^ db:1"]), [2]);
    assert_eq!(given(&["1- db:1", "2^ db:1"]), [1]);
    assert_eq!(given(&["3- db:1", "2^ db:1"]), [3]);
}

#[test]
fn the_fewest_slots_count() {
    assert_eq!(given(&["1+ db:3", "2- db:1", "3- db:3"]), [] as [u64; 0]);
    assert_eq!(given(&["2- db:1", "3- db:3"]), [2]);
}

#[test]
fn a_claim_on_several_locks_is_not_overtaken_on_any_of_them() {
    assert_eq!(given(&["1+ net:1", "2- db:1 net:1", "3- db:1"]), [] as [u64; 0]);
    assert_eq!(given(&["1+ net:1", "2- db:2 net:1", "3- db:2", "4- db:2"]), [3]);
    assert_eq!(given(&["2- db:1 net:1", "3- db:1", "4- net:1"]), [2]);
}

#[test]
fn people_are_told_who_is_in_the_way() {
    let claims: Vec<Claim> = ["41+ db:1", "42- db:1", "43- net:1", "44- db:1 net:1"]
        .iter()
        .map(|text| claim(text))
        .collect();
    let ahead = Ahead::of(&claims, claims[3].id).unwrap();
    let held: Vec<(String, u64)> = ahead
        .held
        .iter()
        .map(|(key, claim)| (key.to_string(), claim.id.run.0))
        .collect();
    assert_eq!(held, [("`db`".to_owned(), 41)]);
    assert_eq!(ahead.before, 2);
    assert_eq!(Ahead::of(&claims, claims[0].id), None);
}

/// Small numbers that look random, the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Claims come, are given and end at random: never more holders than slots, and everybody has their turn.
#[test]
fn any_line_moves_until_everybody_had_their_turn() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut claims: Vec<Claim> = Vec::new();
        let mut ended = 0;
        for step in 0..400 {
            let arrives = step < 120 && dice.below(2) == 0;
            if arrives {
                let names = ["a", "b", "c"].iter().filter(|_| dice.below(2) == 0);
                let names: Vec<&str> = names.copied().collect();
                let slots = 1 + dice.below(3);
                let sign = if dice.below(4) == 0 { '^' } else { '-' };
                let locks: Vec<String> = names.iter().map(|name| format!("{name}:{slots}")).collect();
                if !locks.is_empty() {
                    claims.push(claim(&format!("{}{sign} {}", step + 1, locks.join(" "))));
                }
            }
            for id in turns(&claims) {
                let claim = claims.iter_mut().find(|claim| claim.id == id).unwrap();
                claim.state = ClaimState::Held;
            }
            let mut holders: BTreeMap<&LockKey, (u32, u32)> = BTreeMap::new();
            for claim in claims.iter().filter(|claim| claim.state == ClaimState::Held) {
                for (key, share) in &claim.locks {
                    let (count, slots) = holders.entry(key).or_insert((0, share.slots));
                    (*count, *slots) = (*count + 1, share.slots.min(*slots));
                }
            }
            assert!(
                holders.values().all(|(count, slots)| count <= slots),
                "seed {seed}"
            );
            let is_held = |claim: &Claim| claim.state == ClaimState::Held;
            assert!(
                claims.is_empty() || claims.iter().any(is_held),
                "seed {seed}: nobody moves"
            );
            if dice.below(2) == 0
                && let Some(at) = claims.iter().position(is_held)
            {
                claims.remove(at);
                ended += 1;
            }
        }
        assert!(
            claims.is_empty() && ended > 0,
            "seed {seed}: {} are left",
            claims.len()
        );
    }
}
