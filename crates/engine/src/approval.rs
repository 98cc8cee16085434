//! The rules about who may decide at a gate, and how many must agree.

use std::collections::BTreeSet;

use pipekeeper_model::{
    Actor, Approver, Name, NodeId,
    plan::{Body as NodeBody, Gate},
};

use crate::{
    run::Body,
    standing::{Person, Requester, Standing, Unnamed},
    state::Approval,
};

/// How many approvals it takes if nobody knows who asked for the run: one of them may be that very person's.
const STRANGERS: u32 = 2;

/// The rule of one gate in one run.
#[derive(Clone, Copy)]
pub(crate) struct Rule<'a> {
    pub(crate) gate: &'a Gate,
    /// The environment that it is the gate of.
    pub(crate) environment: Option<&'a Name>,
    requester: &'a Actor,
    asked_before: &'a BTreeSet<Actor>,
}

impl<'a> Rule<'a> {
    /// The rule of a node that is a gate.
    pub(crate) fn of(body: &'a Body, id: NodeId) -> Option<Self> {
        match &body.request.plan.node(id)?.body {
            NodeBody::Approve(gate) => Some(Self {
                gate,
                environment: body.request.plan.guarded_by(id),
                requester: &body.actor,
                asked_before: &body.request.asked_before,
            }),
            NodeBody::Work(_)
            | NodeBody::Wait(_)
            | NodeBody::Promote(_)
            | NodeBody::Sync(_)
            | NodeBody::Call(_) => None,
        }
    }

    /// Whether the gate asks this person at all.
    pub(crate) fn asks(&self, standing: &Standing) -> bool {
        let Some(person) = standing.person() else {
            return true;
        };
        let is_meant = |approver: &Approver| match approver {
            Approver::Role(role) => person.roles.contains(role),
            Approver::User(name) => *name == person.name,
        };
        if self.gate.by.is_empty() {
            person.unnamed == Unnamed::Counts
        } else {
            self.gate.by.iter().any(is_meant)
        }
    }

    /// Whether this person asked for the run, or for one that it does again, and may therefore not approve.
    pub(crate) fn is_their_own(&self, standing: &Standing) -> bool {
        let asked = |person: &Person| {
            let mut actors = self.asked_before.iter().chain([self.requester]);
            person.requester == Requester::Linked(person.name.clone())
                || actors.any(|actor| {
                    person.identities.contains(actor) || *actor == Actor::user(person.name.as_str())
                })
        };
        self.gate.self_approval.is_refused() && standing.person().is_some_and(asked)
    }

    /// How many approvals are needed, as far as this person's standing tells who asked for the run.
    pub(crate) fn needed(&self, standing: &Standing) -> u32 {
        let Some(person) = standing.person() else {
            return 1;
        };
        let mut actors = self.asked_before.iter().chain([self.requester]);
        let is_account = actors.any(|actor| match actor {
            Actor::Forge { .. } => true,
            Actor::System | Actor::User { .. } => false,
        });
        let is_stranger = is_account && person.requester == Requester::Unlinked;
        if is_stranger && self.gate.self_approval.is_refused() {
            self.gate.count.max(STRANGERS)
        } else {
            self.gate.count
        }
    }

    /// Who asked for the run and may therefore not approve, for people.
    pub(crate) fn not_by(&self) -> Option<&'a Actor> {
        match self.requester {
            Actor::Forge { .. } | Actor::User { .. } => {
                self.gate.self_approval.is_refused().then_some(self.requester)
            }
            Actor::System => None,
        }
    }
}

/// Whether an approval is this decider's own, whatever they were known by when they gave it.
pub(crate) fn is_by(approval: &Approval, standing: &Standing, actor: &Actor) -> bool {
    match standing.person() {
        None => approval.by == *actor,
        Some(person) => {
            approval.person.as_ref() == Some(&person.name)
                || approval.by == *actor
                || person.identities.contains(&approval.by)
        }
    }
}

/// Who is asked, for people: `role:ops or user:ann`.
pub(crate) fn named(by: &[Approver]) -> String {
    let names: Vec<String> = by.iter().map(Approver::to_string).collect();
    names.join(" or ")
}

/// What a person is, for people who are told why that is not enough.
pub(crate) fn roles(person: &Person) -> String {
    let roles: Vec<&str> = person.roles.iter().map(Name::as_str).collect();
    match roles.as_slice() {
        [] => format!("{} has no role here", person.name),
        [role] => format!("{} has the role {role}", person.name),
        roles => format!("{} has the roles {}", person.name, roles.join(", ")),
    }
}
