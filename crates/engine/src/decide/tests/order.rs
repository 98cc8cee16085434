//! Order, conditions, failures, places.

use pipekeeper_model::{
    AttemptOutcome::*,
    Millis, NodeId, Outcome,
    plan::{Node, OnFailure, Start, WaitFor},
};

use super::fixture::*;
use crate::{Input, Rejection};

#[test]
fn a_chain_runs_in_order_and_succeeds() {
    let mut run = Driven::plan(vec![node("a", &[]), node("b", &[0]), node("c", &[1])]);
    assert_eq!(
        (run.word("a"), run.word("b"), run.word("c")),
        ("launching", "waiting", "waiting")
    );
    run.end("a", Succeeded);
    assert_eq!(
        (run.word("a"), run.word("b"), run.word("c")),
        ("succeeded", "launching", "waiting")
    );
    run.end("b", Succeeded);
    run.end("c", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
    assert_eq!(run.launches(), 3);
}

#[test]
fn one_failure_stops_what_has_not_started_and_lets_the_rest_end() {
    let mut run = Driven::plan(vec![
        node("a", &[]),
        node("b", &[]),
        node("c", &[0]),
        node("d", &[1]),
    ]);
    run.ticket("b").unwrap();
    run.end("a", Failed);
    assert_eq!(
        (run.word("b"), run.word("c"), run.word("d")),
        ("running", "skipped", "skipped")
    );
    run.finish("b", Succeeded).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Failed));
}

#[test]
fn on_failure_continue_lets_independent_branches_finish() {
    let mut plan = plan(vec![
        node("a", &[]),
        node("b", &[]),
        node("c", &[0]),
        node("d", &[1]),
    ]);
    plan.on_failure = OnFailure::Continue;
    let mut run = Driven::request(request(plan));
    run.end("a", Failed);
    assert_eq!((run.word("c"), run.word("d")), ("skipped", "waiting"));
    run.end("b", Succeeded);
    run.end("d", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Failed));
}

#[test]
fn allow_failure_keeps_the_run_green_and_the_way_open() {
    let mut soft = node("a", &[]);
    soft.allow_failure = true;
    let mut run = Driven::plan(vec![soft, node("b", &[0])]);
    run.end("a", Failed);
    assert_eq!((run.word("a"), run.word("b")), ("failed", "launching"));
    run.end("b", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_node_skipped_by_its_own_condition_passes_its_needs_through() {
    let skipped = when("branch == \"other\"", node("b", &[0]));
    let mut run = Driven::plan(vec![node("a", &[]), skipped, node("c", &[1])]);
    run.end("a", Succeeded);
    assert_eq!((run.word("b"), run.word("c")), ("skipped", "launching"));
}

#[test]
fn a_condition_on_an_outcome_is_judged_after_a_failure_too() {
    let rescue = when("actions.a.outcome == \"failed\"", node("rescue", &[0]));
    let plain = when("branch == \"main\"", node("plain", &[0]));
    let mut run = Driven::plan(vec![node("a", &[]), rescue, plain]);
    run.end("a", Failed);
    assert_eq!((run.word("rescue"), run.word("plain")), ("launching", "skipped"));
    run.end("rescue", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Failed));
}

#[test]
fn conditions_see_outputs_and_a_broken_one_is_our_error() {
    let good = when("actions.a.outputs.version == \"1.2\"", node("good", &[0]));
    let broken = when("actions.a.outputs.nothing == \"1\"", node("broken", &[0]));
    let mut plan = plan(vec![node("a", &[]), good, broken]);
    plan.on_failure = OnFailure::Continue;
    let mut run = Driven::request(request(plan));
    run.end("a", Succeeded);
    assert_eq!((run.word("good"), run.word("broken")), ("launching", "errored"));
    run.end("good", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Errored));
}

#[test]
fn max_parallel_gives_places_in_the_order_of_the_plan() {
    let mut plan = plan(vec![node("a", &[]), node("b", &[]), node("c", &[])]);
    plan.max_parallel = Some(2);
    let mut run = Driven::request(request(plan));
    assert_eq!(
        (run.word("a"), run.word("b"), run.word("c")),
        ("launching", "launching", "ready")
    );
    run.end("b", Succeeded);
    assert_eq!(run.word("c"), "launching");
}

#[test]
fn a_wait_ends_when_its_time_has_come() {
    let mut run = Driven::plan(vec![wait("w", &[], Millis::minutes(5)), node("a", &[0])]);
    assert_eq!((run.word("w"), run.word("a")), ("awaiting time", "waiting"));
    run.pass_deadline();
    assert_eq!((run.word("w"), run.word("a")), ("succeeded", "launching"));
}

#[test]
fn a_wait_with_a_start_time_begins_then() {
    let start = WaitFor::Elapsed {
        length: Millis::minutes(10),
    };
    let timed = Node {
        start: Start::Timed(start),
        ..wait("w", &[], Millis::minutes(5))
    };
    let mut run = Driven::plan(vec![timed]);
    for _ in 0..2 {
        assert_eq!(run.word("w"), "awaiting time");
        run.pass_deadline();
    }
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_run_of_nothing_ends_at_once() {
    let run = Driven::plan(Vec::new());
    assert_eq!(run.outcome(), Some(Outcome::Skipped));
}

#[test]
fn plans_that_would_wait_for_ever_are_refused() {
    for nodes in [
        vec![node("a", &[1]), node("b", &[0])],
        vec![node("a", &[9])],
        vec![node("a", &[]), node("b", &[0, 0])],
    ] {
        let input = Input::RunRequested(std::sync::Arc::new(request(plan(nodes))));
        assert!(matches!(
            Driven::empty().give(input),
            Err(Rejection::Illegal { .. })
        ));
    }
}

#[test]
fn nothing_is_legal_before_the_request_or_twice() {
    let mut run = Driven::empty();
    assert!(matches!(
        run.give(Input::DeadlineReached),
        Err(Rejection::Illegal { .. })
    ));
    let mut run = Driven::plan(vec![node("a", &[])]);
    let again = Input::RunRequested(std::sync::Arc::new(request(plan(vec![node("a", &[])]))));
    assert_eq!(run.give(again), Err(Rejection::Duplicate));
    let unknown = Input::StartPressed {
        node: NodeId(99),
        look: crate::Look::First,
        standing: crate::Standing::Owner,
    };
    assert!(run.give(unknown).is_err());
}
