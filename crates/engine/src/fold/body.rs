//! The fold into a run itself.

use std::sync::Arc;

use pipekeeper_model::{NodeId, plan::Section};

use super::Fold;
use crate::{
    HoldState, RunPhase, RunRequest,
    run::{Body, FinallyPhase, Tickets},
    state::{NodeState, Tries},
};

impl Fold for Body {
    fn request(&self) -> &Arc<RunRequest> {
        &self.request
    }

    fn state(&self, node: NodeId) -> Option<&NodeState> {
        self.nodes.get(node.index())
    }

    fn set_state(&mut self, node: NodeId, state: NodeState) {
        let may_run = self.may_run(node);
        let section = self
            .request
            .plan
            .node(node)
            .map_or(Section::Main, |node| node.section);
        let Some(slot) = self.nodes.get_mut(node.index()) else {
            return;
        };
        let (was_settled, is_settled) = (slot.is_settled(), state.is_settled());
        self.index.leave(node, section, slot);
        self.index.enter(node, section, &state);
        self.index.look(node, &state, may_run);
        *slot = state;
        if is_settled != was_settled {
            let dependents = Arc::clone(&self.index.dependents);
            for dependent in dependents.get(node.index()).into_iter().flatten() {
                if let Some(count) = self.index.unsettled_needs.get_mut(dependent.index()) {
                    *count = if is_settled {
                        count.saturating_sub(1)
                    } else {
                        count.saturating_add(1)
                    };
                }
            }
        }
    }

    fn set_phase(&mut self, phase: RunPhase) {
        self.phase = phase;
    }

    fn set_halted(&mut self, by: NodeId) {
        self.halted_by = Some(by);
    }

    fn set_finally(&mut self, phase: FinallyPhase) {
        self.finally = phase;
    }

    fn set_ticketed(&mut self) {
        self.tickets = Tickets::Some;
    }

    fn set_voided(&mut self, gate: NodeId) {
        self.again.gates.insert(gate);
    }

    fn kept_tries(&self, node: NodeId) -> Tries {
        self.again.tries_of(node)
    }

    fn keep_tries(&mut self, node: NodeId, tries: Tries) {
        self.again.keep(node, tries);
    }

    fn set_hold(&mut self, hold: NodeId, state: Option<HoldState>) {
        self.holds.set(hold, state);
        let may_run = matches!(state, Some(HoldState::Held { .. }));
        let parties = Arc::clone(&self.index.parties);
        for member in parties.get(&hold).into_iter().flat_map(|party| &party.members) {
            if let Some(state) = self.nodes.get(member.index()) {
                self.index.look(*member, state, may_run);
            }
        }
    }
}
