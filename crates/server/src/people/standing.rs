//! Where people stand at gates: when they decide, and again when what they approved is about to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_access::{Place, Principal, Verb, authorize};
use pipekeeper_controller::{People as WhoIsWho, PeopleAway};
use pipekeeper_engine::{Bypass, Person, Requester, Run, Signature, Standing, Unnamed};
use pipekeeper_model::{Actor, Name, NodeId};
use pipekeeper_store::{RecordKind, Registry};

use super::{
    ADMIN, Caller, People,
    body::{UserBody, read},
};
use crate::{documents::Bindings, error::ApiError, load::no_run};

/// The people of a server, as its records have them now.
pub struct RegisteredPeople {
    registry: Arc<dyn Registry>,
}

impl RegisteredPeople {
    /// Those of a registry.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl WhoIsWho for RegisteredPeople {
    async fn standings(
        &self,
        project: &Name,
        signed: &BTreeSet<Signature>,
        requesters: &[Actor],
    ) -> Result<BTreeMap<Signature, Standing>, PeopleAway> {
        let names = signed.iter().map(|one| one.person.clone()).collect();
        let concerned = concerned(&names, requesters);
        let users = users(self.registry.as_ref(), concerned.as_ref())
            .await
            .map_err(away)?;
        let asked = asked_by(&users, requesters);
        let stands = |one: &Signature| {
            let (name, user) = users.get_key_value(&one.person)?;
            if user.disabled {
                return None;
            }
            let place = Place {
                project: Some(project),
                environment: one.environment.as_ref(),
            };
            let principal = Principal {
                actor: Actor::user(name.as_str()),
                grants: user.grants.clone(),
                scope: None,
            };
            // Who may not decide there at all any more is gone.
            authorize(&principal, Verb::Decide, place).ok()?;
            let standing = person(name, user, &principal, (place, asked.clone()));
            Some((one.clone(), standing))
        };
        let mut standings: BTreeMap<Signature, Standing> = signed.iter().filter_map(stands).collect();
        let owner = signed.iter().filter(|one| one.person.as_str() == ADMIN);
        standings.extend(owner.map(|one| (one.clone(), owner_among_people(&one.person, asked.clone()))));
        Ok(standings)
    }
}

fn away(error: ApiError) -> PeopleAway {
    PeopleAway {
        reason: error.detail().to_owned(),
    }
}

/// Whoever has the server's own token, where there are people: nobody's peer, so they approve for nobody; but they may go
/// past a gate's rule, and say why.
fn owner_among_people(name: &Name, requester: Requester) -> Standing {
    Standing::Person(Person {
        name: name.clone(),
        roles: BTreeSet::new(),
        identities: BTreeSet::from([Actor::user(ADMIN)]),
        requester,
        unnamed: Unnamed::Ignored,
        bypass: Bypass::Allowed,
    })
}

/// The users that there are now, read once to say of several nodes where somebody stands.
pub(crate) struct Everybody(BTreeMap<Name, UserBody>);

impl People {
    /// All users.
    pub(crate) async fn everybody(&self) -> Result<Everybody, ApiError> {
        users(self.registry.as_ref(), None).await.map(Everybody)
    }
}

impl Everybody {
    /// Where somebody stands who decides at a gate of a run, or starts a node. As long as there are no people, whoever has
    /// the server's own token is everybody.
    pub(crate) fn standing(&self, caller: &Caller, run: &Run, node: NodeId) -> Result<Standing, ApiError> {
        let Some(request) = run.request() else {
            return Err(no_run(run.id()));
        };
        let requesters = run.requesters();
        let Self(users) = self;
        let Some(name) = &caller.user else {
            caller.check(Verb::Bypass, Place::SERVER)?;
            if users.is_empty() {
                return Ok(Standing::Owner);
            }
            let admin = ADMIN.parse().map_err(|error| ApiError::internal(&error))?;
            return Ok(owner_among_people(&admin, asked_by(users, &requesters)));
        };
        let own = users.get(name).cloned().unwrap_or_default();
        let place = Place {
            project: Some(&request.project),
            environment: request.plan.guarded_by(node),
        };
        let asked = asked_by(users, &requesters);
        Ok(person(name, &own, &caller.principal, (place, asked)))
    }
}

fn person(
    name: &Name,
    user: &UserBody,
    principal: &Principal,
    (place, requester): (Place<'_>, Requester),
) -> Standing {
    Standing::Person(Person {
        name: name.clone(),
        roles: principal.roles(place),
        identities: user.identities.clone(),
        requester,
        unnamed: match authorize(principal, Verb::StartAction, place) {
            Ok(()) => Unnamed::Counts,
            Err(_) => Unnamed::Ignored,
        },
        bypass: match authorize(principal, Verb::Bypass, place) {
            Ok(()) => Bypass::Allowed,
            Err(_) => Bypass::Refused,
        },
    })
}

/// The users who matter; none for all, among whom somebody's account at a forge may be anybody's.
fn concerned(names: &BTreeSet<Name>, requesters: &[Actor]) -> Option<BTreeSet<Name>> {
    let mut concerned = names.clone();
    for requester in requesters {
        match requester {
            Actor::Forge { .. } => return None,
            Actor::User { name } => concerned.extend(name.parse().ok()),
            Actor::System => {}
        }
    }
    Some(concerned)
}

/// These users, or all of them, with what role bindings grant.
pub(super) async fn users(
    registry: &dyn Registry,
    only: Option<&BTreeSet<Name>>,
) -> Result<BTreeMap<Name, UserBody>, ApiError> {
    let records = match only {
        None => registry.records(RecordKind::User, None).await?,
        Some(names) => {
            let mut found = Vec::new();
            for name in names {
                found.extend(registry.record(RecordKind::User, name.as_str()).await?);
            }
            found
        }
    };
    let read = records.iter().map(|record| {
        let name = record
            .name
            .parse::<Name>()
            .map_err(|error| ApiError::internal(&error))?;
        Ok::<_, ApiError>((name, read::<UserBody>("a user", &record.body)?))
    });
    let mut users = read.collect::<Result<BTreeMap<_, _>, _>>()?;
    let bindings = Bindings::read(registry).await?;
    for (name, user) in &mut users {
        // When their groups were read does not matter here: who approved and went home has not lost them.
        let granted = bindings.grants(name, user.groups())?;
        user.grants.extend(granted);
    }
    Ok(users)
}

/// Who asked: whose the first actor is, unless an account among them is nobody's.
fn asked_by(users: &BTreeMap<Name, UserBody>, requesters: &[Actor]) -> Requester {
    let is_strange = |actor: &Actor| match actor {
        Actor::Forge { .. } => linked(users, actor) == Requester::Unlinked,
        Actor::System | Actor::User { .. } => false,
    };
    match requesters.first() {
        Some(first) if !requesters.iter().any(is_strange) => linked(users, first),
        Some(_) | None => Requester::Unlinked,
    }
}

/// Whose the actor is, also of somebody who is kept out meanwhile.
fn linked(users: &BTreeMap<Name, UserBody>, actor: &Actor) -> Requester {
    let is_theirs = |(name, user): &(&Name, &UserBody)| {
        *actor == Actor::user(name.as_str()) || user.identities.contains(actor)
    };
    match users.iter().find(is_theirs) {
        Some((name, _)) => Requester::Linked(name.clone()),
        None => Requester::Unlinked,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipekeeper_model::{Actor, Name};

    use super::concerned;

    #[test]
    fn only_an_account_at_a_forge_may_be_anybodys() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let asked = BTreeSet::from([name("ann")]);
        let by = [Actor::user("bob"), Actor::System];
        let both = BTreeSet::from([name("ann"), name("bob")]);
        assert_eq!(concerned(&asked, &by), Some(both));
        let forge = Actor::Forge {
            forge: "gitea".to_owned(),
            login: "bob".to_owned(),
        };
        assert_eq!(concerned(&asked, &[Actor::System, forge]), None);
    }
}
