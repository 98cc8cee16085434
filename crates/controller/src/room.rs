//! The loop's part about room: how many attempts a place has at work at once, and who is launched when one of them has ended.
//! Entry type: [`Room`].

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_backend::{Capacity, Observation, What};
use pipekeeper_engine::{AttemptPhase, Candidate, Effect, launch_order};
use pipekeeper_model::{AttemptId, Name, NodeId, RunId, plan::Body};

use crate::{
    Controller, launch,
    outbox::{LaneKey, Performed},
    runs::live_attempts,
    slot::Slot,
};

/// Who is at work, as far as this server launched or found them. It is no truth of its own: whoever starts anew reads it
/// from the runs.
#[derive(Default)]
pub(crate) struct Room {
    at_work: BTreeMap<AttemptId, Seat>,
}

struct Seat {
    project: Name,
    place: Option<usize>,
    source: Source,
}

/// How this server knows of an attempt at work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// It launched it, or gave it its ticket.
    Own,
    /// The run said so when it was loaded.
    Run,
}

impl Room {
    fn has(&self, attempt: AttemptId) -> bool {
        self.at_work.contains_key(&attempt)
    }

    fn at_work(&self, place: Option<usize>) -> impl Iterator<Item = &Seat> {
        self.at_work.values().filter(move |seat| seat.place == place)
    }

    fn is_full(&self, capacity: Option<Capacity>) -> bool {
        capacity.is_some_and(|room| self.at_work(Some(room.place)).count() >= room.attempts.get())
    }

    /// Gives back the seat of an attempt; tells whether it had one.
    pub(crate) fn leave(&mut self, attempt: AttemptId) -> bool {
        self.at_work.remove(&attempt).is_some()
    }

    /// Gives back the seats of a run's attempts but of these; tells whether there were any.
    fn keep_only(&mut self, run: RunId, kept: &[AttemptId]) -> bool {
        let from = AttemptId {
            run,
            node: NodeId(0),
            number: 0,
        };
        let of_run = self
            .at_work
            .range(from..)
            .take_while(|(attempt, _)| attempt.run == run);
        let ended: Vec<AttemptId> = of_run
            .map(|(attempt, _)| *attempt)
            .filter(|attempt| !kept.contains(attempt))
            .collect();
        ended
            .iter()
            .for_each(|attempt| drop(self.at_work.remove(attempt)));
        !ended.is_empty()
    }
}

impl Controller {
    /// Takes a seat for an attempt of a run in memory, if it has none.
    ///
    /// # Errors
    /// If none is free where it is to run: what a person is told.
    pub(crate) fn take_seat(&mut self, attempt: AttemptId) -> Result<(), String> {
        if self.room.has(attempt) {
            return Ok(());
        }
        let Some((project, capacity)) = self.destination(attempt) else {
            return Ok(());
        };
        if let Some(room) = capacity
            && self.room.is_full(capacity)
        {
            let attempts = room.attempts;
            return Err(format!(
                "no room: as many actions are at work as may be there at once ({attempts}), and projects take turns"
            ));
        }
        self.sit(attempt, (project, capacity), Source::Own);
        Ok(())
    }

    /// A launch that is still to be performed has no seat, whatever its run looked like when it was loaded.
    pub(crate) fn ask_for_seat_anew(&mut self, effect: &Effect) {
        if let Effect::LaunchAttempt { attempt } = effect {
            let run = self.slots.get(&attempt.run).and_then(Slot::run);
            let live = run.and_then(|run| run.live(*attempt));
            let has_begun = live.is_some_and(|live| live.phase.holder().is_some());
            let seat = self.room.at_work.get(attempt);
            if !has_begun && seat.is_some_and(|seat| seat.source == Source::Run) {
                self.room.leave(*attempt);
            }
        }
    }

    /// An attempt that nobody can launch yet tells why, and goes on once others have made room.
    pub(crate) fn no_seat(&mut self, lane: &LaneKey, effect: &Effect, attempt: AttemptId, reason: String) {
        let what = What::Waiting {
            reason: reason.clone(),
        };
        self.seen(Observation { attempt, what });
        self.performed(lane, effect, Performed::Occupied { reason });
    }

    /// Notes who of a run is at work, by the run as it was loaded. What is still to be launched asks for a seat then.
    pub(crate) fn note_at_work(&mut self, run: RunId) {
        let Some(known) = self.slots.get(&run).and_then(Slot::run) else {
            return;
        };
        let is_at_work = |attempt: &AttemptId| match known.live(*attempt).map(|live| &live.phase) {
            Some(AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. }) => true,
            Some(AttemptPhase::Launching { .. }) => !self.outbox.has(&Self::attempt_lane(*attempt)),
            Some(AttemptPhase::Seeking { .. } | AttemptPhase::Queued { .. }) | None => false,
        };
        let live = self.slots.get(&run).map(live_attempts).unwrap_or_default();
        let found: Vec<AttemptId> = live.into_iter().filter(is_at_work).collect();
        for attempt in found {
            if !self.room.has(attempt)
                && let Some((project, capacity)) = self.destination(attempt)
            {
                self.sit(attempt, (project, capacity), Source::Run);
            }
        }
        self.leave_ended(run);
    }

    /// Gives back the seats of attempts that ended, or whose run was set aside.
    pub(crate) fn leave_ended(&mut self, run: RunId) {
        let live = self.slots.get(&run).map(live_attempts).unwrap_or_default();
        if self.room.keep_only(run, &live) {
            self.made_room();
        }
    }

    /// What could not be launched is tried again, in turn.
    pub(crate) fn made_room(&mut self) {
        let mut lines: BTreeMap<Option<usize>, Vec<(Candidate, Option<Capacity>)>> = BTreeMap::new();
        let mut others = BTreeSet::new();
        for lane in self.outbox.awaiting_room() {
            match self.candidate(&lane) {
                Some((candidate, capacity)) => {
                    let line = lines.entry(capacity.map(|room| room.place)).or_default();
                    line.push((candidate, capacity));
                }
                None => drop(others.insert(lane)),
            }
        }
        for lane in others {
            self.try_again(&lane);
        }
        for (place, line) in lines {
            let mut at_work: BTreeMap<Name, usize> = BTreeMap::new();
            for seat in self.room.at_work(place) {
                *at_work.entry(seat.project.clone()).or_default() += 1;
            }
            let capacity = line.first().and_then(|(_, capacity)| *capacity);
            let waiting = line.into_iter().map(|(candidate, _)| candidate).collect();
            for attempt in launch_order(&at_work, waiting) {
                if self.room.is_full(capacity) {
                    break;
                }
                self.try_again(&Self::attempt_lane(attempt));
            }
        }
    }

    fn try_again(&mut self, lane: &LaneKey) {
        self.outbox.again(lane);
        self.perform(lane);
    }

    /// The attempt that a lane is to launch, as one that waits; none if its run is not in memory.
    fn candidate(&self, lane: &LaneKey) -> Option<(Candidate, Option<Capacity>)> {
        let Some(Effect::LaunchAttempt { attempt }) = self.outbox.first(lane) else {
            return None;
        };
        let (project, capacity) = self.destination(*attempt)?;
        let run = self.slots.get(&attempt.run)?.run()?;
        let since = match &run.live(*attempt)?.phase {
            AttemptPhase::Seeking { since, .. }
            | AttemptPhase::Queued { since, .. }
            | AttemptPhase::Launching { since, .. }
            | AttemptPhase::Ticketed { since, .. } => *since,
            AttemptPhase::Stopping { .. } => return None,
        };
        let candidate = Candidate {
            attempt: *attempt,
            project,
            since,
        };
        Some((candidate, capacity))
    }

    /// Whose an attempt is, and how much room there is where it runs; none if its run is not in memory.
    fn destination(&self, attempt: AttemptId) -> Option<(Name, Option<Capacity>)> {
        let run = self.slots.get(&attempt.run)?.run()?;
        let request = run.request()?;
        let Body::Work(work) = &request.plan.node(attempt.node)?.body else {
            return None;
        };
        let cluster = launch::cluster(request, work);
        let capacity = self.ports.backend.capacity(&request.project, cluster);
        Some((request.project.clone(), capacity))
    }

    fn sit(&mut self, attempt: AttemptId, (project, capacity): (Name, Option<Capacity>), source: Source) {
        let seat = Seat {
            project,
            place: capacity.map(|room| room.place),
            source,
        };
        self.room.at_work.insert(attempt, seat);
    }
}
