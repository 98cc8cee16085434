//! Environments: gates that are asked once, branches, windows.

use std::{collections::BTreeMap, sync::Arc};

use pipekeeper_model::{
    AttemptOutcome::*,
    GitRef, Millis, NodeId, Outcome, Plan, RunId, Timestamp, WindowRule,
    plan::{Body, EnvironmentRule, Node, OnFailure, Start},
};

use super::fixture::*;
use crate::{
    AdoptedNode, Adoption, Effect, Fact, Input, Look, NodeState, Rejection, RunRequest, Standing, Verdict,
    approvers, explain, window_state,
};

/// The same node on `prod`.
fn on_prod(node: Node) -> Node {
    let Body::Work(mut work) = node.body else {
        panic!("only work is on an environment")
    };
    work.environment = Some("prod".parse().unwrap());
    Node {
        body: Body::Work(work),
        ..node
    }
}

fn ruled(nodes: Vec<Node>, rule: EnvironmentRule) -> Plan {
    Plan {
        environments: BTreeMap::from([("prod".parse().unwrap(), rule)]),
        ..plan(nodes)
    }
}

/// Nodes with the gate of `prod` in front of them.
fn gated(nodes: Vec<Node>) -> Plan {
    let rule = EnvironmentRule {
        gate: Some(NodeId(0)),
        ..EnvironmentRule::default()
    };
    let nodes = std::iter::once(gate("approve-prod", &[], 1)).chain(nodes);
    ruled(nodes.collect(), rule)
}

fn denied(span: &str, timezone: &str) -> EnvironmentRule {
    EnvironmentRule {
        windows: vec![pipekeeper_model::Window {
            rule: WindowRule::Deny(span.parse().unwrap()),
            timezone: timezone.to_owned(),
        }],
        ..EnvironmentRule::default()
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn run_at(now: &str, plan: Plan) -> Driven {
    let mut run = Driven::empty();
    run.now = at(now);
    run.give(Input::RunRequested(Arc::new(request(plan)))).unwrap();
    run
}

fn why(run: &Driven, name: &str) -> String {
    explain(&run.run, run.id(name)).to_string()
}

/// Two nodes of `prod` with work before, between and after them.
fn chain() -> Plan {
    gated(vec![
        node("build", &[]),
        on_prod(node("deploy", &[1])),
        node("wait", &[2]),
        on_prod(node("smoke", &[3])),
        node("tell", &[4]),
    ])
}

#[test]
fn the_gate_is_asked_once_when_the_first_node_may_start() {
    let mut run = Driven::request(request(chain()));
    assert_eq!(
        (run.word("approve-prod"), run.word("deploy")),
        ("waiting", "waiting")
    );
    assert_eq!(
        why(&run, "approve-prod"),
        "is asked as soon as something is to start in prod"
    );
    run.end("build", Succeeded);
    assert_eq!(
        (run.word("approve-prod"), run.word("deploy")),
        ("awaiting approval", "waiting")
    );
    assert_eq!(
        why(&run, "deploy"),
        "waits for `approve-prod` (awaiting approval)"
    );
    run.decide_gate("approve-prod", Verdict::Approve).unwrap();
    for name in ["deploy", "wait", "smoke", "tell"] {
        run.end(name, Succeeded);
    }
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
    let opened = run
        .log
        .iter()
        .filter(|event| matches!(event.fact, Fact::GateOpened { .. }));
    assert_eq!(opened.count(), 1);
}

#[test]
fn nodes_side_by_side_ask_together() {
    let mut run = Driven::request(request(gated(vec![
        on_prod(node("one", &[])),
        on_prod(node("two", &[])),
        node("apart", &[]),
    ])));
    assert_eq!(
        (run.word("approve-prod"), run.word("apart")),
        ("awaiting approval", "launching")
    );
    run.decide_gate("approve-prod", Verdict::Approve).unwrap();
    assert_eq!((run.word("one"), run.word("two")), ("launching", "launching"));
}

#[test]
fn a_rejection_stops_what_is_on_the_environment() {
    let mut run = Driven::request(request(Plan {
        on_failure: OnFailure::Continue,
        ..chain()
    }));
    run.end("build", Succeeded);
    run.decide_gate("approve-prod", Verdict::Reject).unwrap();
    assert_eq!(why(&run, "deploy"), "skipped: `approve-prod` did not succeed");
    assert_eq!(run.outcome(), Some(Outcome::Rejected));
}

#[test]
fn nobody_is_asked_for_what_does_not_start() {
    let mut run = Driven::request(request(gated(vec![
        node("build", &[]),
        when("branch == \"other\"", on_prod(node("deploy", &[1]))),
        node("tell", &[2]),
    ])));
    run.end("build", Succeeded);
    assert_eq!(
        why(&run, "approve-prod"),
        "skipped: nothing is to start in `prod`"
    );
    // What its own condition skips stands in for it, as everywhere.
    run.end("tell", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_failure_before_it_leaves_the_gate_unasked() {
    for on_failure in [OnFailure::Stop, OnFailure::Continue] {
        let mut run = Driven::request(request(Plan {
            on_failure,
            ..chain()
        }));
        run.end("build", Failed);
        assert_eq!(
            (run.word("approve-prod"), run.outcome()),
            ("skipped", Some(Outcome::Failed))
        );
    }
}

#[test]
fn what_reacts_to_outcomes_does_not_get_past_the_gate() {
    let reacting = when(
        "actions.deploy.outcome == \"skipped\"",
        on_prod(node("undo", &[2])),
    );
    let outside = when("actions.deploy.outcome == \"skipped\"", node("tell", &[2]));
    let plan = gated(vec![
        node("build", &[]),
        on_prod(node("deploy", &[1])),
        reacting,
        outside,
    ]);
    let mut run = Driven::request(request(plan));
    run.end("build", Succeeded);
    run.decide_gate("approve-prod", Verdict::Reject).unwrap();
    assert_eq!(why(&run, "undo"), "skipped: `approve-prod` did not succeed");
    // It is not in `prod`, and may tell what happened there.
    assert_eq!(run.word("tell"), "launching");
}

#[test]
fn approvals_are_judged_again_at_the_ticket() {
    let mut run = Driven::request(request(chain()));
    run.end("build", Succeeded);
    let grace = person(
        "grace",
        &["ops"],
        crate::Requester::Linked("ada".parse().unwrap()),
    );
    run.decide_as("approve-prod", Verdict::Approve, grace.clone())
        .unwrap();
    run.ticket_while("deploy", BTreeMap::from([("grace".parse().unwrap(), None)]))
        .unwrap();
    assert_eq!(
        (run.word("approve-prod"), run.word("deploy")),
        ("awaiting approval", "waiting")
    );
    run.decide_as("approve-prod", Verdict::Approve, grace).unwrap();
    run.end("deploy", Succeeded);
    assert_eq!(run.word("wait"), "launching");
}

#[test]
fn where_people_stand_is_asked_for_the_environment() {
    let plan = chain();
    let mut own = gate("own", &[], 1);
    own.needs = vec![NodeId(1)];
    let mut nodes = plan.nodes.clone();
    nodes[2].needs = vec![NodeId(6)];
    nodes.push(own);
    let mut run = Driven::request(request(Plan { nodes, ..plan }));
    run.end("build", Succeeded);
    let grace = person(
        "grace",
        &["ops"],
        crate::Requester::Linked("ada".parse().unwrap()),
    );
    for gate in ["own", "approve-prod"] {
        run.decide_as(gate, Verdict::Approve, grace.clone()).unwrap();
    }
    let signed = approvers(&run.run, run.id("deploy")).into_iter();
    let places: Vec<_> = signed
        .map(|one| one.environment.map(|name| name.to_string()))
        .collect();
    assert_eq!(places, [None, Some("prod".to_owned())]);
    // Elsewhere they may have kept what they have lost there.
    let standings = approvers(&run.run, run.id("deploy")).into_iter().map(|one| {
        let standing = one.environment.is_none().then(|| grace.clone());
        (one, standing)
    });
    let attempt = run.live("deploy");
    run.give(Input::TicketAsked {
        attempt,
        holder: holder(attempt),
        standings: standings.collect(),
    })
    .unwrap();
    assert_eq!(
        (run.word("own"), run.word("approve-prod")),
        ("succeeded", "awaiting approval")
    );
}

#[test]
fn a_retried_run_asks_again_only_for_what_it_does_again() {
    let adopt = |nodes: &[u32]| {
        let result = |node: &u32| {
            let node = NodeId(*node);
            let adopted = AdoptedNode {
                attempt: pipekeeper_model::AttemptId {
                    run: RunId(1),
                    node,
                    number: 1,
                },
                outputs: BTreeMap::new(),
                artifacts: Vec::new(),
            };
            (node, adopted)
        };
        let adopted = Some(Adoption {
            from: RunId(1),
            nodes: nodes.iter().map(result).collect(),
        });
        Driven::request(RunRequest {
            adopted,
            ..request(chain())
        })
    };
    assert_eq!(adopt(&[1]).word("approve-prod"), "awaiting approval");
    let run = adopt(&[1, 2, 3]);
    assert_eq!(
        (run.word("deploy"), run.word("approve-prod")),
        ("succeeded", "awaiting approval")
    );
    let run = adopt(&[1, 2, 3, 4]);
    assert_eq!(
        (run.word("approve-prod"), run.word("tell")),
        ("skipped", "launching")
    );
}

#[test]
fn the_subject_holds_the_rule() {
    let subject = |plan| {
        let run = Driven::request(request(plan));
        let NodeState::Deciding(open) = run.state("approve-prod") else {
            panic!("it is {}", run.word("approve-prod"))
        };
        open.subject.clone()
    };
    let mut looser = gated(vec![on_prod(node("deploy", &[]))]);
    let rule = looser.environments.values_mut().next().unwrap();
    rule.branches = vec!["**".to_owned()].into();
    assert_ne!(
        subject(gated(vec![on_prod(node("deploy", &[]))])),
        subject(looser)
    );
}

#[test]
fn a_plan_whose_environment_has_no_rule_is_refused() {
    let of = |plan| Driven::empty().give(Input::RunRequested(Arc::new(request(plan))));
    assert!(matches!(
        of(plan(vec![on_prod(node("deploy", &[]))])),
        Err(Rejection::Illegal { .. })
    ));
    assert!(matches!(
        of(gated(vec![node("deploy", &[])])),
        Err(Rejection::Illegal { .. })
    ));
    let late = gated(vec![node("deploy", &[]), finally(on_prod(node("tidy", &[])))]);
    assert!(matches!(of(late), Err(Rejection::Illegal { .. })));
}

#[test]
fn a_plan_with_something_in_front_of_an_environments_gate_is_refused() {
    let of = |plan| Driven::empty().give(Input::RunRequested(Arc::new(request(plan))));
    let plan = gated(vec![on_prod(node("deploy", &[]))]);
    assert_eq!(of(plan.clone()), Ok(()));
    let asked = || gate("approve-prod", &[], 1);
    let wrong = [
        Node {
            hold: Some(NodeId(0)),
            ..asked()
        },
        when("branch == \"main\"", asked()),
        finally(asked()),
        Node {
            start: Start::Manual,
            ..asked()
        },
    ];
    for gate in wrong {
        let mut plan = plan.clone();
        plan.nodes[0] = gate;
        assert!(matches!(of(plan), Err(Rejection::Illegal { .. })));
    }
    let mut plan = gated(vec![on_prod(node("deploy", &[])), on_prod(node("other", &[]))]);
    let rule = plan.environments.values().next().unwrap().clone();
    let Body::Work(work) = &mut plan.nodes[2].body else {
        panic!("it is work")
    };
    work.environment = Some("test".parse().unwrap());
    plan.environments.insert("test".parse().unwrap(), rule);
    assert!(matches!(of(plan), Err(Rejection::Illegal { .. })));
}

#[test]
fn what_the_environment_does_not_admit_is_skipped_and_nobody_is_asked() {
    let of = |git_ref: Option<GitRef>, branches: &[&str]| {
        let mut plan = gated(vec![on_prod(node("deploy", &[])), node("tell", &[1])]);
        let rule = plan.environments.values_mut().next().unwrap();
        rule.branches = branches
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
            .into();
        let mut request = request(plan);
        request.context.event.revision.git_ref = git_ref;
        Driven::request(request)
    };
    let branch = |name: &str| Some(GitRef::Branch(name.to_owned()));
    for admitted in [of(branch("hotfix/1"), &["main", "hotfix/**"]), of(None, &[])] {
        assert_eq!(admitted.word("approve-prod"), "awaiting approval");
    }
    for (run, reason) in [
        (
            of(branch("dev"), &["main"]),
            "`prod` does not admit the branch `dev`",
        ),
        (
            of(Some(GitRef::Tag("main".to_owned())), &["main"]),
            "`prod` admits branches, and `main` is a tag",
        ),
        (
            of(None, &["main"]),
            "`prod` admits branches, and the run has none",
        ),
    ] {
        assert_eq!(why(&run, "deploy"), format!("skipped: {reason}"));
        assert_eq!(
            (run.word("approve-prod"), run.word("tell")),
            ("skipped", "skipped")
        );
    }
}

#[test]
fn a_merge_request_is_not_admitted_by_the_name_of_its_branch() {
    let mut plan = ruled(vec![on_prod(node("deploy", &[]))], EnvironmentRule::default());
    plan.environments.values_mut().next().unwrap().branches = vec!["main".to_owned()].into();
    let mut request = request(plan);
    request.context.event.kind = pipekeeper_model::EventKind::MergeRequest;
    let run = Driven::request(request);
    assert_eq!(
        why(&run, "deploy"),
        "skipped: `prod` admits branches, and this is a merge request"
    );
}

#[test]
fn a_closed_window_is_waited_for_with_its_opening_told() {
    let rule = denied("Fri 18:00 - Mon 08:00", "Asia/Shanghai");
    let mut run = run_at(
        "2026-11-28T02:00:00Z",
        ruled(vec![on_prod(node("deploy", &[]))], rule),
    );
    assert_eq!(run.word("deploy"), "awaiting window");
    assert_eq!(
        why(&run, "deploy"),
        "the window of prod opens Mon 08:00 Asia/Shanghai"
    );
    assert_eq!(run.run.next_deadline().unwrap().0, at("2026-11-30T00:00:00Z"));
    run.pass_deadline();
    run.end("deploy", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn an_opening_keeps_to_the_clock_when_that_changes() {
    for (now, opens) in [
        // Clocks go forward in the night to Sunday, and back.
        ("2026-03-27T20:00:00Z", "2026-03-30T06:00:00Z"),
        ("2026-10-23T20:00:00Z", "2026-10-26T07:00:00Z"),
    ] {
        let rule = denied("Fri 18:00 - Mon 08:00", "Europe/Berlin");
        let mut run = run_at(now, ruled(vec![on_prod(node("deploy", &[]))], rule));
        assert_eq!(
            why(&run, "deploy"),
            "the window of prod opens Mon 08:00 Europe/Berlin"
        );
        assert_eq!(run.run.next_deadline().unwrap().0, at(opens));
        run.pass_deadline();
        assert_eq!(run.word("deploy"), "launching");
    }
}

#[test]
fn an_opening_in_the_hour_that_is_skipped_or_doubled_is_met_once() {
    for (now, opens) in [
        ("2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
        ("2026-10-25T00:10:00Z", "2026-10-25T00:30:00Z"),
    ] {
        let rule = denied("22:00 - 02:30", "Europe/Berlin");
        let mut run = run_at(now, ruled(vec![on_prod(node("deploy", &[]))], rule));
        assert_eq!(run.run.next_deadline().unwrap().0, at(opens));
        run.pass_deadline();
        assert_eq!(run.word("deploy"), "launching");
        run.now = run.now + Millis::minutes(45);
        run.ticket("deploy").unwrap();
        assert_eq!(run.word("deploy"), "running");
    }
}

#[test]
fn a_window_that_closes_before_the_ticket_takes_the_attempt_back() {
    let rule = denied("18:00 - 08:00", "UTC");
    let deploy = Node {
        start: Start::Manual,
        ..on_prod(node("deploy", &[]))
    };
    let mut run = run_at("2026-11-30T17:59:00Z", ruled(vec![deploy], rule));
    run.press("deploy", Look::First).unwrap();
    assert_eq!(run.word("deploy"), "launching");
    run.now = at("2026-11-30T18:00:00Z");
    let first = run.live("deploy");
    run.ticket("deploy").unwrap();
    assert_eq!(run.word("deploy"), "awaiting window");
    let stops = |effect: &Effect| matches!(effect, Effect::StopAttempt { attempt, .. } if *attempt == first);
    assert!(run.effects.iter().any(stops));
    // Whoever started it need not do so again.
    run.pass_deadline();
    assert_eq!(run.now, at("2026-12-01T08:00:00Z"));
    assert_eq!(run.live("deploy"), run.attempt("deploy", 2));
    run.end("deploy", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn another_try_waits_for_the_window_and_is_counted() {
    let rule = denied("18:00 - 08:00", "UTC");
    let mut run = run_at(
        "2026-11-30T17:59:55Z",
        ruled(vec![retried(2, on_prod(node("deploy", &[])))], rule),
    );
    run.end("deploy", Failed);
    run.pass_deadline();
    assert_eq!(run.word("deploy"), "awaiting window");
    run.pass_deadline();
    run.end("deploy", Failed);
    assert_eq!(
        (run.word("deploy"), run.outcome()),
        ("failed", Some(Outcome::Failed))
    );
}

#[test]
fn what_a_closed_window_took_back_does_not_start_after_a_failure() {
    let rule = denied("18:00 - 08:00", "UTC");
    let nodes = vec![on_prod(node("deploy", &[])), node("test", &[])];
    let mut run = run_at("2026-11-30T17:59:00Z", ruled(nodes, rule));
    run.end("test", Failed);
    run.now = at("2026-11-30T18:00:00Z");
    run.ticket("deploy").unwrap();
    assert_eq!(why(&run, "deploy"), "cancelled: `test` failed before it");
}

#[test]
fn what_waits_for_its_window_again_does_not_start_after_a_failure() {
    let rule = denied("18:00 - 08:00", "UTC");
    let nodes = vec![on_prod(node("deploy", &[])), node("test", &[])];
    let mut run = run_at("2026-11-30T17:59:00Z", ruled(nodes, rule));
    run.now = at("2026-11-30T18:00:00Z");
    run.ticket("deploy").unwrap();
    assert_eq!(run.word("deploy"), "awaiting window");
    run.end("test", Failed);
    assert_eq!(why(&run, "deploy"), "cancelled: `test` failed before it");
    assert_eq!(run.outcome(), Some(Outcome::Failed));
}

#[test]
fn what_was_taken_back_once_has_no_ticket_after_a_failure() {
    let rule = denied("18:00 - 08:00", "UTC");
    let nodes = vec![on_prod(node("deploy", &[])), node("test", &[])];
    let mut run = run_at("2026-11-30T17:59:00Z", ruled(nodes, rule));
    run.ticket("test").unwrap();
    run.now = at("2026-11-30T18:00:00Z");
    run.ticket("deploy").unwrap();
    run.now = at("2026-12-01T08:00:00Z");
    run.give(Input::DeadlineReached).unwrap();
    run.finish("test", Failed).unwrap();
    run.ticket("deploy").unwrap();
    assert_eq!(why(&run, "deploy"), "cancelled: `test` failed before it");
}

#[test]
fn a_cancel_ends_the_wait_for_a_window() {
    let rule = denied("18:00 - 08:00", "UTC");
    let mut run = run_at(
        "2026-11-30T20:00:00Z",
        ruled(vec![on_prod(node("deploy", &[]))], rule),
    );
    run.cancel().unwrap();
    assert_eq!(
        (run.word("deploy"), run.outcome()),
        ("skipped", Some(Outcome::Cancelled))
    );
}

#[test]
fn windows_that_never_open_are_no_wait() {
    let rule = denied("Mon-Sun", "UTC");
    let run = run_at(
        "2026-11-30T20:00:00Z",
        ruled(vec![on_prod(node("deploy", &[]))], rule),
    );
    assert_eq!(
        why(&run, "deploy"),
        "errored: the windows of `prod` do not open within a year"
    );
}

#[test]
fn the_gate_is_asked_while_the_window_is_closed() {
    let mut plan = gated(vec![on_prod(node("deploy", &[]))]);
    let rule = plan.environments.values_mut().next().unwrap();
    rule.windows = denied("18:00 - 08:00", "UTC").windows;
    let closed = window_state(&rule.windows, at("2026-11-30T20:00:00Z"));
    assert_ne!(closed, Ok(crate::WindowState::Open));
    let mut run = run_at("2026-11-30T20:00:00Z", plan);
    run.decide_as("approve-prod", Verdict::Approve, Standing::Owner)
        .unwrap();
    assert_eq!(run.word("deploy"), "awaiting window");
    run.pass_deadline();
    run.end("deploy", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

/// Two nodes on `prod` that have a lock together, with their window closed from 18 to 8.
fn locked_pair(now: &str) -> Driven {
    let lock = pipekeeper_model::plan::Lock {
        name: "live".parse().unwrap(),
        slots: 1,
        newest_first: false,
        yields_at_gate: false,
        scope: pipekeeper_model::plan::LockScope::Project,
    };
    let locked = |node: Node| Node {
        locks: vec![lock.clone()],
        hold: Some(NodeId(0)),
        ..node
    };
    let nodes = vec![
        locked(on_prod(node("deploy", &[]))),
        locked(on_prod(node("smoke", &[0]))),
    ];
    run_at(now, ruled(nodes, denied("18:00 - 08:00", "UTC")))
}

fn give_locks(run: &mut Driven) {
    run.give(Input::LocksGiven { hold: NodeId(0) }).unwrap();
}

#[test]
fn a_lock_that_comes_when_the_window_has_closed_goes_to_others() {
    let mut run = locked_pair("2026-11-30T17:59:00Z");
    run.now = at("2026-11-30T18:00:00Z");
    give_locks(&mut run);
    assert_eq!((run.word("deploy"), run.launches()), ("awaiting window", 0));
    assert_eq!(run.run.claims(), []);
    run.pass_deadline();
    assert_eq!((run.word("deploy"), run.run.claims().len()), ("ready", 1));
    give_locks(&mut run);
    assert_eq!(run.word("deploy"), "launching");
}

#[test]
fn a_lock_is_not_kept_over_a_window_that_took_the_first_attempt_back() {
    let mut run = locked_pair("2026-11-30T17:59:00Z");
    give_locks(&mut run);
    run.now = at("2026-11-30T18:00:00Z");
    run.ticket("deploy").unwrap();
    assert_eq!(run.word("deploy"), "awaiting window");
    assert_eq!(run.run.claims(), []);
}

#[test]
fn a_lock_is_kept_over_a_window_once_something_was_done_with_it() {
    let mut run = locked_pair("2026-11-30T17:59:00Z");
    give_locks(&mut run);
    run.ticket("deploy").unwrap();
    run.now = at("2026-11-30T18:00:00Z");
    run.finish("deploy", Succeeded).unwrap();
    assert_eq!(run.word("smoke"), "awaiting window");
    assert_eq!(run.run.claims().len(), 1);
}

#[test]
fn a_place_that_comes_when_the_window_has_closed_is_not_taken() {
    let nodes = vec![node("test", &[]), on_prod(node("deploy", &[])), node("late", &[])];
    let plan = Plan {
        max_parallel: Some(1),
        ..ruled(nodes, denied("18:00 - 08:00", "UTC"))
    };
    let mut run = run_at("2026-11-30T17:59:00Z", plan);
    run.ticket("test").unwrap();
    run.now = at("2026-11-30T18:00:00Z");
    run.finish("test", Succeeded).unwrap();
    assert_eq!(
        (run.word("deploy"), run.word("late")),
        ("awaiting window", "launching")
    );
}
