//! Where people stand at gates: when they decide, and again when what they approved is about to start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_access::{Place, Principal, Verb, authorize};
use pipekeeper_controller::{People as WhoIsWho, PeopleAway};
use pipekeeper_engine::{Bypass, Person, Requester, Run, Standing};
use pipekeeper_model::{Actor, Name};
use pipekeeper_store::{RecordKind, Registry};

use super::{
    Caller, People,
    body::{UserBody, read},
};
use crate::error::ApiError;

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
        requester: &Actor,
    ) -> Result<BTreeMap<Name, Standing>, PeopleAway> {
        let users = users(self.registry.as_ref()).await.map_err(|error| PeopleAway {
            reason: error.detail().to_owned(),
        })?;
        let asked = linked(&users, requester);
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
        Ok(present.filter_map(stands).collect())
    }
}

impl People {
    /// Where somebody stands who decides at a gate of a run. The server's own token is everybody's.
    pub(crate) async fn standing(&self, caller: &Caller, run: &Run) -> Result<Standing, ApiError> {
        let Some(name) = &caller.user else {
            caller.check(Verb::Bypass, Place::SERVER)?;
            return Ok(Standing::Owner);
        };
        let (Some(request), Some((requester, _))) = (run.request(), run.requested_by()) else {
            return Err(ApiError::not_found(format!("there is no run {}", run.id())));
        };
        let users = users(self.registry.as_ref()).await?;
        let own = users.get(name).cloned().unwrap_or_default();
        let place = (&request.project, linked(&users, requester));
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
        Ok::<_, ApiError>((name, read("a user", &record.body)?))
    });
    read.collect()
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
