//! `lock:` of entries: what is read, which entry takes them, and circles among those.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::plan::{Lock, LockScope};

use super::{name_of, roster::Roster, text};
use crate::{
    codes,
    definition::{Action, FixedText, Target},
    diagnostic::Sink,
    graph::Graph,
    shape::join,
    yaml::Node,
};

/// The locks around an entry, its own included.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    /// The outermost entry that has any: it takes all of them.
    pub(super) hold: Option<Target>,
    /// All, with their names.
    pub(super) all: Vec<(Lock, FixedText)>,
}

impl Locks {
    /// Adds those of an entry.
    pub(super) fn take(&mut self, own: Vec<(Lock, FixedText)>, entry: Target) {
        if !own.is_empty() {
            self.hold.get_or_insert(entry);
        }
        self.all.extend(own);
    }
}

/// The locks with their names, which may hold expressions.
pub(super) fn read(node: Option<&Node>, path: &str) -> Vec<(Lock, FixedText)> {
    let items = node.map(Node::items).unwrap_or_default();
    let read = items.iter().filter_map(|item| {
        let name = item.text().map(str::to_owned).or_else(|| text(item, "name"))?;
        let lock = Lock {
            // Stands in until the plan is made.
            name: name_of("lock")?,
            slots: item
                .get("slots")
                .and_then(Node::int)
                .and_then(|number| u32::try_from(number).ok())
                .unwrap_or(1),
            newest_first: text(item, "order").as_deref() == Some("newest"),
            yields_at_gate: text(item, "at_gate").as_deref() == Some("yield"),
            scope: match text(item, "scope").as_deref() {
                Some("server") => LockScope::Server,
                Some(_) | None => LockScope::Project,
            },
        };
        Some((
            lock,
            FixedText {
                text: name,
                path: path.to_owned(),
            },
        ))
    });
    read.collect()
}

/// Refuses locked entries that wait for each other: each takes its locks only after the locked ones in front of any part
/// of it have ended.
pub(super) fn check(actions: &[Action], graph: &Graph, roster: &Roster, sink: &mut Sink<'_>) {
    let mut waits: BTreeMap<Target, BTreeSet<Target>> = BTreeMap::new();
    for (later, action) in actions.iter().enumerate() {
        let Some(hold) = action.hold else { continue };
        let others = waits.entry(hold).or_default();
        for (earlier, other) in actions.iter().enumerate() {
            if let Some(other) = other.hold.filter(|other| *other != hold)
                && graph.ends_before(earlier, later)
            {
                others.insert(other);
            }
        }
    }
    let mut open: BTreeSet<Target> = waits.keys().copied().collect();
    let mut left = usize::MAX;
    while open.len() < left {
        left = open.len();
        for (hold, others) in &waits {
            if others.is_disjoint(&open) {
                open.remove(hold);
            }
        }
    }
    let Some(first) = open.first() else { return };
    let names: Vec<String> = open
        .iter()
        .map(|hold| format!("`{}`", roster.name_of(*hold)))
        .collect();
    let (path, span) = roster.place_of(*first);
    let message = format!(
        "these entries take locks and wait for each other: {}",
        names.join(", ")
    );
    sink.error(codes::LOCK_CYCLE, &join(&path, "lock"), &span, message)
        .help("give the lock to one group around them, or to the entries inside that need it");
}
