//! Random plans, pushes and requests: shapes as the pipeline language makes them, drawn from the seed and a number.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use pipekeeper_engine::{Earlier, Group, Origin, RunRequest};
use pipekeeper_model::{
    Approver, EventKind, GitRef, Millis, Name, NodeId, Outcome, Plan, Revision, RunContext, TriggerEvent,
    plan::{
        Body, Checkout, Condition, Gate, Lock, LockScope, Node, OnFailure, OnNew, Place, PodFields,
        Promotion, Reports, Retry, Reuse, Script, Section, SelfApproval, Shell, Start, Step, SubPipeline,
        Sync, Wait, WaitFor, Work,
    },
};

use super::{Options, environments, rng::Rng};

/// What a delivery tells.
pub(crate) struct Push {
    pub(crate) git_ref: GitRef,
    pub(crate) sha: Option<pipekeeper_model::Sha>,
    pub(crate) is_broken: bool,
    pub(crate) requests: Vec<Arc<RunRequest>>,
}

/// A name that is known to be one.
pub(crate) fn name(text: &str) -> Name {
    match text.parse() {
        Ok(name) => name,
        Err(error) => unreachable!("{error}"),
    }
}

/// The push of this number: the same whenever it is asked for.
pub(crate) fn push(options: &Options, number: u64) -> Push {
    let mut rng = Rng::derived(options.seed, &[4, number]);
    let count = rng.pick(1, &[1, 1, 2, 0]);
    let requests = (0..count).map(|nth| request(options, number, nth)).collect();
    Push {
        git_ref: git_ref(number),
        sha: sha(number),
        is_broken: rng.chance(30),
        requests,
    }
}

fn git_ref(number: u64) -> GitRef {
    GitRef::Branch(if number.is_multiple_of(3) { "dev" } else { "main" }.to_owned())
}

fn sha(number: u64) -> Option<pipekeeper_model::Sha> {
    format!("{:040x}", number + 1).parse().ok()
}

/// One run of a push.
pub(crate) fn request(options: &Options, number: u64, nth: u64) -> Arc<RunRequest> {
    let mut rng = Rng::derived(options.seed, &[5, number, nth]);
    let places = Rng::derived(options.seed, &[12, number, nth]);
    let rules = Rng::derived(options.seed, &[9, number, nth]);
    let locks = Rng::derived(options.seed, &[10, number, nth]);
    let pipeline = name(&format!("pipeline{}", rng.below(2)));
    let group = rng.chance(550).then(|| {
        let (key, on_new) = rng.pick(
            ("running", OnNew::CancelRunning),
            &[("waiting", OnNew::CancelWaiting), ("queue", OnNew::Queue)],
        );
        Group {
            key: key.to_owned(),
            on_new,
        }
    });
    Arc::new(RunRequest {
        project: super::intake::project(number),
        plan: environments::placed(
            locked(Planner::new(options, rng, rules).plan(pipeline), locks, options),
            places,
        ),
        context: RunContext {
            event: TriggerEvent {
                kind: EventKind::Push,
                revision: Revision {
                    repository: "sim/sim".to_owned(),
                    sha: sha(number),
                    git_ref: Some(git_ref(number)),
                    subject: format!("push {number} run {nth}"),
                },
                schedule: None,
            },
            changed: Vec::new(),
        },
        group,
        adopted: None,
        earlier: Earlier::Adopt,
        origin: Origin::Repository,
        asked_before: std::collections::BTreeSet::new(),
    })
}

struct Planner {
    rng: Rng,
    /// For who decides at gates.
    rules: Rng,
    slow: bool,
    limit: usize,
    nodes: Vec<Node>,
}

impl Planner {
    fn new(options: &Options, mut rng: Rng, rules: Rng) -> Self {
        let limit = rng.between(1, u64::from(options.nodes.max(1)));
        Self {
            slow: options.is_slow(),
            limit: usize::try_from(limit).unwrap_or(1),
            rng,
            rules,
            nodes: Vec::new(),
        }
    }

    fn plan(mut self, pipeline: Name) -> Plan {
        self.serial(0, &[]);
        if self.nodes.is_empty() {
            self.entry(Section::Main, Vec::new());
        }
        for _ in 0..self.rng.pick(0, &[0, 1, 2]) {
            let before: Vec<NodeId> = self.of(Section::Finally);
            let needs = if self.rng.chance(300) { before } else { Vec::new() };
            self.entry(Section::Finally, needs);
        }
        let max_parallel = self.rng.chance(400).then(|| self.rng.below(3) as u32 + 1);
        let on_failure = self.rng.pick(OnFailure::Stop, &[OnFailure::Continue]);
        Plan {
            pipeline,
            file: ".pipe/sim.yaml".to_owned(),
            params: BTreeMap::new(),
            nodes: self.nodes,
            caches: BTreeMap::new(),
            max_parallel,
            on_failure,
            concurrency: None,
            features: Vec::new(),
            environments: BTreeMap::new(),
        }
    }

    fn of(&self, section: Section) -> Vec<NodeId> {
        let numbered = (0..).map(NodeId).zip(&self.nodes);
        numbered
            .filter(|(_, node)| node.section == section)
            .map(|(id, _)| id)
            .collect()
    }

    /// A list whose entries wait for each other.
    fn serial(&mut self, depth: u32, outer: &[NodeId]) -> Vec<NodeId> {
        let mut before: Vec<NodeId> = Vec::new();
        let mut last: Vec<NodeId> = Vec::new();
        for _ in 0..self.rng.between(1, 5) {
            let needs = match self.rng.below(10) {
                0..=1 if !before.is_empty() => self.some_of(&before, outer),
                2..=5 if !last.is_empty() => last.clone(),
                _ => outer.iter().chain(&before).copied().collect(),
            };
            last = self.member(depth, needs);
            before.extend(&last);
        }
        before
    }

    fn parallel(&mut self, depth: u32, outer: &[NodeId]) -> Vec<NodeId> {
        let count = self.rng.between(2, 4);
        (0..count)
            .flat_map(|_| self.member(depth, outer.to_vec()))
            .collect()
    }

    /// An explicit `needs`: some of the nodes before; gates before still stand in front.
    fn some_of(&mut self, before: &[NodeId], outer: &[NodeId]) -> Vec<NodeId> {
        let is_gate = |id: &NodeId| {
            self.nodes
                .get(id.index())
                .is_some_and(|node| matches!(node.body, Body::Approve(_)))
        };
        let gates: Vec<NodeId> = outer.iter().chain(before).copied().filter(is_gate).collect();
        let chosen: Vec<NodeId> = before.iter().copied().filter(|_| self.rng.chance(500)).collect();
        gates.into_iter().chain(chosen).collect()
    }

    fn member(&mut self, depth: u32, needs: Vec<NodeId>) -> Vec<NodeId> {
        if self.nodes.len() >= self.limit {
            return Vec::new();
        }
        match self.rng.below(10) {
            0..=1 if depth < 3 => self.parallel(depth + 1, &needs),
            2 if depth < 3 => {
                // An inner list stands in for its group: what follows waits for all of it.
                self.serial(depth + 1, &needs)
            }
            _ => self.entry(Section::Main, needs),
        }
    }

    /// One action: a node, or the cells of its matrix.
    fn entry(&mut self, section: Section, mut needs: Vec<NodeId>) -> Vec<NodeId> {
        needs.sort_unstable();
        needs.dedup();
        let action = name(&format!("a{}", self.nodes.len()));
        let template = self.node(section, needs, &action);
        let is_work = matches!(template.body, Body::Work(_));
        let cells = if is_work && self.rng.chance(150) { 2 } else { 0 };
        if cells == 0 {
            self.nodes.push(template);
            return vec![self.newest()];
        }
        let cell = |value: &str| Node {
            name: format!("{action}[x={value}]"),
            cell: BTreeMap::from([(name("x"), value.to_owned())]),
            ..template.clone()
        };
        let (first, second) = (cell("one"), cell("two"));
        self.nodes.push(first);
        let first = self.newest();
        self.nodes.push(second);
        vec![first, self.newest()]
    }

    fn newest(&self) -> NodeId {
        NodeId(u32::try_from(self.nodes.len().saturating_sub(1)).unwrap_or(0))
    }

    fn node(&mut self, section: Section, needs: Vec<NodeId>, action: &Name) -> Node {
        let conditions = self.conditions(section, &needs);
        let body = match (section, self.rng.below(100)) {
            (Section::Finally, _) | (Section::Main, 0..=71) => {
                Body::Work(Box::new(self.work(section, &needs)))
            }
            (Section::Main, 72..=88) => Body::Approve(self.gate()),
            (Section::Main, 89..=94) => Body::Wait(Wait {
                wait_for: self.wait(),
            }),
            (Section::Main, 95..=96) => Body::Promote(Promotion {
                environment: name("dev"),
                images: Vec::new(),
                tag_only: false,
            }),
            (Section::Main, 97) => Body::Sync(Sync::App { app: name("shop") }),
            (Section::Main, _) => Body::Call(SubPipeline {
                pipeline: name("other"),
                with: BTreeMap::new(),
            }),
        };
        let is_gate = matches!(body, Body::Approve(_));
        let timeout = match (is_gate, self.slow && self.rng.chance(300)) {
            (true, true) => Millis::days(7),
            (true, false) => self
                .rng
                .pick(Millis::minutes(1), &[Millis::minutes(20), Millis::hours(2)]),
            (false, _) => self
                .rng
                .pick(Millis::seconds(20), &[Millis::minutes(3), Millis::minutes(20)]),
        };
        Node {
            name: action.to_string(),
            action: action.clone(),
            cell: BTreeMap::new(),
            groups: Vec::new(),
            needs,
            conditions,
            start: self.start(section),
            section,
            allow_failure: self.rng.chance(150),
            timeout,
            retry: self.retry(),
            locks: Vec::new(),
            hold: None,
            place: Place { line: 1, column: 1 },
            body,
        }
    }

    fn conditions(&mut self, section: Section, needs: &[NodeId]) -> Vec<Condition> {
        if !self.rng.chance(250) {
            return Vec::new();
        }
        let known = self.settled_actions(needs);
        let expression = match (self.rng.below(6), known.is_empty()) {
            (0, _) => "false".to_owned(),
            (1, _) => "branch == \"main\"".to_owned(),
            (2, _) if section == Section::Finally => "run.outcome != \"succeeded\"".to_owned(),
            (3..=5, false) => {
                let action = known
                    .get(self.rng.index(known.len()))
                    .cloned()
                    .unwrap_or_default();
                let operator = self.rng.pick("==", &["!="]);
                let outcome = self.rng.pick(
                    Outcome::Succeeded,
                    &[Outcome::Failed, Outcome::Rejected, Outcome::Skipped],
                );
                format!("actions.{action}.outcome {operator} \"{}\"", outcome.as_str())
            }
            _ => "true".to_owned(),
        };
        let judges_outcomes = expression.starts_with("actions.");
        vec![Condition {
            expression,
            judges_outcomes,
        }]
    }

    /// The actions all of whose cells are settled when these needs are.
    fn settled_actions(&self, needs: &[NodeId]) -> Vec<String> {
        let before = before(&self.nodes, needs);
        let all_in = |action: &Name| {
            (0..)
                .map(NodeId)
                .zip(&self.nodes)
                .filter(|(_, node)| node.action == *action)
                .all(|(id, _)| before.contains(&id))
        };
        let actions: BTreeSet<&Name> = before
            .iter()
            .filter_map(|id| self.nodes.get(id.index()))
            .map(|node| &node.action)
            .collect();
        actions
            .into_iter()
            .filter(|action| all_in(action))
            .map(ToString::to_string)
            .collect()
    }

    fn work(&mut self, section: Section, needs: &[NodeId]) -> Work {
        let may_reuse = section == Section::Main && self.rng.chance(300);
        let mut env = BTreeMap::new();
        let known = self.settled_actions(needs);
        if !known.is_empty() && self.rng.chance(60) {
            let action = known
                .get(self.rng.index(known.len()))
                .cloned()
                .unwrap_or_default();
            env.insert("K".to_owned(), format!("${{{{ actions.{action}.outputs.k }}}}"));
        }
        Work {
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
            env,
            checkout: self.rng.pick(Checkout::None, &[Checkout::Files]),
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
            log_limit: 1_000,
            reuse: may_reuse.then(|| Reuse {
                inputs: vec!["src/**".to_owned()],
                env: Vec::new(),
            }),
        }
    }

    fn gate(&mut self) -> Gate {
        Gate {
            text: "go on?".to_owned(),
            by: self.approvers(),
            count: self.rng.pick(1, &[1, 2]),
            self_approval: self.rules.pick(SelfApproval::Refused, &[SelfApproval::Allowed]),
            params: BTreeMap::new(),
            keep_all: self.rng.chance(300),
        }
    }

    fn approvers(&mut self) -> Vec<Approver> {
        match self.rules.below(5) {
            0 => vec![Approver::Role(name("ops"))],
            1 => vec![Approver::Role(name("dev")), Approver::User(name("zoe"))],
            _ => Vec::new(),
        }
    }

    fn wait(&mut self) -> WaitFor {
        match self.rng.below(4) {
            0..=1 => WaitFor::Elapsed {
                length: Millis(self.rng.pick(0, &[1_000, 90_000])),
            },
            2 => WaitFor::Between {
                from: "09:00".to_owned(),
                to: "11:00".to_owned(),
                timezone: "UTC".to_owned(),
            },
            _ => WaitFor::At {
                time: "10:30".to_owned(),
                timezone: "Europe/Berlin".to_owned(),
            },
        }
    }

    fn start(&mut self, section: Section) -> Start {
        match (section, self.rng.below(100)) {
            (Section::Main, 0..=4) => Start::Manual,
            (Section::Main, 5..=9) => Start::Confirm {
                by_other: self.rng.chance(500),
            },
            (Section::Main, 10..=13) => Start::Timed(self.wait()),
            (Section::Main | Section::Finally, _) => Start::Auto,
        }
    }

    fn retry(&mut self) -> Retry {
        if !self.rng.chance(300) {
            return Retry::default();
        }
        let all = [
            Outcome::Failed,
            Outcome::Lost,
            Outcome::TimedOut,
            Outcome::Errored,
        ];
        Retry {
            attempts: self.rng.pick(2, &[3]),
            on: all.into_iter().filter(|_| self.rng.chance(600)).collect(),
            backoff: Millis(self.rng.pick(0, &[500, 20_000])),
        }
    }
}

/// The same plan with locks around some entries: neighbours in the order of the file, as groups hold them.
fn locked(mut plan: Plan, mut rng: Rng, options: &Options) -> Plan {
    let (share, lock): (u32, fn(&mut Rng) -> Lock) = if options.is_crowded() {
        (900, common_lock)
    } else {
        (400, lock)
    };
    if !rng.chance(share) {
        return plan;
    }
    let mut at = 0;
    while at < plan.nodes.len() {
        let length = rng.pick(1, &[1, 2, 3]);
        let is_locked = rng.chance(share);
        let locks: Vec<Lock> = (0..rng.pick(1, &[1, 2])).map(|_| lock(&mut rng)).collect();
        let hold = NodeId(u32::try_from(at).unwrap_or(0));
        let section = plan.nodes.get(at).map(|node| node.section);
        for node in plan.nodes.iter_mut().skip(at).take(length) {
            if is_locked && Some(node.section) == section {
                node.hold = Some(hold);
                node.locks.clone_from(&locks);
            }
        }
        at += length;
    }
    plan
}

fn lock(rng: &mut Rng) -> Lock {
    Lock {
        name: name(rng.pick("db", &["net", "prod"])),
        slots: rng.pick(1, &[1, 2]),
        newest_first: rng.chance(200),
        yields_at_gate: rng.chance(500),
        scope: rng.pick(LockScope::Project, &[LockScope::Project, LockScope::Server]),
    }
}

/// The lock of a crowded world.
fn common_lock(rng: &mut Rng) -> Lock {
    Lock {
        name: name("db"),
        slots: 1,
        newest_first: false,
        yields_at_gate: rng.chance(100),
        scope: LockScope::Server,
    }
}

/// Everything that some needs stand on, themselves included.
pub(crate) fn before(nodes: &[Node], needs: &[NodeId]) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut open = needs.to_vec();
    while let Some(id) = open.pop() {
        if found.insert(id) {
            open.extend(nodes.get(id.index()).into_iter().flat_map(|node| &node.needs));
        }
    }
    found
}
