//! Cancel, supersede, `finally`, the run's own deadline.

use std::collections::BTreeMap;

use pipekeeper_model::{AttemptOutcome::*, Outcome, RunId, plan::OnNew};

use super::fixture::*;
use crate::{CancelReason, Effect, Group, Input, Rejection, RunPhase, RunRequest, Verdict};

#[test]
fn after_a_cancel_nothing_starts_and_what_runs_is_stopped() {
    let mut run = Driven::plan(vec![node("a", &[]), node("b", &[]), node("c", &[0])]);
    run.ticket("a").unwrap();
    run.cancel().unwrap();
    assert_eq!(
        (run.word("a"), run.word("b"), run.word("c")),
        ("stopping", "cancelled", "skipped")
    );
    let late = run.attempt("b", 1);
    assert!(
        run.give(Input::TicketAsked {
            attempt: late,
            holder: holder(late),
            standings: BTreeMap::new(),
        })
        .is_err()
    );
    run.finish("a", Cancelled).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Cancelled));
    assert!(matches!(run.cancel(), Err(Rejection::Stale { .. })));
}

#[test]
fn what_ended_by_itself_while_it_was_stopped_keeps_its_outcome() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.ticket("a").unwrap();
    run.cancel().unwrap();
    run.finish("a", Succeeded).unwrap();
    assert_eq!(
        (run.word("a"), run.outcome()),
        ("succeeded", Some(Outcome::Cancelled))
    );
}

#[test]
fn finally_runs_after_success_failure_and_cancel() {
    for (end, expected) in [(Succeeded, Outcome::Succeeded), (Failed, Outcome::Failed)] {
        let mut run = Driven::plan(vec![node("a", &[]), finally(node("tell", &[]))]);
        assert_eq!(run.word("tell"), "waiting");
        run.end("a", end);
        assert_eq!(run.word("tell"), "launching");
        run.end("tell", Succeeded);
        assert_eq!(run.outcome(), Some(expected));
    }
    let mut run = Driven::plan(vec![node("a", &[]), finally(node("tell", &[]))]);
    run.ticket("a").unwrap();
    run.cancel().unwrap();
    run.finish("a", Cancelled).unwrap();
    assert!(run.is_stopping());
    run.end("tell", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Cancelled));
}

#[test]
fn finally_may_ask_how_the_run_went() {
    let tell = finally(when("run.outcome != \"succeeded\"", node("tell", &[])));
    let mut run = Driven::plan(vec![node("a", &[]), tell.clone()]);
    run.end("a", Succeeded);
    assert_eq!(run.word("tell"), "skipped");
    let mut run = Driven::plan(vec![node("a", &[]), tell]);
    run.end("a", Failed);
    assert_eq!(run.word("tell"), "launching");
}

#[test]
fn a_run_that_never_started_anything_has_no_finally() {
    let mut run = Driven::plan(vec![gate("ok", &[], 1), finally(node("tell", &[]))]);
    run.decide_gate("ok", Verdict::Reject).unwrap();
    assert_eq!(
        (run.word("tell"), run.outcome()),
        ("skipped", Some(Outcome::Rejected))
    );
}

#[test]
fn a_second_cancel_stops_finally_and_so_does_its_deadline() {
    let started = || {
        let mut run = Driven::plan(vec![node("a", &[]), finally(node("tell", &[]))]);
        run.end("a", Succeeded);
        run.ticket("tell").unwrap();
        run
    };
    let mut run = started();
    run.cancel().unwrap();
    assert_eq!(run.word("tell"), "stopping");
    run.finish("tell", Cancelled).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Cancelled));

    let mut run = started();
    run.pass_deadline();
    assert_eq!(run.word("tell"), "stopping");
    run.finish("tell", Cancelled).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn a_newer_run_cancels_an_older_one_up_to_its_first_gate() {
    let superseded = || Input::CancelRequested(CancelReason::Superseded { by: RunId(9) });
    let mut run = Driven::plan(vec![gate("ok", &[], 1), node("a", &[0])]);
    run.decide_gate("ok", Verdict::Approve).unwrap();
    assert!(matches!(run.give(superseded()), Err(Rejection::Illegal { .. })));

    let mut run = Driven::plan(vec![gate("ok", &[], 1), node("a", &[0])]);
    run.give(superseded()).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Superseded));
}

#[test]
fn a_queued_run_waits_for_its_turn() {
    let group = Some(Group {
        key: "mall/web/main".to_owned(),
        on_new: OnNew::Queue,
    });
    let mut run = Driven::request(RunRequest {
        group,
        ..request(plan(vec![node("a", &[])]))
    });
    assert_eq!((run.run.phase(), run.launches()), (Some(&RunPhase::Pending), 0));
    assert!(
        run.effects
            .iter()
            .any(|effect| matches!(effect, Effect::AwaitTurn { .. }))
    );
    run.give(Input::TurnGiven).unwrap();
    assert_eq!(run.word("a"), "launching");
    assert_eq!(run.give(Input::TurnGiven), Err(Rejection::Duplicate));
}

#[test]
fn a_run_lives_thirty_five_days() {
    let mut waiting = gate("ok", &[], 1);
    waiting.timeout = pipekeeper_model::Millis::days(100);
    let mut run = Driven::plan(vec![waiting]);
    run.pass_deadline();
    assert_eq!(run.outcome(), Some(Outcome::TimedOut));
}
