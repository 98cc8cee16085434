//! Who somebody is at a gate: facts that the shell looks up. What follows from them is the engine's to decide.

use std::collections::BTreeSet;

use pipekeeper_model::{Actor, Name};

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Whoever sits at a place that knows no people: they are everybody, so every rule about people holds.
    Owner,
    /// A person whom the place knows.
    Person(Person),
}

/// A person, as the place knows them at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their name.
    pub name: Name,
    /// The roles that they have where the gate stands.
    pub roles: BTreeSet<Name>,
    /// What they are known by elsewhere, such as accounts of forges.
    pub identities: BTreeSet<Actor>,
    /// Who of the people known here asked for the run; nobody, if any account that asked for it, or for one that it does
    /// again, is nobody's.
    pub requester: Requester,
    /// Whether they count at gates whose rule names nobody.
    pub unnamed: Unnamed,
    /// Whether they may decide past the rules of a gate.
    pub bypass: Bypass,
}

/// Whether somebody counts at gates whose rule names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// They do not.
    Ignored,
    /// They do.
    Counts,
}

/// Whether somebody may bypass gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// They may not.
    Refused,
    /// They may, with a reason.
    Allowed,
}

/// Whom the run's actor is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requester {
    /// This person.
    Linked(Name),
    /// Nobody known here.
    Unlinked,
}

impl Standing {
    /// Whether they may bypass gates.
    pub fn may_bypass(&self) -> bool {
        self.person()
            .is_none_or(|person| person.bypass == Bypass::Allowed)
    }

    /// The person, where people are known.
    pub fn person(&self) -> Option<&Person> {
        match self {
            Self::Owner => None,
            Self::Person(person) => Some(person),
        }
    }
}
