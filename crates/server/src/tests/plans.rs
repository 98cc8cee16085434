//! Plans to run: nodes in a line, and requests for them.

use std::collections::BTreeMap;

use pipekeeper_engine::{Earlier, Origin, RunRequest};
use pipekeeper_model::{
    EventKind, GitRef, NodeId, Plan, Revision, RunContext, TriggerEvent,
    plan::{
        Body, Checkout, Gate, Node, OnFailure, Place, PodFields, Reports, Retry, Reuse, Section,
        SelfApproval, Start, Work, defaults,
    },
};

pub(super) fn work(name: &str, needs: &[u32]) -> Node {
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
        action: name.split('[').next().unwrap().parse().unwrap(),
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

pub(super) fn gate(name: &str, needs: &[u32], text: &str) -> Node {
    let rule = Gate {
        text: text.to_owned(),
        by: Vec::new(),
        count: 1,
        self_approval: SelfApproval::Refused,
        params: BTreeMap::new(),
        keep_all: true,
    };
    Node {
        body: Body::Approve(rule),
        timeout: defaults::GATE,
        ..work(name, needs)
    }
}

/// A node that an earlier success with the same inputs stands in for.
pub(super) fn reusing(inputs: &str, node: Node) -> Node {
    let Body::Work(mut work) = node.body else {
        panic!("only work is reused")
    };
    work.reuse = Some(Reuse {
        inputs: vec![inputs.to_owned()],
        env: Vec::new(),
    });
    Node {
        body: Body::Work(work),
        ..node
    }
}

pub(super) fn manual(node: Node) -> Node {
    Node {
        start: Start::Manual,
        ..node
    }
}

pub(super) fn request(subject: &str, branch: &str, nodes: Vec<Node>) -> RunRequest {
    let plan = Plan {
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
    };
    let revision = Revision {
        repository: "mall/web".to_owned(),
        sha: Some("0123456789012345678901234567890123456789".parse().unwrap()),
        git_ref: Some(GitRef::Branch(branch.to_owned())),
        subject: subject.to_owned(),
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
