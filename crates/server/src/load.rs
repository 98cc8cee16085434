//! Runs as handlers see them: loaded from the store, folded by the engine.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pipekeeper_controller::{Handle, HeldPods, Layout, Locks, Obstacles};
use pipekeeper_engine::{Ahead, ClaimId, NodeState, Run, RunRequest, explain, replay};
use pipekeeper_model::{Actor, AttemptId, NodeId, RunId, TestCounts, TestDetails, Timestamp, plan::Node};
use pipekeeper_store::{RunStamp, Store};
use tokio::task::spawn_blocking;

use crate::error::ApiError;

/// A run at a version.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) run: Run,
    pub(crate) version: u64,
    pub(crate) quarantined: Option<String>,
    /// What keeps its attempts from starting.
    pub(crate) obstacles: Obstacles,
    /// Which of its pods are held for people.
    pub(crate) held: HeldPods,
    /// The locks that runs have and wait for.
    pub(crate) locks: Locks,
}

/// Runs that were looked at lately: folding one takes longer than all else about a page.
#[derive(Default)]
pub(crate) struct Recent {
    /// Newest last.
    runs: Mutex<VecDeque<Arc<Loaded>>>,
    obstacles: Obstacles,
    held: HeldPods,
    locks: Locks,
}

/// How many nodes the kept runs may have together.
const MOST_NODES: usize = 5_000;

impl Recent {
    pub(crate) fn new(handle: &Handle) -> Self {
        Self {
            obstacles: handle.obstacles(),
            held: handle.held(),
            locks: handle.locks(),
            ..Self::default()
        }
    }

    /// The newest state of a run that exists.
    pub(crate) async fn load(&self, store: &dyn Store, id: RunId) -> Result<Arc<Loaded>, ApiError> {
        let known = self.lock().iter().find(|known| known.run.id() == id).cloned();
        if let Some(known) = known {
            let is_newest =
                |stamp: RunStamp| stamp.version == known.version && stamp.quarantined == known.quarantined;
            if known.run.is_finished() || store.stamp(id).await?.is_some_and(is_newest) {
                return Ok(known);
            }
        }
        let loaded = Arc::new(Loaded {
            obstacles: self.obstacles.clone(),
            held: self.held.clone(),
            locks: self.locks.clone(),
            ..load(store, id).await?
        });
        self.keep(Arc::clone(&loaded));
        Ok(loaded)
    }

    fn keep(&self, loaded: Arc<Loaded>) {
        let mut runs = self.lock();
        runs.retain(|known| known.run.id() != loaded.run.id());
        runs.push_back(loaded);
        let mut nodes: usize = runs.iter().map(|known| known.run.nodes().len()).sum();
        while nodes > MOST_NODES
            && let Some(oldest) = runs.pop_front()
        {
            nodes -= oldest.run.nodes().len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Loaded>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads a run that exists.
pub(crate) async fn load(store: &dyn Store, id: RunId) -> Result<Loaded, ApiError> {
    let stored = store.load(id).await?.ok_or_else(|| no_run(id))?;
    let base = stored.snapshot.map_or_else(|| Run::new(id), Run::from);
    let run = replay(base, &stored.tail).map_err(|error| ApiError::internal(&error))?;
    Ok(Loaded {
        run,
        version: stored.version,
        quarantined: stored.quarantined,
        obstacles: Obstacles::default(),
        held: HeldPods::default(),
        locks: Locks::default(),
    })
}

pub(crate) fn no_run(id: RunId) -> ApiError {
    ApiError::not_found(format!("there is no run {id}"))
}

/// One node of a loaded run.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    pub(crate) id: NodeId,
    pub(crate) node: &'a Node,
    pub(crate) state: &'a NodeState,
}

impl Loaded {
    /// Why a node is where it is, with what is in its attempt's way, or whether its pod is held.
    pub(crate) fn why(&self, node: NodeRef<'_>) -> String {
        let why = explain(&self.run, node.id).to_string();
        if let Some(until) = self.held_until(node) {
            let (run, name, until) = (self.run.id(), &node.node.name, until.time_of_day());
            return format!("{why}; its pod is held until {until}: `pipe debug {run}/{name}`");
        }
        if let Some(line) = self.line(node) {
            return format!("{why}{line}");
        }
        match self.obstacle(node) {
            Some(obstacle) => format!("{why}: {obstacle}"),
            None => why,
        }
    }

    /// Who is in front of a node that waits for locks. Runs of other projects are not named.
    fn line(&self, node: NodeRef<'_>) -> Option<String> {
        let (NodeState::Ready { .. }, Some(hold)) = (node.state, node.node.hold) else {
            return None;
        };
        let claims = self.locks.claims();
        let run = self.run.id();
        let ahead = Ahead::of(&claims, ClaimId { run, hold })?;
        let project = &self.run.request()?.project;
        let mut line = String::new();
        for (key, claim) in &ahead.held {
            let who = if claim.project == *project {
                format!("run {} ({}/{})", claim.id.run, claim.pipeline, claim.action)
            } else {
                "a run of another project".to_owned()
            };
            let what = if ahead.held.len() == 1 {
                String::new()
            } else {
                format!("{key} ")
            };
            line.push_str(&format!(
                ", {what}held by {who} since {}",
                claim.since.time_of_day()
            ));
        }
        if ahead.before > 0 {
            line.push_str(&format!("; {} before it", ahead.before));
        }
        Some(line)
    }

    /// Until when the pod of a node's last attempt is held for people.
    fn held_until(&self, node: NodeRef<'_>) -> Option<Timestamp> {
        let NodeState::Done(ended) = node.state else {
            return None;
        };
        let attempt = node
            .last_attempt(self.run.id())
            .filter(|_| ended.adopted.is_none())?;
        self.held.until(attempt)
    }

    /// What keeps a node's attempt from starting.
    pub(crate) fn obstacle(&self, node: NodeRef<'_>) -> Option<String> {
        let NodeState::Running(live) = node.state else {
            return None;
        };
        self.obstacles.of(live.attempt)
    }

    pub(crate) fn request(&self) -> Result<&RunRequest, ApiError> {
        let request = self.run.request();
        request.map(AsRef::as_ref).ok_or_else(|| no_run(self.run.id()))
    }

    pub(crate) fn requested_by(&self) -> Result<(&Actor, Timestamp), ApiError> {
        self.run.requested_by().ok_or_else(|| no_run(self.run.id()))
    }

    /// Every node with its state, in the plan's order.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        nodes(&self.run)
    }

    /// The node of this full name.
    pub(crate) fn node(&self, name: &str) -> Result<NodeRef<'_>, ApiError> {
        self.nodes()
            .find(|node| node.node.name == name)
            .ok_or_else(|| ApiError::not_found(format!("run {} has no node `{name}`", self.run.id())))
    }
}

/// Every node of a run with its state, in the plan's order.
pub(crate) fn nodes(run: &Run) -> impl Iterator<Item = NodeRef<'_>> {
    let plan = run.plan();
    plan.into_iter()
        .flat_map(|plan| plan.ids().zip(&plan.nodes))
        .zip(run.nodes())
        .map(|((id, node), state)| NodeRef { id, node, state })
}

impl NodeRef<'_> {
    /// The attempt whose log stands for the node: its last one, or the one it was adopted from.
    pub(crate) fn last_attempt(&self, run: RunId) -> Option<AttemptId> {
        let own = |number| {
            (number > 0).then_some(AttemptId {
                run,
                node: self.id,
                number,
            })
        };
        match self.state {
            NodeState::Ready { tries, .. } | NodeState::Backoff { tries, .. } => own(tries.made()),
            NodeState::Running(live) => Some(live.attempt),
            NodeState::Done(ended) => match &ended.adopted {
                Some(from) => Some(from.attempt),
                None => own(ended.attempts),
            },
            NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Deciding(_)
            | NodeState::Skipped { .. } => None,
        }
    }

    /// One of the node's attempts: the last one unless a number is given.
    pub(crate) fn attempt(&self, run: RunId, number: Option<u32>) -> Result<AttemptId, ApiError> {
        let last = self.last_attempt(run).ok_or_else(|| {
            ApiError::not_found(format!("`{}` has made no attempt", self.node.name))
                .with_hint("a node has a log once an attempt of it was made")
        })?;
        match number {
            None => Ok(last),
            Some(number) if (1..=last.number).contains(&number) => Ok(AttemptId { number, ..last }),
            Some(number) => Err(ApiError::not_found(format!(
                "`{}` has no attempt {number}",
                self.node.name
            ))),
        }
    }
}

/// Reads files where that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let done = spawn_blocking(work)
        .await
        .map_err(|error| ApiError::internal(&error))?;
    done.map_err(|error| ApiError::internal(&error))
}

/// What is kept of an attempt's test reports; details that are no longer there are empty.
pub(crate) async fn test_details(layout: &Layout, counts: &TestCounts) -> Result<TestDetails, ApiError> {
    let path = layout.blob(&counts.details);
    blocking(move || match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(TestDetails::default()),
        Err(error) => Err(error),
    })
    .await
}
