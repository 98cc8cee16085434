//! Manual starts: `start: manual`, and the two looks of `start: confirm`.

use pipekeeper_model::{Actor, NodeId, Timestamp, plan::Start};

use super::{Draft, Rejection};
use crate::{Fact, Look, Standing, Unnamed, fold::Fold, state::NodeState};

pub(super) fn pressed(
    draft: &mut Draft<'_>,
    id: NodeId,
    (look, standing): (Look, &Standing),
) -> Result<(), Rejection> {
    let node = draft
        .node(id)
        .ok_or_else(|| Rejection::illegal("the plan has no such node"))?;
    let (expires, looked) = awaited(draft, id, &node.name)?;
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
        (Start::Confirm { by_other: true }, Look::Second, Some(first))
            if !is_another(standing, draft.actor(), first) =>
        {
            return Err(Rejection::NotPermitted {
                why: format!(
                    "{first} asked for the start of `{}`: it is to be confirmed by another person",
                    node.name
                ),
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

/// Until when a node waits for somebody, and who took the first look.
fn awaited<'d>(
    draft: &'d Draft<'_>,
    id: NodeId,
    name: &str,
) -> Result<(Timestamp, Option<&'d Actor>), Rejection> {
    match draft.state(id) {
        Some(NodeState::AwaitingStart { expires, looked, .. }) => Ok((*expires, looked.as_ref())),
        Some(NodeState::Waiting) => Err(Rejection::illegal(format!("it is not the turn of `{name}` yet"))),
        Some(
            NodeState::AwaitingTime { .. }
            | NodeState::Deciding(_)
            | NodeState::Ready { .. }
            | NodeState::Running(_)
            | NodeState::Backoff { .. }
            | NodeState::Done(_)
            | NodeState::Skipped { .. },
        )
        | None => Err(Rejection::stale(format!("`{name}` does not wait for a person"))),
    }
}

/// Whether somebody is another person than whoever took the first look, whatever they were known by. Where people are not
/// known everybody is; whoever counts at no gate that names nobody confirms for nobody.
fn is_another(standing: &Standing, actor: &Actor, first: &Actor) -> bool {
    standing.person().is_none_or(|person| {
        let is_own = first == actor
            || *first == Actor::user(person.name.as_str())
            || person.identities.contains(first);
        !is_own && person.unnamed == Unnamed::Counts
    })
}
