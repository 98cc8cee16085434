//! The loop's part about effects: perform, try again, settle.

use pipekeeper_engine::{AttemptPhase, ClaimId, Effect, EffectResult, Input, LiveAttempt};
use pipekeeper_model::{Actor, RunId};

use crate::{
    Controller,
    controller::Timer,
    launch::Draft,
    outbox::{LaneKey, Performed},
    requests,
    slot::Then,
};

/// How often a stop is tried before it is given up; the waits between add up to about ten minutes. A sweep stops what
/// nobody wants later; nothing else repairs a launch, a turn or a superseding that was given up.
const TRIES: u32 = 28;

impl Controller {
    /// Takes a stored effect in hand.
    pub(crate) fn add_effect(&mut self, run: RunId, effect: Effect) {
        self.ask_for_seat_anew(&effect);
        let added = self.outbox.add(run, effect);
        if let Some(key) = added.voided {
            self.settle(run, key);
        }
        self.perform(&added.lane);
    }

    /// Performs the next effect of a lane, if none of it is under way.
    pub(crate) fn perform(&mut self, lane: &LaneKey) {
        if self.draining {
            return;
        }
        let Some(effect) = self.outbox.begin(lane) else {
            return;
        };
        let run = lane.0;
        if !self.may_act() {
            return self.outbox.put_back(lane);
        }
        let slot = self.slots.get(&run);
        if self.ports.sharing.is_some() && slot.is_some_and(|slot| slot.run().is_some() && !slot.is_stored())
        {
            // What another server's commit wants is judged by a run that knows of it.
            return self.outbox.put_back(lane);
        }
        let Some(known) = slot.and_then(|slot| slot.run()) else {
            self.outbox.put_back(lane);
            self.slots.entry(run).or_insert_with(crate::slot::Slot::absent);
            return self.pump(run);
        };
        pipekeeper_failpoint::hit("effect_begun");
        let job = match &effect {
            Effect::LaunchAttempt { attempt } => {
                let may_start = |live: &LiveAttempt| live.phase.holder().is_none();
                if !known.live(*attempt).is_some_and(may_start) {
                    return self.performed(lane, &effect, Performed::Done);
                }
                let draft = match Draft::new(known, *attempt) {
                    Ok(draft) => draft,
                    Err(error) => {
                        let reason = error.to_string();
                        return self.performed(lane, &effect, Performed::Terminal { reason });
                    }
                };
                let attempt = *attempt;
                if let Err(reason) = self.take_seat(attempt) {
                    return self.no_seat(lane, &effect, attempt, reason);
                }
                self.tools.launch(lane.clone(), effect, draft)
            }
            Effect::FindEarlier { attempt } => {
                let is_sought = |live: &LiveAttempt| matches!(live.phase, AttemptPhase::Seeking { .. });
                if !known.live(*attempt).is_some_and(is_sought) {
                    return self.performed(lane, &effect, Performed::Done);
                }
                // Values that cannot be made are the launch's to complain of.
                let draft = Draft::new(known, *attempt).ok();
                let attempt = *attempt;
                self.tools.find_earlier(lane.clone(), effect, attempt, draft)
            }
            Effect::RememberSuccess { attempt, inputs } => {
                let state = known.node(attempt.node);
                match state.and_then(|state| requests::adopted(run, attempt.node, state)) {
                    Some(result) => {
                        let inputs = inputs.clone();
                        self.tools.remember(lane.clone(), effect, inputs, result)
                    }
                    None => return self.performed(lane, &effect, Performed::Done),
                }
            }
            // One that ended meanwhile was removed: a backend would note a stop that nobody removes.
            Effect::StopAttempt { attempt, .. } if known.live(*attempt).is_none() => {
                return self.performed(lane, &effect, Performed::Done);
            }
            Effect::StopAttempt { .. } => self.tools.stop(lane.clone(), effect),
            Effect::SupersedeOlder { .. } | Effect::SupersedeAtGate { .. } | Effect::AwaitTurn { .. } => {
                match known.request() {
                    Some(request) => self.tools.group(lane.clone(), effect, request.clone()),
                    None => return self.performed(lane, &effect, Performed::Done),
                }
            }
            Effect::AwaitLocks { run, hold, .. } => {
                let claim = ClaimId {
                    run: *run,
                    hold: *hold,
                };
                let result = self.await_locks(claim);
                return self.performed(lane, &effect, result);
            }
            // Whoever listens heard of the run's end with its events.
            Effect::Notify { .. } => return self.performed(lane, &effect, Performed::Done),
        };
        self.start(job);
    }

    /// Performs what waited for a run to be as stored.
    pub(crate) fn perform_waiting(&mut self, run: RunId) {
        if self.ports.sharing.is_some() {
            for lane in self.outbox.of_run(run) {
                if !self.outbox.rests(&lane) {
                    self.perform(&lane);
                }
            }
        }
    }

    pub(crate) fn performed(&mut self, lane: &LaneKey, effect: &Effect, result: Performed) {
        let run = lane.0;
        let is_launch = matches!(effect, Effect::LaunchAttempt { .. });
        let is_stop = matches!(effect, Effect::StopAttempt { .. });
        match effect {
            Effect::LaunchAttempt { .. } => pipekeeper_failpoint::hit("launched"),
            Effect::StopAttempt { .. } => pipekeeper_failpoint::hit("stopped"),
            Effect::FindEarlier { .. }
            | Effect::RememberSuccess { .. }
            | Effect::SupersedeOlder { .. }
            | Effect::SupersedeAtGate { .. }
            | Effect::AwaitTurn { .. }
            | Effect::AwaitLocks { .. }
            | Effect::Notify { .. } => {}
        }
        match result {
            Performed::Done => {
                self.outbox.finish(lane);
                if is_launch && self.may_be_held_up(run, effect) {
                    let key = effect.key();
                    let input = Input::EffectSettled {
                        key: key.clone(),
                        result: EffectResult::Done,
                    };
                    self.queue(run, Actor::System, input, Then::Settle(key));
                } else {
                    self.settle(run, effect.key());
                }
            }
            Performed::Terminal { reason } if is_launch => {
                self.outbox.finish(lane);
                let key = effect.key();
                let input = Input::EffectSettled {
                    key: key.clone(),
                    result: EffectResult::Failed { reason },
                };
                self.queue(run, Actor::System, input, Then::Settle(key));
            }
            Performed::Transient { reason } if !is_stop || self.outbox.failures(lane) < TRIES => {
                tracing::info!(run.id = %run, "cannot {} yet: {reason}", effect.name());
                self.hold_up(effect);
                let at = self.outbox.rest(lane, self.now());
                self.arm(at, Timer::Lane(lane.clone()));
                return;
            }
            Performed::Occupied { reason } if !is_stop => {
                if self.outbox.failures(lane) == 0 {
                    tracing::info!(run.id = %run, "waits with {}: {reason}", effect.name());
                }
                if let Effect::LaunchAttempt { attempt } = effect {
                    self.room.leave(*attempt);
                }
                self.hold_up(effect);
                let at = self.outbox.await_room(lane, self.now());
                self.arm(at, Timer::Lane(lane.clone()));
                return;
            }
            Performed::Transient { reason }
            | Performed::Occupied { reason }
            | Performed::Terminal { reason } => {
                tracing::error!(run.id = %run, "gave up to {}: {reason}", effect.name());
                self.outbox.finish(lane);
                self.settle(run, effect.key());
            }
            Performed::Blocked => {
                // The end of any run, or the locks that it gives back, wakes it; the timer only repairs.
                let at = self.outbox.rest(lane, self.now());
                self.arm(at, Timer::Lane(lane.clone()));
                return;
            }
        }
        if self.outbox.has(lane) {
            self.perform(lane);
        } else {
            self.rest(run);
        }
    }

    /// Tells the run of an attempt that it is not launched yet; what it waits for has a time of its own.
    fn hold_up(&mut self, effect: &Effect) {
        if let Effect::LaunchAttempt { attempt } = effect
            && self.phase_of_launch(effect, |phase| matches!(phase, AttemptPhase::Launching { .. }))
        {
            let input = Input::LaunchHeldUp { attempt: *attempt };
            self.queue(attempt.run, Actor::System, input, Then::Nothing);
        }
    }

    /// Whether the run takes a launch for held up, or is still to hear that it was.
    fn may_be_held_up(&self, run: RunId, effect: &Effect) -> bool {
        let knows_all = self
            .slots
            .get(&run)
            .is_some_and(|slot| slot.is_stored() && slot.queue.is_empty());
        !knows_all || self.phase_of_launch(effect, |phase| matches!(phase, AttemptPhase::Queued { .. }))
    }

    /// Whether an effect launches an attempt that stands so.
    fn phase_of_launch(&self, effect: &Effect, is: impl Fn(&AttemptPhase) -> bool) -> bool {
        let Effect::LaunchAttempt { attempt } = effect else {
            return false;
        };
        let run = self.slots.get(&attempt.run).and_then(|slot| slot.run());
        run.and_then(|run| run.live(*attempt))
            .is_some_and(|live| is(&live.phase))
    }
}
