//! Locks as one run sees them: asked for, taken, given back.

use pipekeeper_model::{
    AttemptOutcome::*,
    Millis, NodeId, Outcome,
    plan::{Body, Lock, LockScope, Node, Sync},
};

use super::fixture::*;
use crate::{ClaimState, Effect, Input, Rejection, Run, Snapshot, Verdict, explain};

/// The same node with a lock, in the hold of the node of this index.
fn locked(hold: u32, name: &str, node: Node) -> Node {
    let lock = Lock {
        name: name.parse().unwrap(),
        slots: 1,
        newest_first: false,
        yields_at_gate: false,
        scope: LockScope::Project,
    };
    let mut locks = node.locks.clone();
    locks.push(lock);
    Node {
        locks,
        hold: Some(NodeId(hold)),
        ..node
    }
}

fn yielding(mut node: Node) -> Node {
    for lock in &mut node.locks {
        lock.yields_at_gate = true;
    }
    node
}

fn give(run: &mut Driven, hold: u32) -> Result<(), Rejection> {
    run.give(Input::LocksGiven { hold: NodeId(hold) })
}

/// What the run has (`+`) or waits for (`?`), by the numbers of its holds.
fn claims(run: &Driven) -> String {
    let one = |claim: &crate::Claim| {
        let sign = match claim.state {
            ClaimState::Waiting => '?',
            ClaimState::Held => '+',
        };
        let names: Vec<&str> = claim.locks.keys().map(|key| key.name.as_str()).collect();
        format!("{sign}{}:{}", claim.id.hold.0, names.join(","))
    };
    let claims: Vec<String> = run.run.claims().iter().map(one).collect();
    claims.join(" ")
}

#[test]
fn a_locked_action_starts_when_it_has_its_lock_and_gives_it_back_at_its_end() {
    let mut run = Driven::plan(vec![locked(0, "db", node("a", &[])), node("b", &[0])]);
    assert_eq!((run.word("a"), run.launches()), ("ready", 0));
    assert_eq!(claims(&run), "?0:db");
    assert!(run.run.is_parked(), "whoever waits for locks needs no memory");
    assert_eq!(
        explain(&run.run, run.id("a")).to_string(),
        "waits for the lock `db`"
    );
    let asked = |effect: &Effect| matches!(effect, Effect::AwaitLocks { hold: NodeId(0), .. });
    assert!(run.effects.iter().any(asked));
    give(&mut run, 0).unwrap();
    assert_eq!((run.word("a"), claims(&run)), ("launching", "+0:db".to_owned()));
    assert_eq!(give(&mut run, 0), Err(Rejection::Duplicate));
    run.end("a", Succeeded);
    assert_eq!((run.word("b"), claims(&run)), ("launching", String::new()));
    assert!(matches!(give(&mut run, 0), Err(Rejection::Stale { .. })));
}

#[test]
fn a_group_takes_the_locks_of_everything_inside_at_once_and_keeps_them_to_its_last_end() {
    let mut run = Driven::plan(vec![
        locked(0, "db", node("a", &[])),
        locked(0, "net", locked(0, "db", node("b", &[0]))),
    ]);
    assert_eq!(claims(&run), "?0:db,net");
    give(&mut run, 0).unwrap();
    run.end("a", Succeeded);
    assert_eq!(
        (run.word("b"), claims(&run)),
        ("launching", "+0:db,net".to_owned())
    );
    run.end("b", Failed);
    assert_eq!(
        (claims(&run), run.outcome()),
        (String::new(), Some(Outcome::Failed))
    );
}

#[test]
fn locks_are_kept_between_tries_and_while_a_gate_inside_waits() {
    let mut run = Driven::plan(vec![
        retried(2, locked(0, "db", node("a", &[]))),
        locked(0, "db", gate("ok", &[0], 1)),
        locked(0, "db", node("b", &[1])),
    ]);
    give(&mut run, 0).unwrap();
    run.end("a", Failed);
    assert_eq!(
        (run.word("a"), claims(&run)),
        ("waiting to retry", "+0:db".to_owned())
    );
    run.pass_deadline();
    run.end("a", Succeeded);
    assert_eq!(
        (run.word("ok"), claims(&run)),
        ("awaiting approval", "+0:db".to_owned())
    );
    run.decide_gate("ok", Verdict::Approve).unwrap();
    run.end("b", Succeeded);
    assert_eq!(claims(&run), "");
}

#[test]
fn a_gate_that_yields_gives_locks_back_and_what_follows_takes_them_again() {
    let mut run = Driven::plan(vec![
        yielding(locked(0, "db", node("a", &[]))),
        yielding(locked(0, "db", gate("ok", &[0], 1))),
        yielding(locked(0, "db", node("b", &[1]))),
    ]);
    give(&mut run, 0).unwrap();
    run.end("a", Succeeded);
    assert_eq!(
        (run.word("ok"), claims(&run)),
        ("awaiting approval", String::new())
    );
    run.now = run.now + Millis::seconds(1);
    run.decide_gate("ok", Verdict::Approve).unwrap();
    assert_eq!((run.word("b"), claims(&run)), ("ready", "?0:db".to_owned()));
    let keys: std::collections::BTreeSet<_> = run.effects.iter().map(Effect::key).collect();
    assert_eq!(keys.len(), run.effects.len(), "keys of effects are unique");
    give(&mut run, 0).unwrap();
    run.end("b", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_gate_in_front_of_a_locked_group_opens_with_the_lock_or_without_as_the_file_says() {
    let first = |gate: Node| vec![gate, locked(0, "db", node("b", &[0]))];
    let mut keeps = Driven::plan(first(locked(0, "db", gate("ok", &[], 1))));
    assert_eq!((keeps.word("ok"), claims(&keeps)), ("ready", "?0:db".to_owned()));
    give(&mut keeps, 0).unwrap();
    assert_eq!(keeps.word("ok"), "awaiting approval");
    let mut nodes = first(yielding(locked(0, "db", gate("ok", &[], 1))));
    nodes[1] = yielding(nodes[1].clone());
    let mut yields = Driven::plan(nodes);
    assert_eq!(
        (yields.word("ok"), claims(&yields)),
        ("awaiting approval", String::new())
    );
    yields.decide_gate("ok", Verdict::Approve).unwrap();
    assert_eq!(claims(&yields), "?0:db");
}

#[test]
fn whoever_has_locks_waits_for_nobody_elses() {
    // `b` of the first hold stands behind `x`, which has a lock of its own.
    let mut run = Driven::plan(vec![
        locked(1, "net", node("x", &[])),
        locked(1, "net", node("y", &[])),
        locked(2, "db", node("a", &[])),
        locked(2, "db", node("b", &[0, 2])),
    ]);
    assert_eq!(claims(&run), "?1:net");
    assert_eq!(
        explain(&run.run, run.id("a")).to_string(),
        "waits for `x` (ready)"
    );
    give(&mut run, 1).unwrap();
    run.end("x", Succeeded);
    assert_eq!(claims(&run), "+1:net ?2:db");
}

#[test]
fn cancel_failure_and_time_give_up_locks_and_places_in_the_line() {
    let mut run = Driven::plan(vec![
        locked(0, "db", node("a", &[])),
        locked(1, "db", node("b", &[])),
    ]);
    give(&mut run, 0).unwrap();
    run.ticket("a").unwrap();
    run.cancel().unwrap();
    assert_eq!(claims(&run), "+0:db", "what is being stopped still has its lock");
    run.finish("a", Cancelled).unwrap();
    assert_eq!(
        (claims(&run), run.outcome()),
        (String::new(), Some(Outcome::Cancelled))
    );

    let mut run = Driven::plan(vec![
        locked(0, "db", node("a", &[])),
        locked(1, "db", node("b", &[])),
    ]);
    give(&mut run, 0).unwrap();
    run.end("a", Failed);
    assert_eq!((run.word("b"), claims(&run)), ("skipped", String::new()));

    let mut run = Driven::plan(vec![locked(0, "db", node("a", &[]))]);
    let began = run.now;
    run.pass_deadline();
    assert_eq!(run.now, began + Millis::hours(24));
    assert_eq!(
        (claims(&run), run.outcome()),
        (String::new(), Some(Outcome::TimedOut))
    );
    assert_eq!(
        explain(&run.run, run.id("a")).to_string(),
        "timed out: it did not get the lock `db` in 24 hours"
    );
}

#[test]
fn a_run_of_before_there_were_locks_is_read() {
    let run = Driven::plan(vec![node("a", &[])]);
    let mut stored = serde_json::to_value(Snapshot::from(&run.run)).unwrap();
    stored["body"].as_object_mut().unwrap().remove("holds").unwrap();
    let read: Snapshot = serde_json::from_value(stored).unwrap();
    assert_eq!(Run::from(read), run.run);
    assert!(run.run.plan().unwrap().nodes.iter().all(|node| {
        let node = serde_json::to_value(node).unwrap();
        node.get("hold").is_none()
    }));
}

#[test]
fn the_cells_of_big_matrices_share_what_is_in_front_of_them() {
    let cells = |layer: u32| {
        let before = layer.checked_sub(1);
        let needs: Vec<u32> =
            before.map_or(Vec::new(), |before| (before * 256..(before + 1) * 256).collect());
        (0..256).map(move |cell| {
            let id = layer * 256 + cell;
            locked(id, "db", node(&format!("n{id}"), &needs))
        })
    };
    let plan = plan((0..4).flat_map(cells).collect());
    let parties = crate::hold::parties(&plan, &crate::front::dependents(&plan));
    let behind = |id: u32| &parties[&NodeId(id)].behind;
    for layer in 1..4 {
        let first = behind(layer * 256);
        assert_eq!(first.len(), 256, "what is far in front has ended by then");
        assert_eq!(first.first(), Some(&NodeId((layer - 1) * 256)));
        for cell in 1..256 {
            let other = behind(layer * 256 + cell);
            assert!(
                std::sync::Arc::ptr_eq(first, other),
                "each cell would walk by itself"
            );
        }
    }
    let mut run = Driven::request(request(plan));
    assert_eq!(run.run.claims().len(), 256);
    give(&mut run, 0).unwrap();
    run.end("n0", Succeeded);
    assert_eq!(run.run.claims().len(), 255);
}

#[test]
fn the_locked_nodes_in_front_are_found_through_free_ones_and_own_ones() {
    let plan = plan(vec![
        locked(0, "net", node("x", &[])),
        node("free", &[0]),
        locked(2, "db", node("a", &[1])),
        locked(2, "db", node("b", &[2])),
        locked(4, "db", node("c", &[3, 1])),
    ]);
    let parties = crate::hold::parties(&plan, &crate::front::dependents(&plan));
    let behind = |id: u32| -> Vec<u32> { parties[&NodeId(id)].behind.iter().map(|id| id.0).collect() };
    assert_eq!((behind(0), behind(2), behind(4)), (vec![], vec![0], vec![0, 3]));
}

#[test]
fn a_stored_run_names_its_holds_in_pairs() {
    let run = Driven::plan(vec![
        locked(0, "db", node("a", &[])),
        locked(1, "net", node("b", &[])),
    ]);
    let mut stored = serde_json::to_value(Snapshot::from(&run.run)).unwrap();
    let holds = stored["body"]["holds"].as_array_mut().unwrap();
    assert_eq!(
        (&holds[0][0], &holds[0][1]["locks"]),
        (&0.into(), &"waiting".into())
    );
    // They were stored in the order in which they came to wait.
    holds.reverse();
    let read: Snapshot = serde_json::from_value(stored).unwrap();
    assert_eq!(Run::from(read), run.run);
}

#[test]
fn locks_that_yield_are_kept_while_no_person_and_no_time_is_waited_for() {
    // `b` waits for `slow`, which is nobody's gate.
    let mut run = Driven::plan(vec![
        node("slow", &[]),
        yielding(locked(1, "db", node("a", &[]))),
        yielding(locked(1, "db", node("b", &[0, 1]))),
    ]);
    give(&mut run, 1).unwrap();
    run.end("a", Succeeded);
    assert_eq!((run.word("b"), claims(&run)), ("waiting", "+1:db".to_owned()));

    let mut run = Driven::plan(vec![
        gate("ok", &[], 1),
        yielding(locked(1, "db", node("a", &[]))),
        yielding(locked(1, "db", node("b", &[0, 1]))),
    ]);
    give(&mut run, 1).unwrap();
    run.end("a", Succeeded);
    assert_eq!(claims(&run), "", "a gate in front of `b` waits");
    run.now = run.now + Millis::seconds(1);
    run.decide_gate("ok", Verdict::Approve).unwrap();
    assert_eq!((run.word("b"), claims(&run)), ("ready", "?1:db".to_owned()));
}

#[test]
fn what_does_nothing_takes_no_locks() {
    let call = Node {
        body: Body::Sync(Sync::App {
            app: "shop".parse().unwrap(),
        }),
        ..node("go", &[])
    };
    let run = Driven::plan(vec![locked(0, "db", call)]);
    assert_eq!((run.word("go"), claims(&run)), ("skipped", String::new()));
}
