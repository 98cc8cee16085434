//! Who may decide at a gate, and how many must agree.

use std::collections::BTreeMap;

use pipekeeper_model::{
    Actor, AttemptOutcome::*, Name, Outcome, Param, ParamKind, plan::Body, plan::Node, plan::SelfApproval,
};

use super::fixture::*;
use crate::{Bypass, Input, NodeState, Person, Rejection, Requester, Standing, Verdict, explain};

/// The run's actor.
fn by_ada() -> Requester {
    Requester::Linked("ada".parse().unwrap())
}

fn grace() -> Standing {
    person("grace", &["ops"], by_ada())
}

fn ruled(count: u32, by: &[&str]) -> Vec<Node> {
    let mut ok = gate("ok", &[0], count);
    if let Body::Approve(rule) = &mut ok.body {
        rule.by = by.iter().map(|text| text.parse().unwrap()).collect();
    }
    vec![node("build", &[]), ok, node("deploy", &[1])]
}

fn asking(nodes: Vec<Node>) -> Driven {
    let mut run = Driven::plan(nodes);
    run.end("build", Succeeded);
    run
}

fn why_not(result: Result<(), Rejection>) -> String {
    match result {
        Err(Rejection::NotPermitted { why } | Rejection::Illegal { why } | Rejection::Stale { why }) => why,
        other => panic!("it is not refused: {other:?}"),
    }
}

#[test]
fn two_approvals_are_two_people() {
    let mut run = asking(ruled(2, &[]));
    run.decide_as("ok", Verdict::Approve, grace()).unwrap();
    assert_eq!(
        run.decide_as("ok", Verdict::Approve, grace()),
        Err(Rejection::Duplicate)
    );
    let why = why_not(run.decide_as("ok", Verdict::Reject, grace()));
    assert!(why.contains("everybody decides once"), "{why}");
    run.decide_as("ok", Verdict::Approve, person("alan", &[], by_ada()))
        .unwrap();
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn who_asked_for_the_run_that_is_done_again_does_not_approve() {
    let mut request = request(plan(ruled(1, &[])));
    request.asked_before.insert(Actor::user("grace"));
    let mut run = Driven::request(request);
    run.end("build", Succeeded);
    let why = why_not(run.decide_as("ok", Verdict::Approve, grace()));
    assert!(why.contains("asked for"), "{why}");
    run.decide_as("ok", Verdict::Approve, person("alan", &[], by_ada()))
        .unwrap();
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn one_person_is_one_whatever_they_are_called() {
    let mut run = asking(ruled(2, &[]));
    let account = Actor::Forge {
        forge: "gitea".to_owned(),
        login: "gracie".to_owned(),
    };
    run.actor = account.clone();
    run.decide_under("ok", Verdict::Approve, grace()).unwrap();
    assert_eq!(
        run.decide_as("ok", Verdict::Approve, grace()),
        Err(Rejection::Duplicate)
    );
    let mut renamed = grace();
    if let Standing::Person(person) = &mut renamed {
        person.name = "hopper".parse().unwrap();
        person.identities.insert(account);
    }
    assert_eq!(
        run.decide_as("ok", Verdict::Approve, renamed),
        Err(Rejection::Duplicate)
    );
    assert_eq!(run.word("ok"), "awaiting approval");
}

#[test]
fn only_those_who_are_asked_decide() {
    let mut run = asking(ruled(1, &["role:ops", "user:alan"]));
    let joan = || person("joan", &["dev", "tester"], by_ada());
    let why = why_not(run.decide_as("ok", Verdict::Approve, joan()));
    assert_eq!(
        why,
        "`ok` is decided by role:ops or user:alan, and joan has the roles dev, tester"
    );
    assert!(run.decide_as("ok", Verdict::Reject, joan()).is_err());
    let mut other = asking(ruled(1, &["role:ops", "user:alan"]));
    run.decide_as("ok", Verdict::Approve, person("alan", &[], by_ada()))
        .unwrap();
    other.decide_as("ok", Verdict::Approve, grace()).unwrap();
    assert_eq!(
        (run.word("deploy"), other.word("deploy")),
        ("launching", "launching")
    );
}

#[test]
fn whoever_asked_for_the_run_rejects_it_but_does_not_approve_it() {
    let ada = || person("ada", &["ops"], by_ada());
    let mut run = asking(ruled(1, &["role:ops"]));
    let why = why_not(run.decide_as("ok", Verdict::Approve, ada()));
    assert!(why.contains("you asked for this run"), "{why}");
    assert!(why.contains("role:ops"), "{why}");
    run.decide_as("ok", Verdict::Reject, ada()).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Rejected));

    let mut nodes = ruled(1, &[]);
    if let Body::Approve(rule) = &mut nodes[1].body {
        rule.self_approval = SelfApproval::Allowed;
    }
    let mut run = asking(nodes);
    run.decide_as("ok", Verdict::Approve, ada()).unwrap();
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn it_takes_two_where_nobody_knows_who_pushed() {
    let pushed = |requester: Requester| {
        let mut run = Driven::empty();
        run.actor = Actor::Forge {
            forge: "gitea".to_owned(),
            login: "ada".to_owned(),
        };
        let request = request(plan(ruled(1, &[])));
        run.give(Input::RunRequested(request.into())).unwrap();
        run.end("build", Succeeded);
        run.decide_as("ok", Verdict::Approve, person("grace", &[], requester.clone()))
            .unwrap();
        (run, requester)
    };
    let (run, _) = pushed(by_ada());
    assert_eq!(run.word("deploy"), "launching");
    let (mut run, requester) = pushed(Requester::Unlinked);
    assert_eq!(
        explain(&run.run, run.id("ok")).to_string(),
        "waits for people: 1 of 2 approvals; not by ada@gitea, who asked for it"
    );
    run.decide_as("ok", Verdict::Approve, person("alan", &[], requester))
        .unwrap();
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn a_rejection_says_why() {
    let mut run = asking(ruled(1, &[]));
    let NodeState::Deciding(open) = run.state("ok") else {
        panic!("the gate is open")
    };
    let input = Input::GateDecided {
        node: run.id("ok"),
        verdict: Verdict::Reject,
        subject: open.subject.clone(),
        comment: Some(" ".to_owned()),
        params: BTreeMap::new(),
        standing: grace(),
    };
    let why = why_not(run.give(input));
    assert!(why.contains("add a comment"), "{why}");
}

#[test]
fn who_sits_where_nobody_is_known_is_everybody() {
    let mut run = asking(ruled(2, &["role:ops"]));
    run.decide_gate("ok", Verdict::Approve).unwrap();
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn progress_says_who_is_missing() {
    let mut run = asking(ruled(2, &["role:ops"]));
    run.decide_as("ok", Verdict::Approve, grace()).unwrap();
    assert_eq!(
        explain(&run.run, run.id("ok")).to_string(),
        "waits for people: 1 of 2 approvals, needs role:ops; not by ada, who asked for it"
    );
}

#[test]
fn a_bypass_is_a_right_of_its_own_and_says_why() {
    let admin = |bypass| {
        let Standing::Person(person) = person("root", &[], by_ada()) else {
            panic!("a person")
        };
        Standing::Person(Person { bypass, ..person })
    };
    let mut run = asking(ruled(2, &["role:ops"]));
    let why = why_not(run.decide_as("ok", Verdict::Bypass, grace()));
    assert!(why.contains("a right of its own"), "{why}");
    run.decide_as("ok", Verdict::Bypass, admin(Bypass::Allowed))
        .unwrap();
    assert_eq!((run.word("ok"), run.word("deploy")), ("bypassed", "launching"));
    assert_eq!(
        explain(&run.run, run.id("ok")).to_string(),
        "succeeded: bypassed by root: as the test says"
    );
    let now = |bypass| [("root".parse().unwrap(), Some(admin(bypass)))].into();
    run.ticket_while("deploy", now(Bypass::Refused)).unwrap();
    assert_eq!(run.word("ok"), "awaiting approval");
    run.decide_as("ok", Verdict::Bypass, admin(Bypass::Allowed))
        .unwrap();
    run.ticket_while("deploy", now(Bypass::Allowed)).unwrap();
    assert_eq!(run.word("deploy"), "running");
}

/// Approves with a value for `channel`.
fn choose(run: &mut Driven, who: Standing, channel: Option<&str>) -> Result<(), Rejection> {
    let NodeState::Deciding(open) = run.state("ok") else {
        panic!("the gate is open")
    };
    let name = |text: &str| text.parse::<Name>().unwrap();
    let input = Input::GateDecided {
        node: run.id("ok"),
        verdict: Verdict::Approve,
        subject: open.subject.clone(),
        comment: None,
        params: channel
            .map(|channel| (name("channel"), channel.to_owned()))
            .into_iter()
            .collect(),
        standing: who,
    };
    run.give(input)
}

#[test]
fn what_a_gate_asks_for_is_approved_by_all_and_read_by_what_follows() {
    let mut nodes = ruled(2, &[]);
    let channel = Param {
        name: "channel".parse().unwrap(),
        kind: ParamKind::Enum(vec!["beta".to_owned(), "stable".to_owned()]),
        default: None,
        help: None,
    };
    if let Body::Approve(rule) = &mut nodes[1].body {
        rule.params.insert(channel.name.clone(), channel);
    }
    nodes[2] = when("actions.ok.outputs.channel == \"beta\"", nodes[2].clone());
    let mut run = asking(nodes);
    let alan = || person("alan", &[], by_ada());
    let why = why_not(choose(&mut run, grace(), None));
    assert!(why.contains("`channel` is missing"), "{why}");
    let why = why_not(choose(&mut run, grace(), Some("nightly")));
    assert!(why.contains("one of `beta`, `stable`"), "{why}");
    choose(&mut run, grace(), Some("beta")).unwrap();
    run.actor = Actor::user("alan");
    let why = why_not(choose(&mut run, alan(), Some("stable")));
    assert!(why.contains("channel=beta: approve the same"), "{why}");
    choose(&mut run, alan(), Some("beta")).unwrap();
    assert_eq!(run.word("deploy"), "launching");
}
