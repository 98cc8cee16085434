//! Plans in a line and runs that are driven by verbs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_model::{
    Actor, AttemptId, AttemptOutcome, AttemptRecord, EventKind, GitRef, Holder, Millis, Name, NodeId,
    Outcome, Plan, Revision, RunContext, RunId, Timestamp, TriggerEvent,
    plan::{
        Body, Checkout, Condition, Gate, Node, OnFailure, Place, PodFields, Reports, Retry, Reuse, Section,
        SelfApproval, Start, Wait, WaitFor, Work, defaults,
    },
};

use crate::{
    Bypass, CancelReason, Decision, Earlier, Effect, Envelope, Event, Input, Look, NodeState, Origin, Person,
    Rejection, Requester, Run, RunPhase, RunRequest, Seen, Snapshot, Standing, Unnamed, Verdict, approvers,
    decide, evolve, replay,
};

/// A node with the given needs, by index.
pub(super) fn node(name: &str, needs: &[u32]) -> Node {
    let work = Work {
        steps: Vec::new(),
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
        log_limit: defaults::LOG_LIMIT,
        reuse: None,
    };
    Node {
        name: name.to_owned(),
        action: name.parse().unwrap(),
        cell: BTreeMap::new(),
        groups: Vec::new(),
        needs: needs.iter().copied().map(NodeId).collect(),
        conditions: Vec::new(),
        start: Start::Auto,
        section: Section::Main,
        allow_failure: false,
        timeout: defaults::TIMEOUT,
        retry: Retry::default(),
        locks: Vec::new(),
        hold: None,
        place: Place { line: 1, column: 1 },
        body: Body::Work(Box::new(work)),
    }
}

pub(super) fn gate(name: &str, needs: &[u32], count: u32) -> Node {
    let rule = Gate {
        text: "?".to_owned(),
        by: Vec::new(),
        count,
        self_approval: SelfApproval::Refused,
        params: BTreeMap::new(),
        keep_all: true,
    };
    Node {
        body: Body::Approve(rule),
        timeout: defaults::GATE,
        ..node(name, needs)
    }
}

/// A person with roles, in a run that somebody known here asked for.
pub(super) fn person(name: &str, roles: &[&str], requester: Requester) -> Standing {
    Standing::Person(Person {
        name: name.parse().unwrap(),
        roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
        identities: BTreeSet::new(),
        requester,
        unnamed: Unnamed::Counts,
        bypass: Bypass::Refused,
    })
}

pub(super) fn wait(name: &str, needs: &[u32], length: Millis) -> Node {
    Node {
        body: Body::Wait(Wait {
            wait_for: WaitFor::Elapsed { length },
        }),
        ..node(name, needs)
    }
}

pub(super) fn when(expression: &str, node: Node) -> Node {
    let judges_outcomes = expression.contains(".outcome") && !expression.contains("run.outcome");
    let condition = Condition {
        expression: expression.to_owned(),
        judges_outcomes,
    };
    Node {
        conditions: vec![condition],
        ..node
    }
}

pub(super) fn finally(node: Node) -> Node {
    Node {
        section: Section::Finally,
        ..node
    }
}

pub(super) fn retried(attempts: u32, node: Node) -> Node {
    let on = [Outcome::Failed, Outcome::Lost].into();
    Node {
        retry: Retry {
            attempts,
            on,
            backoff: Millis::seconds(10),
        },
        ..node
    }
}

/// A node that an earlier success may stand in for.
pub(super) fn reusing(node: Node) -> Node {
    let Body::Work(mut work) = node.body else {
        panic!("only work is reused")
    };
    work.reuse = Some(Reuse {
        inputs: vec!["src/**".to_owned()],
        env: Vec::new(),
    });
    Node {
        body: Body::Work(work),
        ..node
    }
}

pub(super) fn plan(nodes: Vec<Node>) -> Plan {
    Plan {
        pipeline: "web".parse().unwrap(),
        file: ".pipe/web.yaml".to_owned(),
        params: BTreeMap::new(),
        nodes,
        caches: BTreeMap::new(),
        max_parallel: None,
        on_failure: OnFailure::Stop,
        concurrency: None,
        features: Vec::new(),
        environments: BTreeMap::new(),
    }
}

pub(super) fn request(plan: Plan) -> RunRequest {
    let revision = Revision {
        repository: "mall/web".to_owned(),
        sha: None,
        git_ref: Some(GitRef::Branch("main".to_owned())),
        subject: "Sell more".to_owned(),
    };
    let event = TriggerEvent {
        kind: EventKind::Push,
        revision,
        schedule: None,
    };
    RunRequest {
        project: "mall".parse().unwrap(),
        plan,
        context: RunContext {
            event,
            changed: Vec::new(),
        },
        group: None,
        adopted: None,
        earlier: Earlier::Adopt,
        origin: Origin::Repository,
        asked_before: std::collections::BTreeSet::new(),
    }
}

/// A run with its log, driven by verbs; every step proves that folding and replaying agree.
pub(super) struct Driven {
    pub(super) run: Run,
    pub(super) log: Vec<Event>,
    pub(super) effects: Vec<Effect>,
    pub(super) now: Timestamp,
    pub(super) actor: Actor,
}

impl Driven {
    pub(super) fn plan(nodes: Vec<Node>) -> Self {
        Self::request(request(plan(nodes)))
    }

    pub(super) fn request(request: RunRequest) -> Self {
        let mut driven = Self::empty();
        driven.give(Input::RunRequested(Arc::new(request))).unwrap();
        driven
    }

    pub(super) fn empty() -> Self {
        Self {
            run: Run::new(RunId(7)),
            log: Vec::new(),
            effects: Vec::new(),
            now: Timestamp(1_000_000),
            actor: Actor::user("ada"),
        }
    }

    pub(super) fn give(&mut self, input: Input) -> Result<(), Rejection> {
        let envelope = Envelope {
            at: self.now,
            actor: self.actor.clone(),
            body: input,
        };
        let Decision { events, effects } = decide(&self.run, &envelope)?;
        for event in &events {
            evolve(&mut self.run, event);
            assert_eq!(&stored(event), event, "a store would change the event");
        }
        for effect in &effects {
            assert_eq!(&stored(effect), effect, "a store would change the effect");
        }
        let snapshot = Snapshot::from(&self.run);
        assert_eq!(stored(&snapshot), snapshot, "a store would change the snapshot");
        self.log.extend(events);
        self.effects.extend(effects);
        assert_eq!(
            replay(Run::new(RunId(7)), &self.log).as_ref(),
            Ok(&self.run),
            "replay differs from the fold"
        );
        Ok(())
    }

    pub(super) fn id(&self, name: &str) -> NodeId {
        self.run.plan().unwrap().find(name).unwrap()
    }

    pub(super) fn attempt(&self, name: &str, number: u32) -> AttemptId {
        AttemptId {
            run: RunId(7),
            node: self.id(name),
            number,
        }
    }

    pub(super) fn state(&self, name: &str) -> &NodeState {
        self.run.node(self.id(name)).unwrap()
    }

    pub(super) fn word(&self, name: &str) -> &'static str {
        self.state(name).word()
    }

    pub(super) fn live(&self, name: &str) -> AttemptId {
        let NodeState::Running(live) = self.state(name) else {
            panic!("{name} is {}", self.word(name))
        };
        live.attempt
    }

    /// A ticket is asked for while everybody is still who they were.
    pub(super) fn ticket(&mut self, name: &str) -> Result<(), Rejection> {
        let signed = approvers(&self.run, self.id(name));
        let still = signed
            .into_iter()
            .map(|signed| (signed.person, Some(Standing::Owner)));
        self.ticket_while(name, still.collect())
    }

    /// A ticket is asked for while people stand like this.
    pub(super) fn ticket_while(
        &mut self,
        name: &str,
        standings: BTreeMap<Name, Option<Standing>>,
    ) -> Result<(), Rejection> {
        let attempt = self.live(name);
        let signed = approvers(&self.run, attempt.node).into_iter();
        let standings = signed.filter_map(|signed| {
            let standing = standings.get(&signed.person)?.clone();
            Some((signed, standing))
        });
        let standings = standings.collect();
        self.give(Input::TicketAsked {
            attempt,
            holder: holder(attempt),
            standings,
        })
    }

    /// Lets a node's attempt run and end.
    pub(super) fn end(&mut self, name: &str, outcome: AttemptOutcome) {
        self.ticket(name).unwrap();
        self.finish(name, outcome).unwrap();
    }

    pub(super) fn finish(&mut self, name: &str, outcome: AttemptOutcome) -> Result<(), Rejection> {
        let attempt = self.live(name);
        let mut record = AttemptRecord::without_steps(outcome, "as the test says", self.now);
        record.outputs.insert("version".to_owned(), "1.2".into());
        let seen = Seen::Finished {
            holder: holder(attempt),
            record: Box::new(record),
        };
        self.give(Input::AttemptObserved { attempt, seen })
    }

    pub(super) fn gone(&mut self, name: &str) {
        let attempt = self.live(name);
        let seen = Seen::Gone {
            reason: "its host vanished".to_owned(),
        };
        self.give(Input::AttemptObserved { attempt, seen }).unwrap();
    }

    /// A decision where people are not known.
    pub(super) fn decide_gate(&mut self, name: &str, verdict: Verdict) -> Result<(), Rejection> {
        self.decide_as(name, verdict, Standing::Owner)
    }

    /// A decision of somebody, under their own name.
    pub(super) fn decide_as(
        &mut self,
        name: &str,
        verdict: Verdict,
        standing: Standing,
    ) -> Result<(), Rejection> {
        if let Some(person) = standing.person() {
            self.actor = Actor::user(person.name.as_str());
        }
        self.decide_under(name, verdict, standing)
    }

    /// A decision of somebody, by whatever the actor is called.
    pub(super) fn decide_under(
        &mut self,
        name: &str,
        verdict: Verdict,
        standing: Standing,
    ) -> Result<(), Rejection> {
        let NodeState::Deciding(open) = self.state(name) else {
            panic!("{name} is {}", self.word(name))
        };
        let subject = open.subject.clone();
        self.give(Input::GateDecided {
            node: self.id(name),
            verdict,
            subject,
            comment: Some("as the test says".to_owned()),
            params: BTreeMap::new(),
            standing,
        })
    }

    pub(super) fn press(&mut self, name: &str, look: Look) -> Result<(), Rejection> {
        self.press_as(name, look, Standing::Owner)
    }

    /// Somebody presses start, by whatever the actor is called.
    pub(super) fn press_as(&mut self, name: &str, look: Look, standing: Standing) -> Result<(), Rejection> {
        self.give(Input::StartPressed {
            node: self.id(name),
            look,
            standing,
        })
    }

    pub(super) fn cancel(&mut self) -> Result<(), Rejection> {
        self.give(Input::CancelRequested(CancelReason::Asked))
    }

    /// Lets time pass up to the next deadline, and past it.
    pub(super) fn pass_deadline(&mut self) {
        let (at, _) = self.run.next_deadline().expect("nothing is waited for");
        self.now = at;
        self.give(Input::DeadlineReached).unwrap();
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.run.outcome()
    }

    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.run.phase(), Some(RunPhase::Stopping { .. }))
    }

    pub(super) fn launches(&self) -> usize {
        self.effects
            .iter()
            .filter(|effect| matches!(effect, Effect::LaunchAttempt { .. }))
            .count()
    }
}

/// What comes back from a store that keeps JSON.
fn stored<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

pub(super) fn holder(attempt: AttemptId) -> Holder {
    Holder(format!("supervisor of {attempt}"))
}
