//! The tree of a run's nodes, as text with a bar of time for each.

use pipekeeper_engine::NodeState;
use pipekeeper_model::{
    Millis, NodeId, Outcome, Timestamp,
    plan::{Body, Section},
};

use crate::{
    api::wire::times,
    load::{Loaded, NodeRef},
};

use super::present::{Mark, Part, span};

const DEEPEST: usize = 6;

/// One line of the tree.
pub(crate) enum Line {
    /// A group begins.
    Group { depth: usize, label: String },
    /// A node.
    Node(Box<NodeLine>),
}

/// A node's line.
pub(crate) struct NodeLine {
    pub(crate) depth: usize,
    pub(crate) name: String,
    pub(crate) link: String,
    pub(crate) mark: Mark,
    pub(crate) is_shown: bool,
    /// How long it took, where it ran.
    pub(crate) took: Option<String>,
    /// Why it is where it is, unless its mark says all.
    pub(crate) why: Option<String>,
    pub(crate) bar: Option<Bar>,
}

/// When a node ran, in hundredths of the run's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bar {
    pub(crate) from: u64,
    pub(crate) width: u64,
}

/// The time in which anything ran, so that a gate that waits for days does not squeeze the bars to nothing.
#[derive(Clone, Copy)]
struct Extent {
    start: Timestamp,
    end: Timestamp,
    now: Timestamp,
}

impl Extent {
    fn of(loaded: &Loaded, now: Timestamp) -> Self {
        let ran = || {
            loaded
                .nodes()
                .filter(|node| has_run(node.state))
                .map(|node| times(node.state))
        };
        Self {
            start: ran().filter_map(|(from, _)| from).min().unwrap_or(now),
            end: ran()
                .filter_map(|(from, to)| from.map(|_| to.unwrap_or(now)))
                .max()
                .unwrap_or(now),
            now,
        }
    }
}

/// The lines of a run's tree.
pub(crate) fn lines(loaded: &Loaded, shown: Option<NodeId>, now: Timestamp) -> Vec<Line> {
    let extent = Extent::of(loaded, now);
    let mut lines = Vec::new();
    let mut around: Vec<String> = Vec::new();
    for node in loaded.nodes() {
        let groups = groups(node);
        let common = groups.iter().zip(&around).take_while(|(a, b)| a == b).count();
        for (depth, label) in groups.iter().enumerate().skip(common) {
            lines.push(Line::Group {
                depth: depth.min(DEEPEST),
                label: label.clone(),
            });
        }
        let depth = groups.len().min(DEEPEST);
        around = groups;
        lines.push(Line::Node(Box::new(node_line(
            loaded,
            node,
            depth,
            shown == Some(node.id),
            extent,
        ))));
    }
    lines
}

fn groups(node: NodeRef<'_>) -> Vec<String> {
    let section = match node.node.section {
        Section::Main => None,
        Section::Finally => Some("finally".to_owned()),
    };
    section
        .into_iter()
        .chain(node.node.groups.iter().cloned())
        .collect()
}

fn node_line(loaded: &Loaded, node: NodeRef<'_>, depth: usize, is_shown: bool, extent: Extent) -> NodeLine {
    let (started, ended) = times(node.state);
    let ran = started.filter(|_| has_run(node.state));
    NodeLine {
        depth,
        name: node.node.name.clone(),
        link: Part(&node.node.name).to_string(),
        mark: Mark::node(node.state),
        is_shown,
        took: ran.map(|from| span(ended.unwrap_or(extent.now).since(from))),
        why: why(loaded, node),
        bar: ran.map(|from| Bar::of(from, ended.unwrap_or(extent.now), extent)),
    }
}

fn has_run(state: &NodeState) -> bool {
    match state {
        NodeState::Running(_) | NodeState::Done(_) => true,
        NodeState::Waiting
        | NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Deciding(_)
        | NodeState::Ready { .. }
        | NodeState::Backoff { .. }
        | NodeState::Skipped { .. } => false,
    }
}

/// Why a node is where it is, unless it runs or simply succeeded.
pub(crate) fn why(loaded: &Loaded, node: NodeRef<'_>) -> Option<String> {
    let is_plain = match node.state {
        NodeState::Running(_) => loaded.obstacle(node).is_none(),
        NodeState::Done(ended) => {
            ended.outcome == Outcome::Succeeded
                && matches!(node.node.body, Body::Work(_))
                && ended.adopted.is_none()
        }
        NodeState::Waiting
        | NodeState::AwaitingStart { .. }
        | NodeState::AwaitingTime { .. }
        | NodeState::Deciding(_)
        | NodeState::Ready { .. }
        | NodeState::Backoff { .. }
        | NodeState::Skipped { .. } => false,
    };
    (!is_plain).then(|| loaded.why(node))
}

impl Bar {
    fn of(from: Timestamp, to: Timestamp, extent: Extent) -> Self {
        let Millis(whole) = extent.end.since(extent.start);
        let hundredth = |length: Millis| {
            length
                .0
                .saturating_mul(100)
                .checked_div(whole)
                .unwrap_or(0)
                .min(100)
        };
        let from_at = hundredth(from.since(extent.start)).min(99);
        let width = hundredth(to.since(from)).clamp(1, 100 - from_at);
        Self { from: from_at, width }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Extent};
    use pipekeeper_model::Timestamp;

    #[test]
    fn bars_stay_inside() {
        let extent = Extent {
            start: Timestamp(1_000),
            end: Timestamp(2_000),
            now: Timestamp(3_000),
        };
        let bar = |from, to| {
            let bar = Bar::of(Timestamp(from), Timestamp(to), extent);
            (bar.from, bar.width)
        };
        assert_eq!(bar(1_000, 2_000), (0, 100));
        assert_eq!(bar(1_250, 1_500), (25, 25));
        assert_eq!(bar(2_000, 2_000), (99, 1));
        assert_eq!(bar(0, 9_000), (0, 100));
        let nothing = Extent {
            start: Timestamp(5),
            end: Timestamp(5),
            now: Timestamp(5),
        };
        assert_eq!(
            Bar::of(Timestamp(5), Timestamp(5), nothing),
            Bar { from: 0, width: 1 }
        );
    }
}
