//! All rules about a run: what an input means for it. Total, pure, one file per family of inputs.

mod advance;
mod attempt;
mod cancel;
mod deadline;
mod draft;
mod environment;
mod gate;
mod judge;
mod locks;
mod recheck;
mod request;
mod reuse;
mod start;

use pipekeeper_model::{AttemptId, Holder};
use thiserror::Error;

use crate::{
    Effect, EffectResult, Envelope, Event, Input, Run,
    run::Body,
    state::{AttemptPhase, NodeState},
};

use draft::Draft;

#[cfg(test)]
mod tests;

/// What an input leads to: facts to record and effects to perform, in one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a decision must be stored and its effects performed"]
pub struct Decision {
    /// The facts, in order.
    pub events: Vec<Event>,
    /// What to do outside once the facts are stored.
    pub effects: Vec<Effect>,
}

/// Why an input leads to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejection {
    /// It can never be right for this run.
    #[error("{why}")]
    Illegal {
        /// Why.
        why: String,
    },
    /// It was right once.
    #[error("{why}")]
    Stale {
        /// Why.
        why: String,
    },
    /// It was handled before.
    #[error("it was done before")]
    Duplicate,
    /// The actor may not do this.
    #[error("{why}")]
    NotPermitted {
        /// Why.
        why: String,
    },
}

impl Rejection {
    fn illegal(why: impl Into<String>) -> Self {
        Self::Illegal { why: why.into() }
    }

    fn stale(why: impl Into<String>) -> Self {
        Self::Stale { why: why.into() }
    }
}

/// Decides what an input means for a run.
///
/// # Errors
/// A [`Rejection`] if it means nothing; the run is unchanged then.
pub fn decide(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let body = match (&run.body, &input.body) {
        (None, Input::RunRequested(request)) => return request::create(run.id, input, request),
        (Some(_), Input::RunRequested(_)) => return Err(Rejection::Duplicate),
        (None, _) => return Err(Rejection::illegal("the run does not exist")),
        (Some(body), _) => body,
    };
    let mut draft = Draft::new(run.id, body, input.at, &input.actor);
    if draft.is_finished() {
        return Err(Rejection::stale("the run has ended"));
    }
    match &input.body {
        Input::RunRequested(_) => {}
        Input::TurnGiven => request::turn_given(&mut draft)?,
        Input::LocksGiven { hold } => locks::given(&mut draft, *hold)?,
        Input::StartPressed { node, look, standing } => {
            start::pressed(&mut draft, *node, (*look, standing))?;
        }
        Input::EarlierSought {
            attempt,
            inputs,
            found,
        } => reuse::sought(&mut draft, *attempt, inputs.as_ref(), found.as_deref())?,
        Input::LaunchHeldUp { attempt } => attempt::held_up(&mut draft, *attempt)?,
        Input::TicketAsked {
            attempt,
            holder,
            standings,
        } => attempt::ticket_asked(&mut draft, *attempt, holder, standings)?,
        Input::AttemptObserved { attempt, seen } => attempt::observed(&mut draft, *attempt, seen)?,
        Input::GateDecided {
            node,
            verdict,
            subject,
            comment,
            params,
            standing,
        } => {
            let said = gate::Said {
                verdict: *verdict,
                subject,
                comment: comment.as_ref(),
                standing,
                params,
            };
            gate::decided(&mut draft, *node, &said)?;
        }
        Input::CancelRequested(reason) => cancel::requested(&mut draft, reason)?,
        Input::DeadlineReached => deadline::reached(&mut draft)?,
        Input::EffectSettled { key, result } => match result {
            EffectResult::Done => attempt::effect_done(&mut draft, key)?,
            EffectResult::Failed { reason } => attempt::effect_failed(&mut draft, key, reason)?,
        },
    }
    draft.advance();
    Ok(draft.into_decision())
}

/// What to tell a supervisor that checked in, once every decision about it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketAnswer {
    /// It has the ticket.
    Go,
    /// It never will.
    Exit,
    /// It is being stopped; the stop tells it.
    Stopping,
    /// It has not asked yet, as far as the run knows.
    Ask,
}

/// Reads the answer to a check-in from the run's state; asking again gives the same answer.
pub fn ticket_answer(run: &Run, attempt: AttemptId, holder: &Holder) -> TicketAnswer {
    let live = match run.node(attempt.node) {
        Some(NodeState::Running(live)) if live.attempt == attempt => live,
        Some(_) | None => return TicketAnswer::Exit,
    };
    match &live.phase {
        AttemptPhase::Seeking { .. } | AttemptPhase::Queued { .. } | AttemptPhase::Launching { .. } => {
            TicketAnswer::Ask
        }
        AttemptPhase::Ticketed { holder: granted, .. } if granted == holder => TicketAnswer::Go,
        AttemptPhase::Stopping { holder: granted, .. } if granted == holder => TicketAnswer::Stopping,
        AttemptPhase::Ticketed { .. } | AttemptPhase::Stopping { .. } => TicketAnswer::Exit,
    }
}

impl Decision {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.effects.is_empty()
    }
}

impl Run {
    pub(crate) fn existing(&self) -> Option<&Body> {
        self.body.as_ref()
    }
}
