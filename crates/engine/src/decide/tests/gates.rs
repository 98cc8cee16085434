//! Gates, manual starts, adoption.

use std::collections::BTreeMap;

use pipekeeper_model::{Actor, AttemptOutcome::*, Digest, Outcome, RunId, plan::Start};

use super::fixture::*;
use crate::{
    AdoptedNode, Adoption, Effect, Input, Look, Person, Rejection, Requester, RunRequest, Standing, Verdict,
    explain,
};

fn gated() -> Vec<pipekeeper_model::plan::Node> {
    vec![node("build", &[]), gate("ok", &[0], 1), node("deploy", &[1])]
}

#[test]
fn nothing_behind_a_gate_starts_before_the_approval() {
    let mut run = Driven::plan(gated());
    run.end("build", Succeeded);
    assert_eq!(
        (run.word("ok"), run.word("deploy")),
        ("awaiting approval", "waiting")
    );
    run.decide_gate("ok", Verdict::Approve).unwrap();
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn a_rejection_rejects_the_run_and_a_late_approval_revives_nothing() {
    let mut run = Driven::plan(gated());
    run.end("build", Succeeded);
    run.decide_gate("ok", Verdict::Reject).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Rejected));
    let (node, subject) = (run.id("ok"), Digest::of(b""));
    let late = Input::GateDecided {
        node,
        verdict: Verdict::Approve,
        subject,
        comment: None,
        params: BTreeMap::new(),
        standing: Standing::Owner,
    };
    assert!(matches!(run.give(late), Err(Rejection::Stale { .. })));
}

#[test]
fn an_approval_names_what_it_approves() {
    let mut run = Driven::plan(gated());
    run.end("build", Succeeded);
    let (node, subject) = (run.id("ok"), Digest::of(b"something else"));
    let input = Input::GateDecided {
        node,
        verdict: Verdict::Approve,
        subject,
        comment: None,
        params: BTreeMap::new(),
        standing: Standing::Owner,
    };
    assert!(matches!(run.give(input), Err(Rejection::Stale { .. })));
    assert_eq!(run.word("ok"), "awaiting approval");
}

#[test]
fn an_expired_gate_is_timed_out() {
    let mut run = Driven::plan(vec![gate("ok", &[], 1), node("deploy", &[0])]);
    run.pass_deadline();
    assert_eq!((run.word("ok"), run.word("deploy")), ("timed out", "skipped"));
    assert_eq!(run.outcome(), Some(Outcome::TimedOut));
}

#[test]
fn a_skipped_gate_opens_no_way() {
    let mut run = Driven::plan(vec![
        when("branch == \"other\"", gate("ok", &[], 1)),
        node("deploy", &[0]),
    ]);
    assert_eq!((run.word("ok"), run.word("deploy")), ("skipped", "skipped"));
    assert_eq!(run.launches(), 0);
    assert!(run.cancel().is_err());
}

#[test]
fn a_condition_on_an_outcome_does_not_lead_around_a_gate() {
    let around = when("actions.deploy.outcome == \"skipped\"", node("around", &[1]));
    let mut run = Driven::plan(vec![gate("ok", &[], 1), node("deploy", &[0]), around]);
    run.decide_gate("ok", Verdict::Reject).unwrap();
    assert_eq!(run.word("around"), "skipped");
    assert_eq!(run.launches(), 0);
}

#[test]
fn a_node_may_react_to_the_gate_itself() {
    let tell = when("actions.ok.outcome == \"rejected\"", node("tell", &[0]));
    let mut run = Driven::plan(vec![gate("ok", &[], 1), tell]);
    run.decide_gate("ok", Verdict::Reject).unwrap();
    assert_eq!(run.word("tell"), "launching");
}

#[test]
fn a_manual_start_waits_for_a_person_and_is_skipped_without_one() {
    let manual = || {
        vec![pipekeeper_model::plan::Node {
            start: Start::Manual,
            ..node("a", &[])
        }]
    };
    let mut run = Driven::plan(manual());
    assert_eq!(run.word("a"), "awaiting start");
    run.press("a", Look::First).unwrap();
    assert_eq!(run.word("a"), "launching");

    let mut run = Driven::plan(manual());
    run.pass_deadline();
    assert_eq!(run.outcome(), Some(Outcome::Skipped));
}

#[test]
fn a_confirmed_start_wants_two_looks_and_maybe_two_people() {
    let confirm = |by_other| {
        vec![pipekeeper_model::plan::Node {
            start: Start::Confirm { by_other },
            ..node("a", &[])
        }]
    };
    let mut run = Driven::plan(confirm(false));
    assert!(run.press("a", Look::Second).is_err());
    run.press("a", Look::First).unwrap();
    assert_eq!(run.press("a", Look::First), Err(Rejection::Duplicate));
    run.press("a", Look::Second).unwrap();
    assert_eq!(run.word("a"), "launching");

    // Where people are not known whoever sits there is everybody.
    let mut run = Driven::plan(confirm(true));
    run.press("a", Look::First).unwrap();
    run.press("a", Look::Second).unwrap();
    assert_eq!(run.word("a"), "launching");

    let somebody = |name: &str, account: &str| {
        let Standing::Person(person) = person(name, &["dev"], Requester::Unlinked) else {
            panic!("a person")
        };
        let identities = [Actor::user(account)].into();
        Standing::Person(Person { identities, ..person })
    };
    let mut run = Driven::plan(confirm(true));
    run.actor = Actor::user("hopper");
    run.press_as("a", Look::First, somebody("grace", "hopper"))
        .unwrap();
    assert_eq!(
        explain(&run.run, run.id("a")).to_string(),
        "waits for another person than hopper to confirm the start"
    );
    run.actor = Actor::user("grace");
    let own = run.press_as("a", Look::Second, somebody("grace", "hopper"));
    assert!(matches!(own, Err(Rejection::NotPermitted { .. })), "{own:?}");
    run.actor = Actor::user("alan");
    run.press_as("a", Look::Second, somebody("alan", "turing"))
        .unwrap();
    assert_eq!(run.word("a"), "launching");
}

#[test]
fn a_retried_run_adopts_results_but_never_approvals() {
    let mut first = Driven::plan(gated());
    first.end("build", Succeeded);
    let adopted = AdoptedNode {
        attempt: first.attempt("build", 1),
        outputs: BTreeMap::from([("version".to_owned(), "1.2".into())]),
        artifacts: Vec::new(),
    };
    let also_the_gate = AdoptedNode {
        attempt: first.attempt("ok", 1),
        ..adopted.clone()
    };
    let nodes = BTreeMap::from([(first.id("build"), adopted), (first.id("ok"), also_the_gate)]);
    let adopted = Some(Adoption {
        from: RunId(6),
        nodes,
    });
    let mut run = Driven::request(RunRequest {
        adopted,
        ..request(plan(gated()))
    });
    assert_eq!(
        (run.word("build"), run.word("ok")),
        ("succeeded", "awaiting approval")
    );
    assert_eq!(run.launches(), 0);
    run.decide_gate("ok", Verdict::Approve).unwrap();
    assert_eq!(run.launches(), 1);
}

#[test]
fn reaching_a_gate_asks_to_supersede_older_runs_there() {
    let mut rule = gate("ok", &[], 1);
    if let pipekeeper_model::plan::Body::Approve(gate) = &mut rule.body {
        gate.keep_all = false;
    }
    let mut run = Driven::plan(vec![rule]);
    assert!(
        run.effects
            .iter()
            .any(|effect| matches!(effect, Effect::SupersedeAtGate { .. }))
    );
    let reason = crate::CancelReason::SupersededAtGate {
        by: RunId(9),
        gate: "ok".to_owned(),
    };
    run.give(Input::CancelRequested(reason)).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Superseded));
}
