//! Tickets, records, retries.

use pipekeeper_model::{AttemptOutcome::*, AttemptRecord, Holder, Outcome};

use super::fixture::*;
use crate::{Effect, EffectResult, Input, Rejection, Seen, TicketAnswer, ticket_answer};

#[test]
fn one_holder_gets_the_ticket_and_asking_again_changes_nothing() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    let attempt = run.live("a");
    let (first, second) = (holder(attempt), Holder("somebody else".to_owned()));
    assert_eq!(ticket_answer(&run.run, attempt, &first), TicketAnswer::Ask);
    run.ticket("a").unwrap();
    assert_eq!(run.ticket("a"), Err(Rejection::Duplicate));
    let asked = run.give(Input::TicketAsked {
        attempt,
        holder: second.clone(),
    });
    assert!(matches!(asked, Err(Rejection::Illegal { .. })));
    assert_eq!(ticket_answer(&run.run, attempt, &first), TicketAnswer::Go);
    assert_eq!(ticket_answer(&run.run, attempt, &second), TicketAnswer::Exit);
}

#[test]
fn only_the_ticketed_holders_record_is_believed() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.ticket("a").unwrap();
    let attempt = run.live("a");
    let record = Box::new(AttemptRecord::without_steps(Succeeded, "", run.now));
    let seen = Seen::Finished {
        holder: Holder("somebody else".to_owned()),
        record,
    };
    assert!(matches!(
        run.give(Input::AttemptObserved { attempt, seen }),
        Err(Rejection::Illegal { .. })
    ));
    assert_eq!(run.word("a"), "running");
}

#[test]
fn success_without_a_ticket_is_no_success() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.finish("a", Succeeded).unwrap();
    assert_eq!(run.word("a"), "waiting to retry");
}

#[test]
fn an_attempt_that_never_started_is_tried_again_free_five_times() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    for _ in 0..5 {
        run.gone("a");
        assert_eq!(run.word("a"), "waiting to retry");
        run.pass_deadline();
    }
    run.gone("a");
    assert_eq!(run.word("a"), "errored");
    assert_eq!(run.launches(), 6);
    assert_eq!(run.outcome(), Some(Outcome::Errored));
}

#[test]
fn after_the_ticket_only_retry_decides() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.ticket("a").unwrap();
    run.gone("a");
    assert_eq!(run.outcome(), Some(Outcome::Lost));

    let mut run = Driven::plan(vec![retried(2, node("a", &[]))]);
    run.end("a", Failed);
    assert_eq!(run.word("a"), "waiting to retry");
    run.pass_deadline();
    assert_eq!(run.live("a").number, 2);
    run.end("a", Failed);
    assert_eq!(run.outcome(), Some(Outcome::Failed));
}

#[test]
fn old_observations_of_an_ended_attempt_change_nothing() {
    let mut run = Driven::plan(vec![retried(2, node("a", &[]))]);
    let first = run.live("a");
    run.end("a", Failed);
    run.pass_deadline();
    let record = Box::new(AttemptRecord::without_steps(Succeeded, "", run.now));
    let seen = Seen::Finished {
        holder: holder(first),
        record,
    };
    assert!(matches!(
        run.give(Input::AttemptObserved { attempt: first, seen }),
        Err(Rejection::Stale { .. })
    ));
    let asked = run.give(Input::TicketAsked {
        attempt: first,
        holder: holder(first),
    });
    assert!(matches!(asked, Err(Rejection::Stale { .. })));
}

#[test]
fn a_launch_that_can_never_work_ends_the_attempt() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    let key = run.effects[0].key();
    let result = EffectResult::Failed {
        reason: "no such image".to_owned(),
    };
    run.give(Input::EffectSettled { key, result }).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Errored));
}

#[test]
fn an_attempt_that_overruns_is_stopped_and_timed_out_whatever_is_seen() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.ticket("a").unwrap();
    run.pass_deadline();
    assert_eq!(run.word("a"), "stopping");
    assert!(
        run.effects
            .iter()
            .any(|effect| matches!(effect, Effect::StopAttempt { .. }))
    );
    run.pass_deadline();
    assert_eq!(run.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn an_attempt_that_does_not_check_in_is_tried_again() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.pass_deadline();
    assert_eq!(run.word("a"), "waiting to retry");
    run.pass_deadline();
    assert_eq!(run.live("a"), run.attempt("a", 2));
}
