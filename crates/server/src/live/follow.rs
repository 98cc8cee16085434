//! A run being followed: its state folded from the controller's news, and one node's log.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use axum::response::sse::Event;
use pipekeeper_controller::{AttemptNews, Layout, News};
use pipekeeper_engine::{Run, evolve};
use pipekeeper_model::{AttemptId, Name, NodeId, RunId};
use pipekeeper_store::Store;
use serde::Serialize;
use tracing::warn;

use crate::{
    api::wire::{NodeResponse, phase_word},
    error::ApiError,
    load::{Loaded, NodeRef, load, nodes},
};

use super::{
    cursor::{BadCursor, Cursor, LogPlace},
    event, json,
    tail::{LogForm, Read, Tail},
};

/// A run with what its reader knows of it.
pub(super) struct Follow {
    run: Run,
    version: u64,
    /// What the reader was told of each node.
    told: Vec<NodeResponse>,
    log: Option<FollowedLog>,
    queue: VecDeque<Queued>,
    /// The nodes whose changes are not told.
    changed: Changed,
    /// When all nodes were last compared.
    compared: Instant,
    /// The version that the events sent so far lead to.
    sent: u64,
}

/// What may have changed.
#[derive(Debug)]
enum Changed {
    Nothing,
    Nodes(BTreeSet<NodeId>),
    Everything,
}

/// Up to so many nodes all are compared at each change. In larger runs the nodes that an event is about are compared at
/// once, and the words about all others at most once in a while: many people may look on.
const FEW_NODES: usize = 100;
const WHILE: Duration = Duration::from_secs(1);

/// An event that waits until the log is sent; its id is made when it goes out.
struct Queued {
    kind: &'static str,
    data: String,
    /// The version that a reader knows once it has it.
    version: Option<u64>,
}

struct FollowedLog {
    node: NodeId,
    name: String,
    form: LogForm,
    layout: Layout,
    tail: Option<Tail>,
}

#[derive(Serialize)]
struct RunChangedResponse<'a> {
    run: RunId,
    version: u64,
    phase: &'static str,
    outcome: Option<&'static str>,
    /// The nodes that changed.
    nodes: Vec<&'a NodeResponse>,
}

#[derive(Serialize)]
struct NoteResponse<'a> {
    node: &'a str,
    attempt: u32,
    text: String,
}

#[derive(Serialize)]
struct ResyncResponse {
    run: RunId,
    version: u64,
}

impl Changed {
    fn add(&mut self, node: Option<NodeId>) {
        match (&mut *self, node) {
            (Self::Everything, _) => {}
            (_, None) => *self = Self::Everything,
            (Self::Nothing, Some(node)) => *self = Self::Nodes(BTreeSet::from([node])),
            (Self::Nodes(nodes), Some(node)) => {
                nodes.insert(node);
            }
        }
    }
}

impl Follow {
    /// Follows a run from where the reader is.
    pub(super) fn new(
        loaded: Loaded,
        node: Option<&str>,
        cursor: Option<Result<Cursor, BadCursor>>,
        form: LogForm,
        layout: Layout,
    ) -> Result<Self, ApiError> {
        let place = match &cursor {
            Some(Ok(cursor)) => cursor.log,
            Some(Err(_)) | None => None,
        };
        let log = match node {
            Some(name) => {
                let node = loaded.node(name)?;
                let mut log = FollowedLog {
                    node: node.id,
                    name: name.to_owned(),
                    form,
                    layout,
                    tail: None,
                };
                log.place(loaded.run.id(), node, place);
                Some(log)
            }
            None => None,
        };
        let mut follow = Self {
            run: loaded.run,
            version: loaded.version,
            told: Vec::new(),
            log,
            queue: VecDeque::new(),
            changed: Changed::Nothing,
            compared: Instant::now(),
            sent: 0,
        };
        match cursor {
            Some(Ok(cursor)) if cursor.version == follow.version => {
                follow.told = follow.responses();
                follow.sent = follow.version;
            }
            Some(Ok(cursor)) if cursor.version < follow.version => follow.tell_all(),
            Some(Ok(_) | Err(_)) => follow.resync(),
            None => follow.tell_all(),
        }
        Ok(follow)
    }

    /// The project of the run.
    pub(super) fn project(&self) -> Option<Name> {
        self.run.request().map(|request| request.project.clone())
    }

    pub(super) fn id(&self) -> RunId {
        self.run.id()
    }

    /// Takes the state from the store after news were missed.
    pub(super) fn reload(&mut self, loaded: Loaded) {
        self.run = loaded.run;
        self.version = loaded.version;
        self.wake();
        self.resync();
    }

    /// Takes in one piece of news.
    pub(super) async fn hear(&mut self, news: News, store: &dyn Store) -> Result<(), ApiError> {
        match news {
            News::Run { run, version, events } if run == self.id() && version > self.version => {
                let new = version - self.version;
                let skip = u64::try_from(events.len())
                    .ok()
                    .and_then(|count| count.checked_sub(new));
                match skip.and_then(|skip| usize::try_from(skip).ok()) {
                    Some(skip) => {
                        for event in events.iter().skip(skip) {
                            evolve(&mut self.run, event);
                            self.changed.add(event.fact.node());
                        }
                        self.version = version;
                    }
                    None => {
                        let loaded = load(store, run).await?;
                        self.run = loaded.run;
                        self.version = loaded.version;
                        self.changed = Changed::Everything;
                    }
                }
                self.wake();
            }
            News::Attempt { attempt, what } if attempt.run == self.id() => self.note(attempt, &what),
            News::Elsewhere => self.wake(),
            News::Run { .. } | News::Attempt { .. } | News::Delivery(_) => {}
        }
        Ok(())
    }

    /// The next event: log bytes go before what the run did after they were written.
    pub(super) async fn next_event(&mut self) -> Option<Event> {
        let is_small = self.run.nodes().len() <= FEW_NODES;
        match std::mem::replace(&mut self.changed, Changed::Nothing) {
            Changed::Nothing => {}
            Changed::Nodes(nodes) if !is_small && self.compared.elapsed() < WHILE => self.tell_of(&nodes),
            Changed::Nodes(_) | Changed::Everything => self.tell_changes(),
        }
        if let Some(event) = self.log_event().await {
            return Some(event);
        }
        let queued = self.queue.pop_front()?;
        let event = event(queued.kind, queued.data);
        Some(match queued.version {
            Some(version) => {
                self.sent = version;
                event.id(self.cursor().to_string())
            }
            None => event,
        })
    }

    /// The next piece of the log.
    async fn log_event(&mut self) -> Option<Event> {
        let log = self.log.as_mut()?;
        let tail = log.tail.as_mut()?;
        let is_over = nodes(&self.run)
            .find(|node| node.id == log.node)
            .is_none_or(|node| {
                node.state.is_settled() || node.last_attempt(self.run.id()) != Some(tail.attempt())
            });
        let read = match tail.read(&log.name, is_over).await {
            Ok(read) => read?,
            Err(error) => {
                warn!(%error, attempt = %tail.attempt(), "a log cannot be read");
                log.tail = None;
                return None;
            }
        };
        let event = match read {
            Read::Chunk(chunk) => event("log", json(&chunk)),
            Read::Skipped(place) => event("resync", json(&place)),
        };
        Some(event.id(self.cursor().to_string()))
    }

    /// Goes on with the node's newest attempt once the log of the one before is read.
    pub(super) fn turn_to_next_attempt(&mut self) -> bool {
        let Some(log) = &mut self.log else { return false };
        let run = self.run.id();
        let Some(node) = nodes(&self.run).find(|node| node.id == log.node) else {
            return false;
        };
        let newest = node.last_attempt(run);
        if newest.is_none() || newest == log.tail.as_ref().map(Tail::attempt) {
            return false;
        }
        log.place(run, node, None);
        true
    }

    fn wake(&mut self) {
        if let Some(tail) = self.log.as_mut().and_then(|log| log.tail.as_mut()) {
            tail.wake();
        }
    }

    fn note(&mut self, attempt: AttemptId, what: &AttemptNews) {
        let text = match what {
            AttemptNews::LogGrew { .. } => {
                let log = self.log.as_mut().and_then(|log| log.tail.as_mut());
                if let Some(tail) = log.filter(|tail| tail.attempt() == attempt) {
                    tail.wake();
                }
                return;
            }
            AttemptNews::Waiting { reason } => format!("waits: {reason}"),
            AttemptNews::StepStarted { step } => format!("step {} began", step.saturating_add(1)),
            AttemptNews::Silent { seconds, processes } => {
                format!("no output for {seconds} s: {processes}")
            }
        };
        let Some(node) = nodes(&self.run).find(|node| node.id == attempt.node) else {
            return;
        };
        let note = NoteResponse {
            node: &node.node.name,
            attempt: attempt.number,
            text,
        };
        let data = json(&note);
        self.queue.push_back(Queued {
            kind: "note",
            data,
            version: None,
        });
    }

    fn resync(&mut self) {
        let resync = ResyncResponse {
            run: self.id(),
            version: self.version,
        };
        self.queue.push_back(Queued {
            kind: "resync",
            data: json(&resync),
            version: None,
        });
        self.tell_all();
    }

    fn tell_all(&mut self) {
        self.told.clear();
        self.tell_changes();
    }

    /// Tells of these nodes alone.
    fn tell_of(&mut self, wanted: &BTreeSet<NodeId>) {
        let sizes = BTreeMap::new();
        let mut changed = Vec::new();
        for node in nodes(&self.run).filter(|node| wanted.contains(&node.id)) {
            let now = NodeResponse::of(&self.run, node, &sizes);
            if let Some(told) = self.told.get_mut(node.id.index()).filter(|told| **told != now) {
                *told = now;
                changed.push(node.id.index());
            }
        }
        let changed = changed.into_iter().filter_map(|at| self.told.get(at)).collect();
        let told = self.change(changed);
        self.queue.push_back(told);
    }

    fn tell_changes(&mut self) {
        self.compared = Instant::now();
        let now = self.responses();
        let changed = now
            .iter()
            .enumerate()
            .filter(|(at, node)| self.told.get(*at) != Some(node))
            .map(|(_, node)| node)
            .collect();
        let told = self.change(changed);
        self.queue.push_back(told);
        self.told = now;
    }

    fn change(&self, nodes: Vec<&NodeResponse>) -> Queued {
        let response = RunChangedResponse {
            run: self.id(),
            version: self.version,
            phase: phase_word(self.run.phase()),
            outcome: self.run.outcome().map(|outcome| outcome.as_str()),
            nodes,
        };
        Queued {
            kind: "run",
            data: json(&response),
            version: Some(self.version),
        }
    }

    fn responses(&self) -> Vec<NodeResponse> {
        let sizes = BTreeMap::new();
        nodes(&self.run)
            .map(|node| NodeResponse::of(&self.run, node, &sizes))
            .collect()
    }

    fn cursor(&self) -> Cursor {
        let log = self.log.as_ref().and_then(|log| {
            let tail = log.tail.as_ref()?;
            Some(LogPlace {
                node: log.node,
                attempt: tail.attempt().number,
                offset: tail.resume(),
            })
        });
        Cursor {
            version: self.sent,
            log,
        }
    }
}

impl FollowedLog {
    /// Opens the log where the reader is, or the newest attempt's from its start.
    fn place(&mut self, run: RunId, node: NodeRef<'_>, place: Option<LogPlace>) {
        let Some(newest) = node.last_attempt(run) else {
            return;
        };
        let seen =
            place.filter(|place| place.node == node.id && (1..=newest.number).contains(&place.attempt));
        let (number, offset) = seen.map_or((newest.number, 0), |place| (place.attempt, place.offset));
        let attempt = AttemptId { number, ..newest };
        self.tail = Some(Tail::new(self.layout.clone(), attempt, offset, self.form));
    }
}
