//! Judges what is recorded of locks: who has them at once, who goes first, and that nobody keeps them.

use pipekeeper_model::{
    Millis, Name, NodeId, Outcome, RunId, Timestamp,
    plan::{Lock, LockScope, defaults},
};

use super::{book::Settled, facts::Check};
use crate::sim::plans::before;

/// Somebody may be passed by who came this much later: what was just stored is not known at once to a server that did not
/// hear of it.
const AT_ONCE: Millis = Millis::minutes(10);

/// What a hold is known to have or to wait for.
#[derive(Clone, Debug)]
pub(crate) struct HoldBook {
    project: Name,
    locks: Vec<Lock>,
    since: Timestamp,
    held: bool,
}

impl HoldBook {
    fn shares<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Lock, &'a Lock)> {
        let is_same = |(own, theirs): &(&Lock, &Lock)| {
            own.name == theirs.name
                && own.scope == theirs.scope
                && (own.scope == LockScope::Server || self.project == other.project)
        };
        let pairs = self
            .locks
            .iter()
            .flat_map(|own| other.locks.iter().map(move |theirs| (own, theirs)));
        pairs.filter(is_same)
    }

    /// Whether whoever came first goes first.
    fn is_in_order(&self) -> bool {
        !self.locks.iter().all(|lock| lock.newest_first)
    }
}

impl Check<'_> {
    fn key(&self, hold: NodeId) -> (RunId, NodeId) {
        (self.book.run.id(), hold)
    }

    fn members(&self, hold: NodeId) -> Vec<NodeId> {
        let nodes = (0..).map(NodeId).zip(self.book.plan_nodes());
        nodes
            .filter(|(_, node)| node.hold == Some(hold))
            .map(|(id, _)| id)
            .collect()
    }

    fn any_ready(&self, hold: NodeId) -> bool {
        let is_ready = |id: &NodeId| self.book.node(*id).is_some_and(|node| node.ready);
        self.members(hold).iter().any(is_ready)
    }

    pub(super) fn locks_awaited(&mut self, hold: NodeId, expires: Timestamp) {
        let Some(request) = self.book.request.clone() else {
            return;
        };
        let is_new = !self.shared.holds.contains_key(&self.key(hold));
        self.ensure(is_new, "I11", "it has or wants its locks already");
        let is_wanted = self.any_ready(hold);
        self.ensure(is_wanted, "I11", "nothing wants them");
        let at = self.event.at;
        self.ensure(expires == at + defaults::QUEUE, "I5", "it waits for ever");
        let nodes = self.members(hold).into_iter().filter_map(|id| self.plan_node(id));
        let book = HoldBook {
            project: request.project.clone(),
            locks: nodes.flat_map(|node| node.locks).collect(),
            since: at,
            held: false,
        };
        self.shared.holds.insert(self.key(hold), book);
    }

    pub(super) fn locks_taken(&mut self, hold: NodeId) {
        let key = self.key(hold);
        let own = self.shared.holds.get(&key).filter(|book| !book.held).cloned();
        let Some(mut own) = own else {
            return self.ensure(false, "I11", "it does not wait for them");
        };
        let others: Vec<HoldBook> = self
            .shared
            .holds
            .iter()
            .filter(|(other, _)| **other != key)
            .map(|(_, book)| book.clone())
            .collect();
        for lock in &own.locks {
            let mut alone = own.clone();
            alone.locks = vec![lock.clone()];
            let holders = others.iter().filter(|other| other.held);
            let theirs: Vec<u32> = holders
                .filter_map(|other| alone.shares(other).map(|(_, theirs)| theirs.slots).min())
                .collect();
            let slots = theirs.iter().copied().chain([lock.slots]).min().unwrap_or(0);
            let is_free = theirs.len() < slots as usize;
            self.ensure(is_free, "I11", "others hold all slots of its lock");
            if !theirs.is_empty() {
                self.hit("guard I11 several hold a lock");
            }
        }
        let is_passed = |other: &HoldBook| {
            let came_first = other.since + AT_ONCE < own.since;
            let is_alone = own
                .shares(other)
                .any(|(own, theirs)| own.slots.min(theirs.slots) == 1);
            !other.held && other.is_in_order() && came_first && is_alone
        };
        self.ensure(!others.iter().any(is_passed), "I11", "others came long before it");
        if self.event.at > own.since + AT_ONCE {
            self.hit("guard I11 locks waited for");
        }
        own.held = true;
        self.shared.holds.insert(key, own);
    }

    pub(super) fn locks_released(&mut self, hold: NodeId) {
        let key = self.key(hold);
        let Some(own) = self.shared.holds.remove(&key) else {
            return self.ensure(false, "I11", "it has none");
        };
        let members = self.members(hold);
        let all_settled = members.iter().all(|id| self.book.settled(*id).is_some());
        if own.held && !all_settled {
            let yields = own.locks.iter().all(|lock| lock.yields_at_gate);
            let is_still = members.iter().all(|id| self.is_still(*id));
            let may_give = if yields {
                members.iter().any(|id| self.is_held_up(*id))
            } else {
                let is_new = members.iter().all(|id| self.is_new(*id));
                is_new && members.iter().any(|id| self.awaits_window(*id))
            };
            self.ensure(is_still && may_give, "I11", "it has not ended");
            self.hit(if yields {
                "guard I11 locks given back at a gate"
            } else {
                "guard I11 locks given back at a window"
            });
        }
        if !own.held {
            let is_wanted = self.any_ready(hold);
            self.ensure(!is_wanted, "I11", "something still wants them");
        }
    }

    /// Whether a node neither runs nor is about to.
    fn is_still(&self, id: NodeId) -> bool {
        let Some(book) = self.book.node(id) else {
            return true;
        };
        let is_between = book.paid + book.free > 0 && book.window_until.is_none() && !book.waits_again;
        let is_still = book.live.is_none() && !book.ready && !book.passes_time && !is_between;
        book.settled.is_some() || is_still
    }

    /// Whether nothing was done yet of a node.
    fn is_new(&self, id: NodeId) -> bool {
        let Some(book) = self.book.node(id) else {
            return true;
        };
        let is_left_out = |settled: &Settled| settled.outcome == Outcome::Skipped;
        book.settled.as_ref().is_none_or(is_left_out)
            && (book.settled.is_some() || book.gate.is_none())
            && book.paid == 0
    }

    fn awaits_window(&self, id: NodeId) -> bool {
        let book = self.book.node(id);
        book.is_some_and(|book| book.settled.is_none() && book.window_until.is_some())
    }

    /// Whether a node waits for people or for the time when it may start.
    fn is_held_up(&self, id: NodeId) -> bool {
        let (Some(node), Some(book)) = (self.plan_node(id), self.book.node(id)) else {
            return false;
        };
        let asks = |gate: &NodeId| {
            let gate = self.book.node(*gate);
            gate.is_some_and(|gate| gate.gate.is_some() && gate.settled.is_none())
        };
        let in_front = before(self.book.plan_nodes(), &node.needs);
        let any_asks = in_front
            .iter()
            .chain(&self.book.gate_of_place(&node))
            .chain([&id])
            .any(asks);
        let is_awaited = book.start_expires.is_some() && !book.started_by_hand;
        let is_timed = book.wait_until.is_some();
        book.settled.is_none() && (any_asks || is_awaited || is_timed || book.window_until.is_some())
    }

    /// Whether a node that acts has the locks that it takes.
    pub(super) fn has_locks(&mut self, id: NodeId) {
        let Some(hold) = self.plan_node(id).and_then(|node| node.hold) else {
            return;
        };
        let key = self.key(hold);
        let has = self.shared.holds.get(&key).is_some_and(|book| book.held);
        self.ensure(has, "I11", "it does not have its locks");
    }

    /// Whether a gate opens without the locks around it.
    pub(super) fn yields(&self, id: NodeId) -> bool {
        let hold = self.plan_node(id).and_then(|node| node.hold);
        hold.is_some_and(|hold| {
            let nodes = self.members(hold).into_iter().filter_map(|id| self.plan_node(id));
            nodes.flat_map(|node| node.locks).all(|lock| lock.yields_at_gate)
        })
    }

    /// Whether the locks of a node have been waited for as long as anybody waits.
    pub(super) fn waited_too_long(&self, id: NodeId) -> bool {
        let hold = self.plan_node(id).and_then(|node| node.hold);
        let book = hold.and_then(|hold| self.shared.holds.get(&self.key(hold)));
        book.is_some_and(|book| !book.held && book.since + defaults::QUEUE <= self.event.at)
    }

    /// Whether the run has locks or waits for some.
    pub(super) fn holds_of_run(&self) -> bool {
        let run = self.book.run.id();
        self.shared.holds.keys().any(|(owner, _)| *owner == run)
    }
}
