//! Locks: wanted, taken and given back, by what the nodes of a hold are at.
//!
//! Whose turn it is among all runs is said by [`crate::turns`]; here is what that means for one run.

use pipekeeper_model::{
    NodeId, Outcome,
    plan::{Body, Node, defaults},
};

use super::{Draft, Rejection};
use crate::{
    Before, Effect, Fact,
    fold::Fold,
    hold::{AtGate, HoldState, Party},
    state::NodeState,
};

/// It is this hold's turn.
pub(super) fn given(draft: &mut Draft<'_>, hold: NodeId) -> Result<(), Rejection> {
    match draft.hold(hold) {
        Some(HoldState::Waiting { .. }) => {}
        Some(HoldState::Held { .. }) => return Err(Rejection::Duplicate),
        None => return Err(Rejection::stale("it does not wait for locks")),
    }
    draft.record(Fact::LocksTaken { hold });
    for member in draft.members(hold) {
        if draft.is_unlocked(*member) {
            draft.arrivals.insert(*member);
        }
    }
    Ok(())
}

/// What waits for its locks has waited too long.
pub(super) fn expired(draft: &mut Draft<'_>, hold: NodeId) {
    let parties = &draft.body().index.parties;
    let Some(party) = parties.get(&hold) else { return };
    let mut names: Vec<String> = party
        .locks
        .iter()
        .map(|lock| format!("`{}`", lock.name))
        .collect();
    names.sort();
    names.dedup();
    let noun = if names.len() == 1 { "lock" } else { "locks" };
    let reason = format!("it did not get the {noun} {} in 24 hours", names.join(", "));
    for member in &party.members {
        if is_ready(draft, *member) {
            draft.record(Fact::NodeFinished {
                node: *member,
                outcome: Outcome::TimedOut,
                reason: Some(reason.clone()),
            });
        }
    }
}

impl Draft<'_> {
    /// Whether a node lacks locks that it takes before it does anything.
    pub(super) fn lacks_locks(&self, id: NodeId) -> bool {
        let Some(node) = self.node(id) else { return false };
        if self.may_run(node) {
            return false;
        }
        match &node.body {
            Body::Approve(_) => self.party(id).is_none_or(|party| party.at_gate == AtGate::Keep),
            Body::Work(_) | Body::Wait(_) => true,
            // They do nothing.
            Body::Promote(_) | Body::Sync(_) | Body::Call(_) => false,
        }
    }

    /// Whether a node that waited for locks has them, and does not wait for a place as work does.
    pub(super) fn is_unlocked(&self, id: NodeId) -> bool {
        let goes_on =
            |node: &Node| node.hold.is_some() && self.may_run(node) && !matches!(node.body, Body::Work(_));
        is_ready(self, id) && self.node(id).is_some_and(goes_on)
    }

    fn party(&self, id: NodeId) -> Option<&Party> {
        self.body().index.parties.get(&self.node(id)?.hold?)
    }

    /// Asks for the locks that are wanted now, and gives back those that are not any more.
    pub(super) fn look_at_locks(&mut self) {
        let parties = &self.body().index.parties;
        while let Some(hold) = self.touched.pop_first() {
            let Some(party) = parties.get(&hold) else { continue };
            let any_ready = party.members.iter().any(|id| is_ready(self, *id));
            match self.hold(hold) {
                None if any_ready && self.are_settled(party.behind.iter()) => self.await_locks(hold),
                Some(HoldState::Waiting { .. }) if !any_ready => self.record(Fact::LocksReleased { hold }),
                Some(HoldState::Held { .. }) if self.is_over(party) => {
                    self.record(Fact::LocksReleased { hold });
                }
                None | Some(HoldState::Waiting { .. } | HoldState::Held { .. }) => {}
            }
        }
    }

    fn await_locks(&mut self, hold: NodeId) {
        let expires = self.at() + defaults::QUEUE;
        self.record(Fact::LocksAwaited { hold, expires });
        self.perform(Effect::AwaitLocks {
            run: self.run(),
            hold,
            since: self.at(),
        });
    }

    fn are_settled<'n>(&self, mut nodes: impl Iterator<Item = &'n NodeId>) -> bool {
        nodes.all(|id| self.state(*id).is_none_or(NodeState::is_settled))
    }

    fn is_over(&self, party: &Party) -> bool {
        if self.are_settled(party.members.iter()) {
            return true;
        }
        let mut members = party.members.iter().copied();
        match party.at_gate {
            // Nobody has locks over a weekend for what has not begun.
            AtGate::Keep => {
                !members.clone().any(|id| self.has_begun_inside(id))
                    && members.any(|id| self.awaits_window(id))
            }
            AtGate::Yield => {
                !members.clone().any(|id| self.is_active(id)) && members.any(|id| self.is_held_up(id))
            }
        }
    }

    fn awaits_window(&self, id: NodeId) -> bool {
        matches!(
            self.state(id),
            Some(NodeState::AwaitingTime {
                before: Before::Window,
                ..
            })
        )
    }

    /// Whether a node waits for people or for the time when it may start.
    fn is_held_up(&self, id: NodeId) -> bool {
        match self.state(id) {
            Some(
                NodeState::Deciding(_)
                | NodeState::AwaitingStart { .. }
                | NodeState::AwaitingTime {
                    before: Before::Start | Before::Window,
                    ..
                },
            ) => true,
            Some(NodeState::Waiting) => self
                .gates_of(id)
                .any(|gate| matches!(self.state(gate), Some(NodeState::Deciding(_)))),
            Some(
                NodeState::AwaitingTime {
                    before: Before::End, ..
                }
                | NodeState::Ready { .. }
                | NodeState::Running(_)
                | NodeState::Backoff { .. }
                | NodeState::Done(_)
                | NodeState::Skipped { .. },
            )
            | None => false,
        }
    }

    /// Whether a node with locks has done something, does, or is about to.
    fn has_begun_inside(&self, id: NodeId) -> bool {
        let is_idle = match self.state(id) {
            Some(NodeState::Deciding(_) | NodeState::Done(_)) => false,
            Some(
                NodeState::Waiting
                | NodeState::AwaitingStart { .. }
                | NodeState::AwaitingTime { .. }
                | NodeState::Ready { .. }
                | NodeState::Running(_)
                | NodeState::Backoff { .. }
                | NodeState::Skipped { .. },
            )
            | None => !self.is_active(id),
        };
        !is_idle || self.tries(id).paid > 0
    }

    /// Whether a node does something, or is about to.
    fn is_active(&self, id: NodeId) -> bool {
        match self.state(id) {
            Some(
                NodeState::Ready { .. }
                | NodeState::Running(_)
                | NodeState::Backoff { .. }
                | NodeState::AwaitingTime {
                    before: Before::End, ..
                },
            ) => true,
            Some(
                NodeState::Waiting
                | NodeState::AwaitingStart { .. }
                | NodeState::AwaitingTime {
                    before: Before::Start | Before::Window,
                    ..
                }
                | NodeState::Deciding(_)
                | NodeState::Done(_)
                | NodeState::Skipped { .. },
            )
            | None => false,
        }
    }
}

fn is_ready(draft: &Draft<'_>, id: NodeId) -> bool {
    matches!(draft.state(id), Some(NodeState::Ready { .. }))
}
