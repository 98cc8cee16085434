//! Ending everything below this process. Entry type: [`Ending`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::process::Tree;

/// What a step's own leftovers get between TERM and KILL.
pub(crate) const LEFTOVER_GRACE: Duration = Duration::from_secs(2);
/// How long KILL may take to show.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often KILL is repeated, for a tree that forks meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(20);
/// How often the tree is looked through for processes that were forked since.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// TERM to every descendant, and KILL to those that are still there after the grace.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    told: BTreeSet<i32>,
    given_up_at: Option<Instant>,
}

impl Ending {
    /// Signals whoever is due; when to come again, unless nothing is left then. None if all patience is used up.
    ///
    /// `leader` is the group to signal where the processes cannot be listed.
    pub(crate) fn press(&mut self, kill_at: Instant, leader: Option<Pid>) -> Option<Instant> {
        let now = Instant::now();
        if now < kill_at {
            self.end_newcomers(leader);
            return Some(kill_at.min(now + LOOK_AGAIN));
        }
        let given_up_at = *self.given_up_at.get_or_insert(now + KILL_PATIENCE);
        if now >= given_up_at {
            return None;
        }
        match Tree::read() {
            Ok(tree) => tree.signal(Signal::KILL),
            Err(_) => signal_group(leader, Signal::KILL),
        }
        Some(now + KILL_AGAIN)
    }

    /// TERM to every descendant that did not have it yet, and to each only once.
    fn end_newcomers(&mut self, leader: Option<Pid>) {
        match Tree::read() {
            Ok(mut tree) => {
                tree.pids.retain(|pid| self.told.insert(*pid));
                tree.signal(Signal::TERM);
                tree.signal(Signal::CONT);
            }
            Err(_) if self.told.insert(0) => signal_group(leader, Signal::TERM),
            Err(_) => {}
        }
    }
}

fn signal_group(leader: Option<Pid>, signal: Signal) {
    if let Some(leader) = leader {
        let _ = rustix::process::kill_process_group(leader, signal);
    }
}
