//! Where people stand at gates: when they decide, and again when what they approved is about to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_access::{Place, Principal, Verb, authorize};
use pipekeeper_controller::{People as WhoIsWho, PeopleAway};
use pipekeeper_engine::{Bypass, Person, Requester, Run, Standing, Unnamed};
use pipekeeper_model::{Actor, Name};
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
        names: &BTreeSet<Name>,
        requesters: &[Actor],
    ) -> Result<BTreeMap<Name, Standing>, PeopleAway> {
        let users = users(self.registry.as_ref()).await.map_err(away)?;
        let asked = asked_by(&users, requesters);
        let stands = |(name, user): (&Name, &UserBody)| {
            let principal = Principal {
                actor: Actor::user(name.as_str()),
                grants: user.grants.clone(),
                scope: None,
            };
            // Who may not decide there at all any more is gone.
            authorize(&principal, Verb::Decide, Place::project(project)).ok()?;
            let standing = person(name, user, &principal, (project, asked.clone()));
            Some((name.clone(), standing))
        };
        let present = users
            .iter()
            .filter(|(name, user)| names.contains(*name) && !user.disabled);
        let mut standings: BTreeMap<Name, Standing> = present.filter_map(stands).collect();
        let owner = names.iter().find(|name| name.as_str() == ADMIN);
        standings.extend(owner.map(|name| (name.clone(), owner_among_people(name, asked))));
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

impl People {
    /// Where somebody stands who decides at a gate of a run. As long as there are no people, whoever has the server's own
    /// token is everybody.
    pub(crate) async fn standing(&self, caller: &Caller, run: &Run) -> Result<Standing, ApiError> {
        let Some(request) = run.request() else {
            return Err(no_run(run.id()));
        };
        let requesters = run.requesters();
        let users = users(self.registry.as_ref()).await?;
        let Some(name) = &caller.user else {
            caller.check(Verb::Bypass, Place::SERVER)?;
            if users.is_empty() {
                return Ok(Standing::Owner);
            }
            let admin = ADMIN.parse().map_err(|error| ApiError::internal(&error))?;
            return Ok(owner_among_people(&admin, asked_by(&users, &requesters)));
        };
        let own = users.get(name).cloned().unwrap_or_default();
        let place = (&request.project, asked_by(&users, &requesters));
        Ok(person(name, &own, &caller.principal, place))
    }
}

fn person(
    name: &Name,
    user: &UserBody,
    principal: &Principal,
    (project, requester): (&Name, Requester),
) -> Standing {
    let place = Place::project(project);
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

async fn users(registry: &dyn Registry) -> Result<BTreeMap<Name, UserBody>, ApiError> {
    let records = registry.records(RecordKind::User, None).await?;
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
        user.grants.extend(bindings.grants(name)?);
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
