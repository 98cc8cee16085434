//! Every order of events of a tiny run, by plain breadth-first search over `decide`: nothing is left to chance here.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use pipekeeper_engine::{
    AdoptedNode, AttemptPhase, Bypass, CancelReason, Earlier, Envelope, Fact, Input, NodeState, Origin,
    Person, Requester, Run, RunPhase, RunRequest, Seen, Signature, Snapshot, Standing, Unnamed, Verdict,
    approvers, decide, evolve,
};
use pipekeeper_model::{
    Actor, AttemptId, AttemptOutcome, AttemptRecord, Digest, EventKind, Holder, Millis, Name, NodeId,
    Outcome, Plan, Revision, RunContext, RunId, Timestamp, TriggerEvent,
    plan::{
        Body, Checkout, Gate, Node, OnFailure, Place, PodFields, Reports, Retry, Reuse, Script, Section,
        SelfApproval, Shell, Start, Step, Work,
    },
};

/// How many inputs deep the search goes.
const DEPTH: usize = 9;
// The work before the gate, the gate, the work behind it, for which an earlier success may stand in, and `finally`.
const BEFORE: NodeId = NodeId(0);
const GATE: NodeId = NodeId(1);
const BEHIND: NodeId = NodeId(2);
const LAST: NodeId = NodeId(3);
// Who asked for the run, and may therefore not approve it.
const ASKER: &str = "ann";

fn work(reuse: Option<Reuse>) -> Body {
    Body::Work(Box::new(Work {
        steps: vec![Step {
            name: "step 1".to_owned(),
            image: None,
            script: Script::Shell {
                shell: Shell::Sh,
                text: "true".to_owned(),
                line: 1,
            },
            env: BTreeMap::new(),
            timeout: None,
            working_dir: None,
        }],
        env: BTreeMap::new(),
        checkout: Checkout::None,
        uses: Vec::new(),
        artifacts: BTreeMap::new(),
        caches: Vec::new(),
        secrets: Vec::new(),
        services: BTreeMap::new(),
        reports: Reports::default(),
        resources: None,
        pod: PodFields::default(),
        environment: None,
        cluster: None,
        credentials: Vec::new(),
        log_limit: 1,
        reuse,
    }))
}

fn node(name: &str, needs: Vec<NodeId>, section: Section, body: Body) -> Node {
    Node {
        name: name.to_owned(),
        action: name.parse().unwrap(),
        cell: BTreeMap::new(),
        groups: Vec::new(),
        needs,
        conditions: Vec::new(),
        start: Start::Auto,
        section,
        allow_failure: false,
        timeout: Millis::minutes(1),
        retry: Retry::default(),
        locks: Vec::new(),
        hold: None,
        place: Place { line: 1, column: 1 },
        body,
    }
}

fn request() -> Arc<RunRequest> {
    let gate = Gate {
        text: "go?".to_owned(),
        by: Vec::new(),
        count: 1,
        self_approval: SelfApproval::Refused,
        params: BTreeMap::new(),
        keep_all: true,
    };
    let mut first = node("before", Vec::new(), Section::Main, work(None));
    first.retry = Retry {
        attempts: 2,
        on: BTreeSet::from([Outcome::Failed]),
        backoff: Millis(0),
    };
    let reuse = Reuse {
        inputs: vec!["**".to_owned()],
        env: Vec::new(),
    };
    let nodes = vec![
        first,
        node("gate", vec![BEFORE], Section::Main, Body::Approve(gate)),
        node("behind", vec![GATE], Section::Main, work(Some(reuse))),
        node("last", Vec::new(), Section::Finally, work(None)),
    ];
    Arc::new(RunRequest {
        project: "tiny".parse().unwrap(),
        plan: Plan {
            pipeline: "tiny".parse().unwrap(),
            file: ".pipe/tiny.yaml".to_owned(),
            params: BTreeMap::new(),
            nodes,
            caches: BTreeMap::new(),
            max_parallel: None,
            on_failure: OnFailure::Stop,
            concurrency: None,
            features: Vec::new(),
            environments: BTreeMap::new(),
        },
        context: RunContext {
            event: TriggerEvent {
                kind: EventKind::Manual,
                revision: Revision {
                    repository: "tiny".to_owned(),
                    sha: None,
                    git_ref: None,
                    subject: String::new(),
                },
                schedule: None,
            },
            changed: Vec::new(),
        },
        group: None,
        adopted: None,
        earlier: Earlier::Adopt,
        origin: Origin::Repository,
        asked_before: std::collections::BTreeSet::new(),
    })
}

/// Everything that may be heard of a run in this state, sensible or not.
fn inputs(run: &Run) -> Vec<Input> {
    let mut inputs = vec![
        Input::CancelRequested(CancelReason::Asked),
        Input::DeadlineReached,
        Input::TurnGiven,
    ];
    for state in run.nodes() {
        if let NodeState::Running(live) = state {
            let attempt = live.attempt;
            for holder in ["one", "two"].map(|name| Holder(name.to_owned())) {
                for standings in standings(run, attempt) {
                    inputs.push(Input::TicketAsked {
                        attempt,
                        holder: holder.clone(),
                        standings,
                    });
                }
                for outcome in [AttemptOutcome::Succeeded, AttemptOutcome::Failed] {
                    let record = AttemptRecord::without_steps(outcome, "", Timestamp(0));
                    let seen = Seen::Finished {
                        holder: holder.clone(),
                        record: Box::new(record),
                    };
                    inputs.push(Input::AttemptObserved { attempt, seen });
                }
            }
            let seen = Seen::Gone {
                reason: String::new(),
            };
            inputs.push(Input::AttemptObserved { attempt, seen });
            let earlier = AdoptedNode {
                attempt: AttemptId {
                    run: RunId(0),
                    ..attempt
                },
                outputs: BTreeMap::new(),
                artifacts: Vec::new(),
            };
            for found in [None, Some(Box::new(earlier))] {
                inputs.push(Input::EarlierSought {
                    attempt,
                    inputs: Some(Digest::of(b"inputs")),
                    found,
                });
            }
        }
    }
    let subject = match run.node(GATE) {
        Some(NodeState::Deciding(gate)) => gate.subject.clone(),
        Some(_) | None => Digest::of(b"another"),
    };
    for verdict in [Verdict::Approve, Verdict::Reject] {
        for subject in [subject.clone(), Digest::of(b"something else")] {
            for person in ["ann", "bob"] {
                inputs.push(Input::GateDecided {
                    node: GATE,
                    verdict,
                    subject: subject.clone(),
                    comment: Some("so be it".to_owned()),
                    params: BTreeMap::new(),
                    standing: standing(person),
                });
            }
        }
    }
    inputs
}

/// Everybody is who they were, or they are gone, or nobody was asked.
fn standings(run: &Run, attempt: AttemptId) -> Vec<BTreeMap<Signature, Option<Standing>>> {
    let signed = approvers(run, attempt.node);
    if signed.is_empty() {
        return vec![BTreeMap::new()];
    }
    let all = |standing: &dyn Fn(&Name) -> Option<Standing>| {
        signed
            .iter()
            .map(|one| (one.clone(), standing(&one.person)))
            .collect()
    };
    vec![
        all(&|name| Some(standing(name.as_str()))),
        all(&|_| None),
        BTreeMap::new(),
    ]
}

fn standing(person: &str) -> Standing {
    Standing::Person(Person {
        name: person.parse().unwrap(),
        roles: BTreeSet::new(),
        identities: BTreeSet::new(),
        requester: Requester::Linked(ASKER.parse().unwrap()),
        unnamed: Unnamed::Counts,
        bypass: Bypass::Refused,
    })
}

fn holder(run: &Run, node: NodeId) -> Option<(AttemptId, &Holder)> {
    if let Some(NodeState::Running(live)) = run.node(node) {
        Some((live.attempt, live.phase.holder()?))
    } else {
        None
    }
}

/// What must hold of every step, whatever came before it.
fn check(before: &Run, input: &Input, facts: &[&Fact], after: &Run) {
    let ids = [BEFORE, GATE, BEHIND, LAST];
    for id in ids {
        let (old, new) = (before.node(id), after.node(id));
        let is_voided = facts
            .iter()
            .any(|fact| matches!(fact, Fact::GateVoided { node, .. } if *node == id));
        if let Some(old) = old.filter(|old| old.is_settled() && !is_voided) {
            assert_eq!(Some(old), new, "a settled node changed after {input:?}");
        }
        if let (Some(old), Some(new)) = (holder(before, id), holder(after, id))
            && old.0 == new.0
        {
            assert_eq!(old.1, new.1, "a ticket changed its holder after {input:?}");
        }
    }
    let succeeded = |id: NodeId| after.node(id).and_then(NodeState::outcome) == Some(Outcome::Succeeded);
    let was_stopping = matches!(before.phase(), Some(RunPhase::Stopping { .. }));
    for fact in facts {
        if let Fact::TicketGranted { attempt, .. } | Fact::NodeReused { attempt, .. } = fact {
            assert!(
                attempt.node != BEHIND || succeeded(GATE),
                "past a closed gate: {input:?}"
            );
            assert!(
                attempt.node == LAST || !was_stopping,
                "a start after a cancel: {input:?}"
            );
        }
        if let Fact::TicketGranted { attempt, .. } = fact {
            let seeks = before
                .live(*attempt)
                .is_some_and(|live| matches!(live.phase, AttemptPhase::Seeking { .. }));
            assert!(!seeks, "a ticket for what was not launched: {input:?}");
        }
        if let Fact::NodeReused { attempt, .. } = fact {
            assert!(attempt.node == BEHIND, "nothing else is reused: {input:?}");
        }
        if let Fact::GateApproved { person, .. } = fact {
            assert_ne!(
                person.as_ref().map(Name::as_str),
                Some(ASKER),
                "an approval of one's own"
            );
            assert!(!was_stopping, "an approval after a cancel: {input:?}");
        }
    }
    let moves = after.next_deadline().is_some()
        || after
            .nodes()
            .iter()
            .any(|state| matches!(state, NodeState::Running(live) if !matches!(live.phase, AttemptPhase::Launching { .. })));
    assert!(
        after.is_finished() || moves,
        "nothing will ever move it: {:?}",
        after.nodes()
    );
    let restored = serde_json::to_string(&Snapshot::from(after)).unwrap();
    let restored: Snapshot = serde_json::from_str(&restored).unwrap();
    assert_eq!(Run::from(restored), *after, "a crash changes the run");
}

#[test]
fn every_order_of_a_tiny_run_keeps_the_rules() {
    let created = Envelope {
        at: Timestamp(1_000),
        actor: Actor::user(ASKER),
        body: Input::RunRequested(request()),
    };
    let mut first = Run::new(RunId(1));
    for event in decide(&first, &created).unwrap().events {
        evolve(&mut first, &event);
    }
    let mut seen = BTreeSet::new();
    let (mut outcomes, mut reused) = (BTreeSet::new(), false);
    let mut open = VecDeque::from([(first, Timestamp(1_000), 0)]);
    while let Some((run, now, depth)) = open.pop_front() {
        for input in inputs(&run) {
            let at = match (&input, run.next_deadline()) {
                (Input::DeadlineReached, Some((due, _))) => due.max(now),
                _ => now,
            };
            let envelope = Envelope {
                at,
                actor: Actor::user(ASKER),
                body: input,
            };
            let decided = decide(&run, &envelope);
            assert!(
                !run.is_finished() || decided.is_err(),
                "a finished run takes inputs"
            );
            let Ok(decision) = decided else { continue };
            let mut after = run.clone();
            decision.events.iter().for_each(|event| evolve(&mut after, event));
            let facts: Vec<&Fact> = decision.events.iter().map(|event| &event.fact).collect();
            check(&run, &envelope.body, &facts, &after);
            outcomes.extend(after.outcome());
            reused |= facts.iter().any(|fact| matches!(fact, Fact::NodeReused { .. }));
            let key = Digest::of(&serde_json::to_vec(&(&Snapshot::from(&after), at)).unwrap());
            if depth < DEPTH && seen.insert(key) {
                open.push_back((after, at, depth + 1));
            }
        }
    }
    assert!(seen.len() > 1_000, "only {} states were reached", seen.len());
    assert!(reused, "no order reuses anything");
    for outcome in [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Rejected,
        Outcome::Cancelled,
        Outcome::Lost,
    ] {
        assert!(
            outcomes.contains(&outcome),
            "no order ends as {outcome}: {outcomes:?}"
        );
    }
}
