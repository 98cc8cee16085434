//! Tickets, records, retries.

use std::collections::BTreeMap;

use pipekeeper_model::{AttemptOutcome::*, AttemptRecord, Holder, Outcome, plan::defaults};

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
        standings: BTreeMap::new(),
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
        standings: BTreeMap::new(),
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

#[test]
fn an_attempt_that_finds_no_room_waits_a_day_for_it_and_not_its_time_to_check_in() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    let attempt = run.live("a");
    let key = run.effects[0].key();
    run.give(Input::LaunchHeldUp { attempt }).unwrap();
    assert_eq!(run.word("a"), "queued");
    assert_eq!(
        run.give(Input::LaunchHeldUp { attempt }),
        Err(Rejection::Duplicate)
    );
    let (until, _) = run.run.next_deadline().unwrap();
    assert_eq!(until, run.now + defaults::QUEUE);
    // Nothing is known of what was never launched.
    let seen = Seen::Gone {
        reason: "nothing is known of it here".to_owned(),
    };
    let gone = run.give(Input::AttemptObserved { attempt, seen });
    assert!(matches!(gone, Err(Rejection::Stale { .. })));
    let done = Input::EffectSettled {
        key,
        result: EffectResult::Done,
    };
    run.give(done.clone()).unwrap();
    assert_eq!(run.word("a"), "launching");
    let (until, _) = run.run.next_deadline().unwrap();
    assert_eq!(until, run.now + defaults::CHECK_IN);
    assert_eq!(run.give(done), Err(Rejection::Duplicate));
    run.end("a", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
    assert_eq!(run.launches(), 1);
}

#[test]
fn what_finds_no_room_in_a_day_is_timed_out() {
    let mut run = Driven::plan(vec![retried(3, node("a", &[]))]);
    let attempt = run.live("a");
    run.give(Input::LaunchHeldUp { attempt }).unwrap();
    run.pass_deadline();
    assert_eq!(run.outcome(), Some(Outcome::TimedOut));
    let stops = |effect: &Effect| matches!(effect, Effect::StopAttempt { attempt: stopped, .. } if *stopped == attempt);
    assert!(run.effects.iter().any(stops));
}

#[test]
fn what_was_launched_although_nobody_heard_of_it_may_ask_for_its_ticket() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    let attempt = run.live("a");
    run.give(Input::LaunchHeldUp { attempt }).unwrap();
    run.end("a", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_ticket_that_its_supervisor_never_heard_of_ends_with_what_kept_it() {
    let mut run = Driven::plan(vec![node("a", &[])]);
    run.ticket("a").unwrap();
    let attempt = run.live("a");
    let seen = Seen::Hopeless {
        reason: "the service `db` ended".to_owned(),
    };
    run.give(Input::AttemptObserved { attempt, seen }).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Errored));
}
