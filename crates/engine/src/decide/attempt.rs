//! Tickets, observations and launches that failed.

use std::collections::BTreeMap;

use pipekeeper_model::{
    AttemptId, AttemptOutcome, AttemptRecord, Holder, Millis, NodeId, Outcome, SkipReason,
    plan::{Node, Section, defaults},
};

use super::{
    Draft, Rejection, environment, judge,
    recheck::{self, Recheck},
    reuse,
};
use crate::{
    Effect, EffectKey, Fact, Next, Seen, Signature, Standing,
    fold::Fold,
    run::FinallyPhase,
    state::{AttemptPhase, LiveAttempt, NodeState},
};

/// How often an attempt that never had a ticket is tried again without counting against `retry`.
const FREE_TRIES: u32 = 5;
/// The pause before the first free try; doubled for each further one.
const FREE_BACKOFF: Millis = Millis::seconds(1);
/// How long after its timeout the engine stops an attempt whose supervisor did not.
const TIMEOUT_MARGIN: Millis = Millis::seconds(30);
const NOT_LAUNCHED: &str = "the attempt was not launched";
const LAUNCHED: &str = "the attempt was launched after all";

pub(super) fn ticket_asked(
    draft: &mut Draft<'_>,
    attempt: AttemptId,
    holder: &Holder,
    standings: &BTreeMap<Signature, Option<Standing>>,
) -> Result<(), Rejection> {
    let live = live(draft, attempt)?;
    match &live.phase {
        AttemptPhase::Seeking { .. } => return Err(Rejection::illegal(NOT_LAUNCHED)),
        // Its launch may have come through although nobody heard of it.
        AttemptPhase::Queued { .. } | AttemptPhase::Launching { .. } => {}
        AttemptPhase::Ticketed { holder: granted, .. } | AttemptPhase::Stopping { holder: granted, .. } => {
            return if granted == holder {
                Err(Rejection::Duplicate)
            } else {
                Err(Rejection::illegal("another supervisor has the ticket"))
            };
        }
    }
    let node = draft
        .node(attempt.node)
        .ok_or_else(|| Rejection::illegal("the plan has no such node"))?;
    if recheck::judge_again(draft, attempt.node, node, standings)? == Recheck::Withheld {
        withdraw(draft, attempt);
        return Ok(());
    }
    // What else made the node ready cannot be undone, as settled nodes never change; this guards the guard.
    if !judge::may_start(draft, attempt.node, node) {
        return Err(Rejection::illegal("its needs do not allow it to start"));
    }
    if matches!(draft.finally(), FinallyPhase::Open { deadline } if deadline <= draft.at()) {
        return Err(Rejection::stale("the time of `finally` is over"));
    }
    // Taken back once, it is new to whatever failed since.
    if live.tries.withdrawn > 0
        && live.tries.begun() == 0
        && let Some(reason) = earlier_failure(draft, node)
    {
        take_back(draft, attempt, &reason.to_string());
        cancel_after(draft, attempt.node, &reason);
        return Ok(());
    }
    if environment::is_closed(draft, attempt.node) {
        take_back(draft, attempt, "the windows of its environment have closed");
        wait_again(draft, attempt.node, node);
        return Ok(());
    }
    let deadline = draft.at() + node.timeout + defaults::GRACE + TIMEOUT_MARGIN;
    draft.record(Fact::TicketGranted {
        attempt,
        holder: holder.clone(),
        deadline,
    });
    Ok(())
}

/// Ends an attempt that may not have its ticket now; its node waits for what is in front of it again.
pub(super) fn withdraw(draft: &mut Draft<'_>, attempt: AttemptId) {
    take_back(draft, attempt, "a gate in front of it opened again");
    if draft.unsettled(attempt.node) == 0 {
        draft.arrivals.insert(attempt.node);
    }
}

/// What was taken back waits for its window, unless a failure has stopped what had not started.
fn wait_again(draft: &mut Draft<'_>, id: NodeId, node: &Node) {
    match earlier_failure(draft, node) {
        Some(reason) => cancel_after(draft, id, &reason),
        None => draft.ready(id),
    }
}

/// The failure that stops what has not started, if there was one.
fn earlier_failure(draft: &Draft<'_>, node: &Node) -> Option<SkipReason> {
    let failed = draft.halted_by()?;
    let is_stopped = node.section == Section::Main && !judge::judges_outcomes(Some(node));
    is_stopped.then(|| SkipReason::EarlierFailure {
        node: draft.name(failed),
    })
}

fn cancel_after(draft: &mut Draft<'_>, node: NodeId, reason: &SkipReason) {
    draft.record(Fact::NodeFinished {
        node,
        outcome: Outcome::Cancelled,
        reason: Some(reason.to_string()),
    });
}

fn take_back(draft: &mut Draft<'_>, attempt: AttemptId, reason: &str) {
    let record = AttemptRecord::without_steps(AttemptOutcome::Cancelled, reason, draft.at());
    draft.record(Fact::AttemptFinished {
        attempt,
        record: Box::new(record),
        next: Next::Withdrawn,
    });
    draft.perform(Effect::StopAttempt {
        attempt,
        grace: defaults::GRACE,
    });
}

pub(super) fn observed(draft: &mut Draft<'_>, attempt: AttemptId, seen: &Seen) -> Result<(), Rejection> {
    let live = live(draft, attempt)?;
    match (seen, &live.phase) {
        (Seen::Finished { .. } | Seen::Gone { .. } | Seen::Hopeless { .. }, AttemptPhase::Seeking { .. }) => {
            return Err(Rejection::stale(NOT_LAUNCHED));
        }
        (Seen::Gone { .. }, AttemptPhase::Queued { .. }) => {
            return Err(Rejection::stale("it is launched again anyway"));
        }
        (Seen::Finished { record, .. }, AttemptPhase::Queued { .. } | AttemptPhase::Launching { .. }) => {
            // Success needs a ticket; without one only the news that it cannot start is believed.
            let reason = record
                .reason
                .clone()
                .unwrap_or_else(|| "it ended without a ticket".to_owned());
            never_started(draft, &live, reason);
        }
        (
            Seen::Finished { holder, record },
            AttemptPhase::Ticketed { holder: granted, .. } | AttemptPhase::Stopping { holder: granted, .. },
        ) => {
            if holder != granted {
                return Err(Rejection::illegal("the record is not the ticketed supervisor's"));
            }
            ended(draft, &live, record.as_ref().clone());
        }
        (Seen::Gone { reason }, AttemptPhase::Launching { .. }) => {
            never_started(draft, &live, reason.clone())
        }
        (Seen::Gone { reason }, AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. }) => {
            let record = AttemptRecord::without_steps(AttemptOutcome::Lost, reason.clone(), draft.at());
            ended(draft, &live, record);
        }
        (Seen::Hopeless { reason }, AttemptPhase::Queued { .. } | AttemptPhase::Launching { .. }) => {
            hopeless(draft, &live, reason);
        }
        // It has its ticket and never heard of it.
        (Seen::Hopeless { reason }, AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. }) => {
            let record = AttemptRecord::without_steps(AttemptOutcome::Errored, reason.clone(), draft.at());
            ended(draft, &live, record);
        }
    }
    Ok(())
}

/// An attempt cannot be launched now: what counts from here on is the time in the queue.
pub(super) fn held_up(draft: &mut Draft<'_>, attempt: AttemptId) -> Result<(), Rejection> {
    match live(draft, attempt)?.phase {
        AttemptPhase::Launching { .. } => {
            let expires = draft.at() + defaults::QUEUE;
            draft.record(Fact::LaunchHeldUp { attempt, expires });
            Ok(())
        }
        AttemptPhase::Queued { .. } => Err(Rejection::Duplicate),
        AttemptPhase::Seeking { .. } => Err(Rejection::stale(NOT_LAUNCHED)),
        AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. } => Err(Rejection::stale(LAUNCHED)),
    }
}

/// A launch that was held up went through; other effects that were performed have nothing to say to the run.
pub(super) fn effect_done(draft: &mut Draft<'_>, key: &EffectKey) -> Result<(), Rejection> {
    let attempt = launched_by(key)?;
    match live(draft, attempt)?.phase {
        AttemptPhase::Queued { .. } => {
            let check_in_by = draft.at() + defaults::CHECK_IN;
            draft.record(Fact::LaunchWentOn { attempt, check_in_by });
            Ok(())
        }
        AttemptPhase::Seeking { .. } => Err(Rejection::stale(NOT_LAUNCHED)),
        AttemptPhase::Launching { .. } | AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. } => {
            Err(Rejection::Duplicate)
        }
    }
}

/// A launch that will not be tried again ends its attempt; other effects have nothing to say to the run.
pub(super) fn effect_failed(draft: &mut Draft<'_>, key: &EffectKey, reason: &str) -> Result<(), Rejection> {
    let live = live(draft, launched_by(key)?)?;
    match live.phase {
        AttemptPhase::Queued { .. } | AttemptPhase::Launching { .. } => {
            hopeless(draft, &live, reason);
            Ok(())
        }
        AttemptPhase::Seeking { .. } => Err(Rejection::stale(NOT_LAUNCHED)),
        AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. } => Err(Rejection::stale(LAUNCHED)),
    }
}

/// Nothing made room for it in time.
pub(super) fn never_queued_in(draft: &mut Draft<'_>, live: &LiveAttempt) {
    let reason = "it could not be launched in 24 hours";
    let record = AttemptRecord::without_steps(AttemptOutcome::TimedOut, reason, draft.at());
    settle(draft, live, record, Outcome::TimedOut);
    draft.perform(Effect::StopAttempt {
        attempt: live.attempt,
        grace: defaults::GRACE,
    });
}

fn launched_by(key: &EffectKey) -> Result<AttemptId, Rejection> {
    let attempt = key
        .0
        .strip_suffix("/launch")
        .and_then(|attempt| attempt.parse().ok());
    attempt.ok_or_else(|| Rejection::stale("no node waits for that effect"))
}

/// No user code ran, and none ever will.
fn hopeless(draft: &mut Draft<'_>, live: &LiveAttempt, reason: &str) {
    let record = AttemptRecord::without_steps(AttemptOutcome::Errored, reason, draft.at());
    settle(draft, live, record, Outcome::Errored);
}

pub(super) fn live(draft: &Draft<'_>, attempt: AttemptId) -> Result<LiveAttempt, Rejection> {
    if attempt.run != draft.run() {
        return Err(Rejection::illegal("the attempt belongs to another run"));
    }
    match draft.state(attempt.node) {
        Some(NodeState::Running(live)) if live.attempt == attempt => Ok(live.clone()),
        Some(_) => Err(Rejection::stale("the attempt has ended")),
        None => Err(Rejection::illegal("the plan has no such node")),
    }
}

/// An attempt ended before its ticket: no user code ran, so it is tried again free.
pub(super) fn never_started(draft: &mut Draft<'_>, live: &LiveAttempt, reason: String) {
    let record = AttemptRecord::without_steps(AttemptOutcome::Errored, reason, draft.at());
    if may_retry(draft, live.attempt.node) && live.tries.free < FREE_TRIES {
        let until = draft.at() + doubled(FREE_BACKOFF, live.tries.free);
        let next = Next::Retried { until, paid: false };
        draft.record(Fact::AttemptFinished {
            attempt: live.attempt,
            record: Box::new(record),
            next,
        });
    } else {
        settle(draft, live, record, Outcome::Errored);
    }
    draft.perform(Effect::StopAttempt {
        attempt: live.attempt,
        grace: defaults::GRACE,
    });
}

fn ended(draft: &mut Draft<'_>, live: &LiveAttempt, record: AttemptRecord) {
    let outcome = match &live.phase {
        // It was stopped and ended for it; what ended by itself in the meantime keeps its own outcome.
        AttemptPhase::Stopping { outcome, .. } => match record.outcome {
            AttemptOutcome::Cancelled | AttemptOutcome::Lost | AttemptOutcome::TimedOut => *outcome,
            AttemptOutcome::Succeeded | AttemptOutcome::Failed | AttemptOutcome::Errored => {
                record.outcome.to_outcome()
            }
        },
        AttemptPhase::Seeking { .. }
        | AttemptPhase::Queued { .. }
        | AttemptPhase::Launching { .. }
        | AttemptPhase::Ticketed { .. } => record.outcome.to_outcome(),
    };
    let retry = draft.node(live.attempt.node).map(|node| &node.retry);
    let again =
        retry.is_some_and(|retry| retry.on.contains(&outcome) && live.tries.paid + 1 < retry.attempts);
    if again && may_retry(draft, live.attempt.node) {
        let pause = retry.map_or(Millis(0), |retry| retry.backoff);
        let until = draft.at() + doubled(pause, live.tries.paid);
        let next = Next::Retried { until, paid: true };
        draft.record(Fact::AttemptFinished {
            attempt: live.attempt,
            record: Box::new(record),
            next,
        });
        if until <= draft.at() {
            draft.ready(live.attempt.node);
        }
    } else {
        settle(draft, live, record, outcome);
    }
}

fn settle(draft: &mut Draft<'_>, live: &LiveAttempt, record: AttemptRecord, outcome: Outcome) {
    let next = Next::Settled { outcome };
    draft.record(Fact::AttemptFinished {
        attempt: live.attempt,
        record: Box::new(record),
        next,
    });
    reuse::remember(draft, live, outcome);
}

/// Whether anything of this node may still start.
fn may_retry(draft: &Draft<'_>, node: NodeId) -> bool {
    match draft.node(node).map(|node| node.section) {
        Some(Section::Main) => !draft.is_stopping(),
        Some(Section::Finally) => draft.finally() != FinallyPhase::Stopped,
        None => false,
    }
}

fn doubled(pause: Millis, times: u32) -> Millis {
    Millis(
        pause
            .0
            .saturating_mul(1_u64.checked_shl(times.min(16)).unwrap_or(u64::MAX)),
    )
}
