//! The loop's part about effects: perform, try again, settle.

use pipekeeper_engine::{AttemptPhase, Effect, EffectResult, Input, LiveAttempt};
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
        let Some(known) = self.slots.get(&run).and_then(|slot| slot.run()) else {
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
                match Draft::new(known, *attempt) {
                    Ok(draft) => self.tools.launch(lane.clone(), effect, draft),
                    Err(error) => {
                        let reason = error.to_string();
                        return self.performed(lane, &effect, Performed::Terminal { reason });
                    }
                }
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
            // Whoever listens heard of the run's end with its events.
            Effect::Notify { .. } => return self.performed(lane, &effect, Performed::Done),
        };
        self.start(job);
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
            | Effect::Notify { .. } => {}
        }
        match result {
            Performed::Done => {
                self.outbox.finish(lane);
                if self.phase_of_launch(effect, |phase| matches!(phase, AttemptPhase::Queued { .. })) {
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
                tracing::info!(run.id = %run, "waits with {}: {reason}", effect.name());
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
                // The end of any run wakes it; the timer only repairs.
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
