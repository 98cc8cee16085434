//! Approvals, judged again when user code is about to start: by where those who gave them stand then.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{Name, NodeId, Outcome, SkipReason, plan::Node};

use super::{Draft, Rejection, judge};
use crate::{
    Fact, Signature, Standing,
    approval::Rule,
    fold::Fold,
    state::{Approval, ApprovalKind, NodeState},
    subject,
};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recheck {
    /// User code may start, as far as people are concerned.
    Stands,
    /// A gate in front is open, or was not approved again.
    Withheld,
}

/// Judges the gates in front of a node again, and opens those for which not enough approvals count any more.
pub(super) fn judge_again(
    draft: &mut Draft<'_>,
    id: NodeId,
    node: &Node,
    standings: &BTreeMap<Signature, Option<Standing>>,
) -> Result<Recheck, Rejection> {
    let mut void = Vec::new();
    for gate in draft.gates_of(id) {
        if let (Some(NodeState::Done(ended)), Some(rule)) = (draft.state(gate), Rule::of(draft.body(), gate))
            && ended.outcome == Outcome::Succeeded
            && let Some(left) = judged(&rule, &ended.decisions, standings)?
        {
            void.push((gate, left));
        }
    }
    for (gate, left) in void {
        reopen(draft, gate, left);
    }
    Ok(match judge::voided_gate(draft, id, node) {
        Some(_) => Recheck::Withheld,
        None => Recheck::Stands,
    })
}

/// What is left of approvals that are not enough any more.
struct Left {
    lost: BTreeSet<Name>,
    needed: u32,
}

/// Whether enough approvals count; none if they do.
fn judged(
    rule: &Rule<'_>,
    given: &[Approval],
    standings: &BTreeMap<Signature, Option<Standing>>,
) -> Result<Option<Left>, Rejection> {
    let (mut counting, mut needed, mut lost) = (0, rule.gate.count, BTreeSet::new());
    for approval in given {
        // Who gave it where people are not known was everybody.
        let Some(person) = &approval.person else {
            return Ok(None);
        };
        let signature = Signature {
            person: person.clone(),
            environment: rule.environment.cloned(),
        };
        match standings.get(&signature) {
            Some(Some(standing)) if approval.kind == ApprovalKind::Bypass && standing.may_bypass() => {
                return Ok(None);
            }
            Some(_) if approval.kind == ApprovalKind::Bypass => {
                lost.insert(person.clone());
            }
            None => {
                let why = "its approvals have changed meanwhile: it is to ask again";
                return Err(Rejection::stale(why));
            }
            Some(Some(standing)) if rule.asks(standing) && !rule.is_their_own(standing) => {
                counting += 1;
                needed = needed.max(rule.needed(standing));
            }
            Some(_) => {
                lost.insert(person.clone());
            }
        }
    }
    Ok((counting < needed).then_some(Left { lost, needed }))
}

fn reopen(draft: &mut Draft<'_>, gate: NodeId, left: Left) {
    let Some(node) = draft.node(gate) else { return };
    draft.record(Fact::GateVoided {
        node: gate,
        subject: subject(&draft.body().request, node),
        lost: left.lost,
        needed: left.needed,
        expires: draft.at() + node.timeout,
    });
    // After a failure nobody is asked any more.
    if let Some(failed) = draft.halted_by()
        && !judge::judges_outcomes(Some(node))
    {
        let reason = SkipReason::EarlierFailure {
            node: draft.name(failed),
        };
        draft.record(Fact::NodeSkipped {
            node: gate,
            reason,
            passes: false,
        });
    }
}
