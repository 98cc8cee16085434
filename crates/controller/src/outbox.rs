//! The outbox in memory: one lane per attempt, group and the like; one effect of a lane at a time, in order.

use std::collections::{BTreeMap, VecDeque};

use pipekeeper_engine::{Effect, EffectKey};
use pipekeeper_model::{Millis, RunId, Timestamp};

/// How performing an effect went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Performed {
    /// It is done.
    Done,
    /// Something is in the way that will not go by itself; it is tried again when told, or after a while.
    Blocked,
    /// It may go better later.
    Transient { reason: String },
    /// It goes better once an attempt that has what it needs has ended.
    Occupied { reason: String },
    /// It never will.
    Terminal { reason: String },
}

/// A lane's name: its run and what it is about.
pub(crate) type LaneKey = (RunId, String);

#[derive(Default)]
pub(crate) struct Outbox {
    lanes: BTreeMap<LaneKey, Lane>,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Effect>,
    state: LaneState,
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LaneState {
    #[default]
    Free,
    Busy,
    Resting,
    /// The same, until others make room.
    AwaitingRoom,
}

/// What became of adding an effect.
pub(crate) struct Added {
    pub(crate) lane: LaneKey,
    /// An unperformed launch that this stop made void.
    pub(crate) voided: Option<EffectKey>,
}

impl Outbox {
    /// Adds an effect; a stop voids the launch before it if nobody began it.
    pub(crate) fn add(&mut self, run: RunId, effect: Effect) -> Added {
        let lane = (run, effect.lane());
        let entry = self.lanes.entry(lane.clone()).or_default();
        let may_void = matches!(effect, Effect::StopAttempt { .. }) && entry.state != LaneState::Busy;
        let voided = match entry.queue.front() {
            Some(first @ Effect::LaunchAttempt { .. })
                if may_void && entry.failures == 0 && entry.state == LaneState::Free =>
            {
                let key = first.key();
                entry.queue.pop_front();
                Some(key)
            }
            Some(_) | None => None,
        };
        if !entry.queue.contains(&effect) {
            entry.queue.push_back(effect);
        }
        Added { lane, voided }
    }

    /// The next effect of a lane, if none of it is under way.
    pub(crate) fn begin(&mut self, key: &LaneKey) -> Option<Effect> {
        let lane = self.lanes.get_mut(key)?;
        let effect = lane.queue.front()?.clone();
        if lane.state == LaneState::Busy {
            return None;
        }
        lane.state = LaneState::Busy;
        Some(effect)
    }

    /// Takes a begun effect back: what it needs is not in memory yet.
    pub(crate) fn put_back(&mut self, key: &LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.state = LaneState::Free;
        }
    }

    /// Ends the lane's first effect.
    pub(crate) fn finish(&mut self, key: &LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.queue.pop_front();
            lane.state = LaneState::Free;
            lane.failures = 0;
            if lane.queue.is_empty() {
                self.lanes.remove(key);
            }
        }
    }

    /// Lets the lane's first effect rest; tells until when.
    pub(crate) fn rest(&mut self, key: &LaneKey, now: Timestamp) -> Timestamp {
        let failures = self.lanes.get_mut(key).map_or(0, |lane| {
            lane.state = LaneState::Resting;
            lane.failures = lane.failures.saturating_add(1);
            lane.failures
        });
        now + Millis(100_u64.saturating_mul(1 << failures.min(9)).min(30_000))
    }

    /// Lets a lane's first effect rest, as [`Outbox::rest`] does, but also until others make room.
    pub(crate) fn await_room(&mut self, key: &LaneKey, now: Timestamp) -> Timestamp {
        let until = self.rest(key, now);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.state = LaneState::AwaitingRoom;
        }
        until
    }

    /// The lanes that wait until others make room.
    pub(crate) fn awaiting_room(&self) -> Vec<LaneKey> {
        let waits = |lane: &Lane| lane.state == LaneState::AwaitingRoom;
        let waiting = self.lanes.iter().filter(|(_, lane)| waits(lane));
        waiting.map(|(key, _)| key.clone()).collect()
    }

    /// Lets a lane be tried as if for the first time: what ended may take a moment to go.
    pub(crate) fn again(&mut self, key: &LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.failures = 0;
        }
    }

    /// The first effect of a lane.
    pub(crate) fn first(&self, key: &LaneKey) -> Option<&Effect> {
        self.lanes.get(key)?.queue.front()
    }

    /// How often the lane's first effect failed.
    pub(crate) fn failures(&self, key: &LaneKey) -> u32 {
        self.lanes.get(key).map_or(0, |lane| lane.failures)
    }

    /// The lanes of one run.
    pub(crate) fn of_run(&self, run: RunId) -> Vec<LaneKey> {
        let from = (run, String::new());
        self.lanes
            .range(from..)
            .take_while(|((owner, _), _)| *owner == run)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// The resting lanes whose first effect waits for a turn.
    pub(crate) fn awaiting_turn(&self) -> Vec<LaneKey> {
        let waits = |lane: &Lane| matches!(lane.queue.front(), Some(Effect::AwaitTurn { .. }));
        self.lanes
            .iter()
            .filter(|(_, lane)| waits(lane))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Whether this very effect waits or is under way.
    pub(crate) fn holds(&self, key: &LaneKey, effect: &Effect) -> bool {
        self.lanes
            .get(key)
            .is_some_and(|lane| lane.queue.contains(effect))
    }

    /// Whether the lane's first effect waits for its time.
    pub(crate) fn rests(&self, key: &LaneKey) -> bool {
        let waits = |lane: &Lane| matches!(lane.state, LaneState::Resting | LaneState::AwaitingRoom);
        self.lanes.get(key).is_some_and(waits)
    }

    /// Every lane.
    pub(crate) fn lanes(&self) -> Vec<LaneKey> {
        self.lanes.keys().cloned().collect()
    }

    /// Whether an effect waits or is under way in this lane.
    pub(crate) fn has(&self, key: &LaneKey) -> bool {
        self.lanes.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use pipekeeper_model::{AttemptId, NodeId};

    use super::*;

    fn launch(run: u64) -> (RunId, Effect) {
        let attempt = AttemptId {
            run: RunId(run),
            node: NodeId(0),
            number: 1,
        };
        (attempt.run, Effect::LaunchAttempt { attempt })
    }

    #[test]
    fn who_waits_for_room_is_tried_again_at_once_when_some_is_made() {
        let mut outbox = Outbox::default();
        let now = Timestamp(0);
        let lanes = [1, 2, 3].map(|run| {
            let (run, effect) = launch(run);
            outbox.add(run, effect).lane
        });
        for lane in &lanes {
            outbox.begin(lane).unwrap();
        }
        let first = outbox.await_room(&lanes[0], now);
        outbox.begin(&lanes[0]).unwrap();
        let later = outbox.await_room(&lanes[0], now);
        assert!(later > first);
        outbox.rest(&lanes[1], now);
        assert_eq!(outbox.awaiting_room(), [lanes[0].clone()]);
        outbox.again(&lanes[0]);
        outbox.begin(&lanes[0]).unwrap();
        assert_eq!(outbox.await_room(&lanes[0], now), first);
    }
}
