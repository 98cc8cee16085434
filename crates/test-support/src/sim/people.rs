//! Who people are in a simulation: their roles, and what they are known by at the forge.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_engine::{Bypass, Person, Requester, Standing, Unnamed};
use pipekeeper_model::{Actor, Name, Timestamp};

use super::{plans::name, rng::Rng};

/// Everybody there is, with the roles that they have.
const PEOPLE: [(&str, &[&str]); 4] = [
    ("ann", &["ops", "dev"]),
    ("bob", &["dev"]),
    ("eve", &["ops"]),
    ("zoe", &["ops"]),
];

/// The account that pushes.
const PUSHER: &str = "pusher";

/// What a server knows of people.
#[derive(Clone, Debug)]
pub(crate) struct People {
    roles: BTreeMap<Name, BTreeSet<Name>>,
    /// Whose account the pushing one is.
    pusher: Option<Name>,
    changes: Option<Changes>,
}

/// How people change: after every period anew.
#[derive(Clone, Copy, Debug)]
struct Changes {
    seed: u64,
    period: u64,
}

impl Default for People {
    fn default() -> Self {
        let person = |(person, roles): (&str, &[&str])| {
            let roles = roles.iter().map(|role| name(role)).collect();
            (name(person), roles)
        };
        Self {
            roles: PEOPLE.into_iter().map(person).collect(),
            pusher: None,
            changes: None,
        }
    }
}

impl People {
    /// In every other world the pushing account is somebody's, and in every third people come, go and change.
    pub(crate) fn of(seed: u64) -> Self {
        let period = Rng::derived(seed, &[8]).pick(2_000, &[20_000, 300_000, 2_000_000]);
        Self {
            changes: seed.is_multiple_of(3).then_some(Changes { seed, period }),
            pusher: seed.is_multiple_of(2).then(|| name("eve")),
            ..Self::default()
        }
    }

    /// The person behind an identity.
    pub(crate) fn known(&self, actor: &Actor) -> Option<Name> {
        let found = match actor {
            Actor::System => return None,
            Actor::User { name } => name,
            Actor::Forge { login, .. } if login == PUSHER => return self.pusher.clone(),
            Actor::Forge { login, .. } => login,
        };
        found.parse().ok().filter(|name| self.roles.contains_key(name))
    }

    /// The roles that a person has; none if they are gone.
    pub(crate) fn roles(&self, person: &Name, at: Timestamp) -> Option<BTreeSet<Name>> {
        let (number, (_, roles)) = (1..).zip(&self.roles).find(|(_, (name, _))| *name == person)?;
        let Some(Changes { seed, period }) = self.changes else {
            return Some(roles.clone());
        };
        let now = u64::try_from(at.0).unwrap_or(0) / period;
        match Rng::derived(seed, &[10, number, now]).below(8) {
            0 => None,
            1..=2 => Some(BTreeSet::new()),
            _ => Some(roles.clone()),
        }
    }

    /// Where somebody stands in a run that this actor asked for; none if they are gone.
    pub(crate) fn standing(&self, person: &Name, requester: &Actor, at: Timestamp) -> Option<Standing> {
        let roles = self.roles(person, at)?;
        let is_pusher = self.pusher.as_ref() == Some(person);
        let identities = [account(person.as_str())]
            .into_iter()
            .chain(is_pusher.then(pusher))
            .collect();
        Some(Standing::Person(Person {
            name: person.clone(),
            roles: roles.clone(),
            identities,
            requester: match self.known(requester) {
                Some(name) => Requester::Linked(name),
                None => Requester::Unlinked,
            },
            unnamed: Unnamed::Counts,
            bypass: if may_bypass(person, &roles) {
                Bypass::Allowed
            } else {
                Bypass::Refused
            },
        }))
    }
}

/// Whether a person with these roles may bypass gates.
pub(crate) fn may_bypass(person: &Name, roles: &BTreeSet<Name>) -> bool {
    person.as_str() == "zoe" && !roles.is_empty()
}

/// A person's own account at the forge.
pub(crate) fn account(login: &str) -> Actor {
    Actor::Forge {
        forge: "sim".to_owned(),
        login: login.to_owned(),
    }
}

/// Who pushes.
pub(crate) fn pusher() -> Actor {
    account(PUSHER)
}
