//! The loop's part about tickets: who asks for one, and where those stand whose approvals opened the way to it.

use std::{collections::BTreeMap, sync::Arc};

use pipekeeper_engine::{Input, Run, Signature, Standing, TicketAnswer, approvers};
use pipekeeper_model::{Actor, AttemptId, Holder, RunId};

use crate::{
    Controller,
    job::Done,
    slot::{Slot, Then, answer},
};

impl Controller {
    /// A supervisor asks for its ticket. Whether the approvals in front still count is judged by where those who gave
    /// them stand now, which is asked outside of any transaction, and only if there are any.
    pub(crate) fn checked_in(&mut self, attempt: AttemptId, holder: Holder) {
        let run = self.slots.get(&attempt.run).and_then(Slot::run);
        if run.is_some_and(|run| run.live(attempt).is_some())
            && let Err(reason) = self.take_seat(attempt)
        {
            // It was launched by a server that died before it could say so; its launch stands in the line again.
            return self.done(Done::Unanswered { attempt, reason });
        }
        let run = self.slots.get(&attempt.run).and_then(Slot::run);
        let asked = run.and_then(|run| {
            let signed = approvers(run, attempt.node);
            (!signed.is_empty()).then(|| Some((run.request()?.project.clone(), signed, run.requesters())))?
        });
        // The engine refuses a ticket for want of an answer that was not asked for, as of a run that was not in memory.
        let Some((project, signed, requesters)) = asked else {
            return self.ask_ticket(attempt, holder, BTreeMap::new());
        };
        let people = Arc::clone(&self.ports.people);
        self.start(Box::pin(async move {
            match people.standings(&project, &signed, &requesters).await {
                Ok(mut found) => {
                    let standings = signed.into_iter().map(|one| {
                        let standing = found.remove(&one);
                        (one, standing)
                    });
                    Done::Stood {
                        attempt,
                        holder,
                        standings: standings.collect(),
                    }
                }
                Err(away) => {
                    tracing::warn!(attempt.id = %attempt, "cannot {away}");
                    let reason = away.to_string();
                    Done::Unanswered { attempt, reason }
                }
            }
        }));
    }

    pub(crate) fn ask_ticket(
        &mut self,
        attempt: AttemptId,
        holder: Holder,
        standings: BTreeMap<Signature, Option<Standing>>,
    ) {
        let then = Then::Answer {
            attempt,
            holder: holder.clone(),
        };
        let input = Input::TicketAsked {
            attempt,
            holder,
            standings,
        };
        self.queue(attempt.run, Actor::System, input, then);
    }

    /// Whether a ticket was asked for without all answers that are needed to judge that.
    pub(crate) fn knows_too_little(&self, input: &Input) -> bool {
        let Input::TicketAsked {
            attempt, standings, ..
        } = input
        else {
            return false;
        };
        let run = self.slots.get(&attempt.run).and_then(Slot::run);
        run.is_some_and(|run| {
            run.live(*attempt).is_some()
                && approvers(run, attempt.node)
                    .iter()
                    .any(|signed| !standings.contains_key(signed))
        })
    }

    pub(crate) fn answer_check_in(&mut self, run: RunId, attempt: AttemptId, holder: Holder) {
        if !self.may_act() {
            // It is looked at again once this server may.
            return;
        }
        let Some(slot) = self.slots.get(&run) else { return };
        if !slot.is_stored() && slot.run().is_some() {
            // What it would be told now may never be stored: it is asked for once more, behind what is under way.
            return self.checked_in(attempt, holder);
        }
        match (answer(slot, attempt, &holder), slot.run().and_then(Run::request)) {
            (TicketAnswer::Go, Some(request)) => {
                self.start(self.tools.answer_go(Arc::clone(request), attempt, holder));
            }
            (TicketAnswer::Exit, _) => self.start(self.tools.answer_exit(attempt, holder)),
            (TicketAnswer::Go | TicketAnswer::Stopping | TicketAnswer::Ask, _) => {}
        }
    }
}
