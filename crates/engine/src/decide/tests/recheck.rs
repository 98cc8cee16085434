//! Approvals are judged again when user code is about to start.

use std::collections::BTreeMap;

use pipekeeper_model::{
    AttemptOutcome::*,
    Millis, Name, Outcome, RunId,
    plan::{Body, Node},
};

use super::fixture::*;
use crate::{CancelReason, Effect, Fact, Input, NodeState, Rejection, Requester, Standing, Verdict, explain};

fn ruled() -> Vec<Node> {
    let mut ok = gate("ok", &[0], 2);
    if let Body::Approve(rule) = &mut ok.body {
        rule.by = vec!["role:ops".parse().unwrap()];
    }
    vec![node("build", &[]), ok, node("deploy", &[1])]
}

fn somebody(name: &str, roles: &[&str]) -> Standing {
    person(name, roles, Requester::Linked("ada".parse().unwrap()))
}

/// A run whose gate two people approved.
fn approved(nodes: Vec<Node>) -> Driven {
    let mut run = Driven::plan(nodes);
    run.end("build", Succeeded);
    for name in ["grace", "alan"] {
        run.decide_as("ok", Verdict::Approve, somebody(name, &["ops"]))
            .unwrap();
    }
    run
}

/// Where people stand now: grace is still with ops.
fn now(alan: Option<Standing>) -> BTreeMap<Name, Option<Standing>> {
    BTreeMap::from([
        ("grace".parse().unwrap(), Some(somebody("grace", &["ops"]))),
        ("alan".parse().unwrap(), alan),
    ])
}

#[test]
fn a_ticket_is_given_while_enough_approvals_count() {
    let mut run = approved(ruled());
    run.ticket_while("deploy", now(Some(somebody("alan", &["ops", "dev"]))))
        .unwrap();
    assert_eq!(run.word("deploy"), "running");
}

#[test]
fn a_role_that_was_taken_away_opens_the_gate_again() {
    for alan in [Some(somebody("alan", &["dev"])), None] {
        let mut run = approved(ruled());
        let first = run.live("deploy");
        run.ticket_while("deploy", now(alan)).unwrap();
        assert_eq!(
            (run.word("ok"), run.word("deploy")),
            ("awaiting approval", "waiting")
        );
        assert!(run.effects.iter().any(|effect| matches!(
            effect,
            Effect::StopAttempt { attempt, .. } if *attempt == first
        )));
        assert_eq!(
            explain(&run.run, run.id("ok")).to_string(),
            "waits for people: 1 of 2 approvals, needs role:ops; not by ada, who asked for it; \
             open again, as alan may not approve it any more"
        );
        assert_eq!(
            run.decide_as("ok", Verdict::Approve, somebody("grace", &["ops"])),
            Err(Rejection::Duplicate)
        );
        run.decide_as("ok", Verdict::Approve, somebody("joan", &["ops"]))
            .unwrap();
        assert_eq!(run.live("deploy").number, 2);
        run.end("deploy", Succeeded);
        assert_eq!(run.outcome(), Some(Outcome::Succeeded));
    }
}

#[test]
fn a_ticket_waits_for_the_answer_where_people_stand() {
    let mut run = approved(ruled());
    let asked = run.ticket_while("deploy", BTreeMap::new());
    assert!(matches!(asked, Err(Rejection::Stale { .. })), "{asked:?}");
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn what_stands_far_behind_a_gate_waits_for_it_too() {
    let mut nodes = ruled();
    nodes.push(wait("pause", &[1], Millis::seconds(5)));
    nodes.push(node("late", &[3]));
    let mut run = approved(nodes);
    run.end("deploy", Succeeded);
    run.pass_deadline();
    run.ticket_while("late", now(None)).unwrap();
    assert_eq!(
        (run.word("ok"), run.word("late")),
        ("awaiting approval", "waiting")
    );
    assert_eq!(
        explain(&run.run, run.id("late")).to_string(),
        "waits for `ok` (awaiting approval)"
    );
    run.decide_as("ok", Verdict::Reject, somebody("grace", &["ops"]))
        .unwrap_err();
    run.decide_as("ok", Verdict::Reject, somebody("joan", &["ops"]))
        .unwrap();
    assert_eq!(run.word("late"), "cancelled");
    assert_eq!(run.outcome(), Some(Outcome::Rejected));
}

#[test]
fn a_gate_that_is_open_again_holds_every_ticket_back() {
    let mut nodes = ruled();
    nodes.push(node("other", &[1]));
    let mut run = approved(nodes);
    run.ticket_while("deploy", now(None)).unwrap();
    let voided = |run: &Driven| {
        let facts = run.log.iter().map(|event| &event.fact);
        facts
            .filter(|fact| matches!(fact, Fact::GateVoided { .. }))
            .count()
    };
    run.ticket("other").unwrap();
    assert_eq!((run.word("other"), voided(&run)), ("waiting", 1));
    run.decide_as("ok", Verdict::Approve, somebody("joan", &["ops"]))
        .unwrap();
    assert_eq!(
        (run.word("deploy"), run.word("other")),
        ("launching", "launching")
    );
}

#[test]
fn an_expired_second_opening_ends_what_waited() {
    let mut run = approved(ruled());
    run.ticket_while("deploy", now(None)).unwrap();
    run.pass_deadline();
    assert_eq!((run.word("ok"), run.word("deploy")), ("timed out", "cancelled"));
    assert_eq!(run.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn a_newer_run_does_not_end_what_was_past_a_gate() {
    let mut run = approved(ruled());
    run.ticket_while("deploy", now(None)).unwrap();
    for reason in [
        CancelReason::Superseded { by: RunId(9) },
        CancelReason::SupersededAtGate {
            by: RunId(9),
            gate: "ok".to_owned(),
        },
    ] {
        assert!(matches!(
            run.give(Input::CancelRequested(reason)),
            Err(Rejection::Illegal { .. })
        ));
    }
    run.cancel().unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Cancelled));
    assert!(matches!(run.state("deploy"), NodeState::Done(_)));
}
