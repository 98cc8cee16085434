//! What people say: decisions at gates, manual starts.

use pipekeeper_model::{
    Digest, NodeId, Outcome,
    plan::{Body, Start},
};

use super::{Draft, Rejection};
use crate::{Fact, Look, Verdict, fold::Fold, state::NodeState};

pub(super) fn decided(
    draft: &mut Draft<'_>,
    id: NodeId,
    verdict: Verdict,
    subject: &Digest,
    comment: Option<&String>,
) -> Result<(), Rejection> {
    let node = draft
        .node(id)
        .ok_or_else(|| Rejection::illegal("the plan has no such node"))?;
    let Body::Approve(rule) = &node.body else {
        return Err(Rejection::illegal(format!("`{}` is no gate", node.name)));
    };
    let gate = match draft.state(id) {
        Some(NodeState::Deciding(gate)) => gate,
        Some(NodeState::Done(_) | NodeState::Skipped { .. }) => {
            return Err(Rejection::stale(format!("`{}` was decided before", node.name)));
        }
        Some(
            NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. },
        )
        | None => return Err(Rejection::illegal(format!("`{}` is not open yet", node.name))),
    };
    if gate.subject != *subject {
        return Err(Rejection::stale(format!(
            "what `{}` asks about has changed since you looked",
            node.name
        )));
    }
    if gate.expires <= draft.at() {
        return Err(Rejection::stale(format!("`{}` has expired", node.name)));
    }
    if gate
        .approvals
        .iter()
        .any(|approval| approval.by == *draft.actor())
    {
        return Err(Rejection::Duplicate);
    }
    let approved = u32::try_from(gate.approvals.len())
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    match verdict {
        Verdict::Reject => {
            draft.record(Fact::GateRejected {
                node: id,
                comment: comment.cloned(),
            });
            draft.record(Fact::NodeFinished {
                node: id,
                outcome: Outcome::Rejected,
                reason: comment.cloned(),
            });
        }
        Verdict::Approve => {
            draft.record(Fact::GateApproved {
                node: id,
                subject: subject.clone(),
                comment: comment.cloned(),
            });
            if approved >= rule.count {
                draft.record(Fact::NodeFinished {
                    node: id,
                    outcome: Outcome::Succeeded,
                    reason: None,
                });
            }
        }
    }
    Ok(())
}

pub(super) fn start_pressed(draft: &mut Draft<'_>, id: NodeId, look: Look) -> Result<(), Rejection> {
    let node = draft
        .node(id)
        .ok_or_else(|| Rejection::illegal("the plan has no such node"))?;
    let (expires, looked) = match draft.state(id) {
        Some(NodeState::AwaitingStart { expires, looked, .. }) => (*expires, looked.as_ref()),
        Some(NodeState::Waiting) => {
            return Err(Rejection::illegal(format!(
                "it is not the turn of `{}` yet",
                node.name
            )));
        }
        Some(
            NodeState::AwaitingTime { .. }
            | NodeState::Deciding(_)
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. }
            | NodeState::Done(_)
            | NodeState::Skipped { .. },
        )
        | None => {
            return Err(Rejection::stale(format!(
                "`{}` does not wait for a person",
                node.name
            )));
        }
    };
    if expires <= draft.at() {
        return Err(Rejection::stale(format!(
            "`{}` was not started in time",
            node.name
        )));
    }
    match (&node.start, look, looked) {
        (Start::Confirm { .. }, Look::First, None) => draft.record(Fact::StartLooked { node: id }),
        (Start::Confirm { .. }, Look::First, Some(_)) => return Err(Rejection::Duplicate),
        (Start::Confirm { .. }, Look::Second, None) => {
            return Err(Rejection::illegal(format!(
                "`{}` wants a first look before it is confirmed",
                node.name
            )));
        }
        (Start::Confirm { by_other: true }, Look::Second, Some(first)) if first == draft.actor() => {
            return Err(Rejection::NotPermitted {
                why: format!("`{}` must be confirmed by another person", node.name),
            });
        }
        (Start::Confirm { .. }, Look::Second, Some(_)) | (Start::Manual, _, _) => {
            draft.record(Fact::StartGiven { node: id });
            draft.begin(id);
        }
        (Start::Auto | Start::Timed(_), _, _) => {
            return Err(Rejection::illegal(format!(
                "`{}` is not started by hand",
                node.name
            )));
        }
    }
    Ok(())
}
