//! What people say at gates.

use std::collections::BTreeMap;

use pipekeeper_model::{Digest, Name, NodeId, Outcome, ParamValue, param_values};

use super::{Draft, Rejection};
use crate::{
    Approval, Fact, Standing, Verdict,
    approval::{self, Rule},
    fold::Fold,
    state::{NodeState, OpenGate},
};

/// What a person says at a gate.
pub(super) struct Said<'a> {
    pub(super) verdict: Verdict,
    pub(super) subject: &'a Digest,
    pub(super) comment: Option<&'a String>,
    pub(super) standing: &'a Standing,
    pub(super) params: &'a BTreeMap<Name, String>,
}

pub(super) fn decided(draft: &mut Draft<'_>, id: NodeId, said: &Said<'_>) -> Result<(), Rejection> {
    let node = draft
        .node(id)
        .ok_or_else(|| Rejection::illegal("the plan has no such node"))?;
    let rule = Rule::of(draft.body(), id)
        .ok_or_else(|| Rejection::illegal(format!("`{}` is no gate", node.name)))?;
    let open = open_gate(draft, id, &node.name)?;
    if open.subject != *said.subject {
        return Err(Rejection::stale(format!(
            "what `{}` asks about has changed since you looked",
            node.name
        )));
    }
    if open.expires <= draft.at() {
        return Err(Rejection::stale(format!("`{}` has expired", node.name)));
    }
    may_decide(&rule, &node.name, said)?;
    let is_theirs = |given: &Approval| approval::is_by(given, said.standing, draft.actor());
    if open.approvals.iter().any(is_theirs) {
        match said.verdict {
            Verdict::Approve => return Err(Rejection::Duplicate),
            Verdict::Reject => {
                return Err(not_permitted(format!(
                    "you have approved `{}`, and everybody decides once; cancel the run to stop it",
                    node.name
                )));
            }
            Verdict::Bypass => {}
        }
    }
    let given = open.approvals.len();
    let params = values(&rule, &node.name, said, open)?;
    record(
        draft,
        id,
        said,
        Weight {
            given,
            needed: rule.needed(said.standing),
            params,
        },
    );
    Ok(())
}

/// What an approval comes to.
struct Weight {
    given: usize,
    needed: u32,
    params: BTreeMap<Name, ParamValue>,
}

/// The values that are let through: by everybody the same, so that what comes after has the approval of all.
fn values(
    rule: &Rule<'_>,
    name: &str,
    said: &Said<'_>,
    open: &OpenGate,
) -> Result<BTreeMap<Name, ParamValue>, Rejection> {
    let read = || {
        param_values(&rule.gate.params, said.params)
            .map_err(|why| Rejection::illegal(format!("`{name}` asks for values: {why}")))
    };
    let first = open.approvals.first();
    match (said.verdict, first) {
        (Verdict::Reject, _) => Ok(BTreeMap::new()),
        (Verdict::Approve, Some(first)) => {
            let values = read()?;
            if values == first.params {
                return Ok(values);
            }
            let theirs = first.params.iter().map(|(name, value)| format!("{name}={value}"));
            let theirs = theirs.collect::<Vec<_>>().join(", ");
            Err(Rejection::illegal(format!(
                "{} approved `{name}` with {theirs}: approve the same, or reject",
                first.by
            )))
        }
        (Verdict::Approve, None) | (Verdict::Bypass, _) => read(),
    }
}

fn open_gate<'d>(draft: &'d Draft<'_>, id: NodeId, name: &str) -> Result<&'d OpenGate, Rejection> {
    match draft.state(id) {
        Some(NodeState::Deciding(gate)) => Ok(gate),
        Some(NodeState::Done(_) | NodeState::Skipped { .. }) => {
            Err(Rejection::stale(format!("`{name}` was decided before")))
        }
        Some(
            NodeState::Waiting
            | NodeState::AwaitingStart { .. }
            | NodeState::AwaitingTime { .. }
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. },
        )
        | None => Err(Rejection::illegal(format!("`{name}` is not open yet"))),
    }
}

/// Whether the rule lets this person say this.
fn may_decide(rule: &Rule<'_>, name: &str, said: &Said<'_>) -> Result<(), Rejection> {
    let is_silent = said.comment.is_none_or(|comment| comment.trim().is_empty());
    match said.verdict {
        Verdict::Approve => may_approve(rule, name, said.standing),
        Verdict::Reject => {
            is_asked(rule, name, said.standing)?;
            if is_silent {
                return Err(Rejection::illegal(format!(
                    "say why you reject `{name}`: add a comment"
                )));
            }
            Ok(())
        }
        Verdict::Bypass if !said.standing.may_bypass() => Err(not_permitted(format!(
            "you may not bypass `{name}`: that is a right of its own, which an administrator has"
        ))),
        Verdict::Bypass if is_silent => Err(Rejection::illegal(format!(
            "say why you bypass `{name}`: add a comment"
        ))),
        Verdict::Bypass => Ok(()),
    }
}

fn is_asked(rule: &Rule<'_>, name: &str, standing: &Standing) -> Result<(), Rejection> {
    match standing.person() {
        Some(person) if !rule.asks(standing) => {
            let by = approval::named(&rule.gate.by);
            let roles = approval::roles(person);
            Err(not_permitted(format!("`{name}` is decided by {by}, and {roles}")))
        }
        Some(_) | None => Ok(()),
    }
}

fn may_approve(rule: &Rule<'_>, name: &str, standing: &Standing) -> Result<(), Rejection> {
    is_asked(rule, name, standing)?;
    if !rule.is_their_own(standing) {
        return Ok(());
    }
    let by = approval::named(&rule.gate.by);
    let who = if by.is_empty() {
        "somebody else".to_owned()
    } else {
        format!("somebody else who is {by}")
    };
    Err(not_permitted(format!(
        "you asked for this run: `{name}` is to be approved by {who}, unless it says `self: true`"
    )))
}

fn record(draft: &mut Draft<'_>, id: NodeId, said: &Said<'_>, weight: Weight) {
    let Weight {
        given,
        needed,
        params,
    } = weight;
    let person = said.standing.person().map(|person| person.name.clone());
    let comment = said.comment.cloned();
    match said.verdict {
        Verdict::Reject => {
            draft.record(Fact::GateRejected {
                node: id,
                comment: comment.clone(),
                person,
            });
            draft.record(Fact::NodeFinished {
                node: id,
                outcome: Outcome::Rejected,
                reason: comment,
            });
        }
        Verdict::Approve => {
            draft.record(Fact::GateApproved {
                node: id,
                subject: said.subject.clone(),
                comment,
                person,
                needed,
                params,
            });
            if given + 1 >= needed as usize {
                let_through(draft, id);
            }
        }
        Verdict::Bypass => {
            draft.record(Fact::GateBypassed {
                node: id,
                subject: said.subject.clone(),
                comment,
                person,
                params,
            });
            let_through(draft, id);
        }
    }
}

fn let_through(draft: &mut Draft<'_>, id: NodeId) {
    draft.record(Fact::NodeFinished {
        node: id,
        outcome: Outcome::Succeeded,
        reason: None,
    });
}

fn not_permitted(why: String) -> Rejection {
    Rejection::NotPermitted { why }
}
