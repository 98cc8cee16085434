//! Who asks, what they were granted, and whether that is enough.

use std::collections::BTreeSet;

use pipekeeper_model::{Actor, Name};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Role, Verb};

/// A role in some places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The projects that it holds in; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<Name>>,
    /// The environments that it holds in; none for all, and for what concerns no environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<BTreeSet<Name>>,
}

/// What a token may be used for, at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The greatest role that its owner has in its use.
    pub role: Role,
    /// The projects; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<Name>>,
}

/// Somebody who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who, as it is recorded.
    pub actor: Actor,
    /// What they were granted.
    pub grants: Vec<Grant>,
    /// What their token is for, if they came with a limited one.
    pub scope: Option<Scope>,
}

/// What a request concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// The project; none if it concerns the whole server.
    pub project: Option<&'a Name>,
    /// The environment.
    pub environment: Option<&'a Name>,
}

impl<'a> Place<'a> {
    /// The whole server.
    pub const SERVER: Place<'static> = Place {
        project: None,
        environment: None,
    };

    /// A project.
    pub fn project(project: &'a Name) -> Self {
        Self {
            project: Some(project),
            environment: None,
        }
    }
}

/// In which projects somebody may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projects {
    /// In all, also in those that come later.
    All,
    /// In these.
    Only(BTreeSet<Name>),
}

/// Somebody may not do something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{actor}` may not {}{}", verb.words(), place_words((project.as_ref(), environment.as_ref()), ""))]
pub struct Denied {
    actor: String,
    verb: Verb,
    project: Option<Name>,
    environment: Option<Name>,
}

impl Denied {
    /// What would help.
    pub fn hint(&self) -> String {
        format!(
            "it takes the role {}{}; `pipe user` shows yours, and an admin can give it",
            self.verb.least(),
            place_words(
                (self.project.as_ref(), self.environment.as_ref()),
                " in all projects"
            )
        )
    }
}

fn place_words(place: (Option<&Name>, Option<&Name>), nowhere: &str) -> String {
    match place {
        (None, None) => nowhere.to_owned(),
        (Some(project), None) => format!(" in project `{project}`"),
        (None, Some(environment)) => format!(" in environment `{environment}`"),
        (Some(project), Some(environment)) => {
            format!(" in environment `{environment}` of project `{project}`")
        }
    }
}

/// Whether somebody may do something there: the one place that decides it.
///
/// # Errors
/// If not, with what would be needed.
pub fn authorize(who: &Principal, verb: Verb, place: Place<'_>) -> Result<(), Denied> {
    let least = verb.least();
    if who.grants_at(place).any(|role| role.includes(&least)) && who.scope_lets(verb, place) {
        return Ok(());
    }
    Err(Denied {
        actor: who.actor.to_string(),
        verb,
        project: place.project.cloned(),
        environment: place.environment.cloned(),
    })
}

impl Principal {
    /// Somebody who may do everything everywhere.
    pub fn admin(actor: Actor) -> Self {
        Self::with(actor, Role::Admin)
    }

    /// Somebody with one role everywhere.
    pub fn with(actor: Actor, role: Role) -> Self {
        Self {
            actor,
            grants: vec![Grant {
                role,
                projects: None,
                environments: None,
            }],
            scope: None,
        }
    }

    /// The projects in which somebody may do something, for lists over all of them.
    pub fn projects(&self, verb: Verb) -> Projects {
        let least = verb.least();
        let enough = |grant: &&Grant| grant.role.includes(&least) && grant.environments.is_none();
        let mut granted = Some(BTreeSet::new());
        for grant in self.grants.iter().filter(enough) {
            granted = match (granted, &grant.projects) {
                (Some(mut all), Some(projects)) => {
                    all.extend(projects.iter().cloned());
                    Some(all)
                }
                (None, _) | (Some(_), None) => None,
            };
        }
        let limit = match &self.scope {
            None => None,
            Some(scope) if !scope.role.includes(&least) => Some(BTreeSet::new()),
            Some(scope) => scope.projects.clone(),
        };
        match (granted, limit) {
            (None, None) => Projects::All,
            (Some(projects), None) | (None, Some(projects)) => Projects::Only(projects),
            (Some(granted), Some(limit)) => Projects::Only(&granted & &limit),
        }
    }

    /// The names of all roles that somebody has there, with those that these include.
    pub fn roles(&self, place: Place<'_>) -> BTreeSet<Name> {
        let mut roles = BTreeSet::new();
        for role in self
            .grants_at(place)
            .filter(|role| self.scope_allows(role, place))
        {
            let included = Role::LADDER.iter().filter(|least| role.includes(least));
            let names = included
                .chain([role])
                .filter_map(|role| role.as_str().parse().ok());
            roles.extend(names);
        }
        roles
    }

    fn grants_at<'p>(&'p self, place: Place<'p>) -> impl Iterator<Item = &'p Role> {
        let holds = move |grant: &&Grant| {
            covers(grant.projects.as_ref(), place.project)
                && covers(grant.environments.as_ref(), place.environment)
        };
        self.grants.iter().filter(holds).map(|grant| &grant.role)
    }

    /// Whether the token, if there is a limited one, is for this. One that only looks does not decide, even where its owner
    /// may because of a gate's rule.
    fn scope_lets(&self, verb: Verb, place: Place<'_>) -> bool {
        self.scope.as_ref().is_none_or(|scope| {
            let is_enough = if verb == Verb::Decide {
                scope.role.includes(&Role::Developer) || matches!(scope.role, Role::Group(_))
            } else {
                scope.role.includes(&verb.least())
            };
            is_enough && covers(scope.projects.as_ref(), place.project)
        })
    }

    fn scope_allows(&self, role: &Role, place: Place<'_>) -> bool {
        self.scope.as_ref().is_none_or(|scope| {
            // A token that may decide at gates may do so for every group that its owner is in.
            let is_enough = match role {
                Role::Group(_) => scope.role.includes(&Role::Developer) || scope.role == *role,
                Role::Viewer | Role::Developer | Role::Maintainer | Role::Admin => scope.role.includes(role),
            };
            is_enough && covers(scope.projects.as_ref(), place.project)
        })
    }
}

/// What holds for some only does not hold for the whole.
fn covers(some: Option<&BTreeSet<Name>>, wanted: Option<&Name>) -> bool {
    match (some, wanted) {
        (None, _) => true,
        (Some(some), Some(wanted)) => some.contains(wanted),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pipekeeper_model::{Actor, Name};

    use super::{Grant, Place, Principal, Projects, Scope, authorize};
    use crate::{Role, Verb};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn names(texts: &[&str]) -> BTreeSet<Name> {
        texts.iter().map(|text| name(text)).collect()
    }

    fn granted(role: &str, projects: Option<&[&str]>, environments: Option<&[&str]>) -> Grant {
        Grant {
            role: role.parse().unwrap(),
            projects: projects.map(names),
            environments: environments.map(names),
        }
    }

    fn ann(grants: Vec<Grant>) -> Principal {
        Principal {
            actor: Actor::user("ann"),
            grants,
            scope: None,
        }
    }

    fn may(who: &Principal, verb: Verb, project: Option<&str>) -> bool {
        let project = project.map(name);
        let place = Place {
            project: project.as_ref(),
            environment: None,
        };
        authorize(who, verb, place).is_ok()
    }

    #[test]
    fn a_grant_holds_in_its_projects_only() {
        let who = ann(vec![
            granted("developer", Some(&["mall"]), None),
            granted("viewer", Some(&["shop"]), None),
        ]);
        assert!(may(&who, Verb::StartRun, Some("mall")));
        for denied in [Some("shop"), Some("other"), None] {
            assert!(!may(&who, Verb::StartRun, denied), "{denied:?}");
        }
        assert!(!may(&who, Verb::ReplayDelivery, Some("mall")));
        assert_eq!(
            who.projects(Verb::ReadRuns),
            Projects::Only(names(&["mall", "shop"]))
        );
        assert_eq!(who.projects(Verb::StartRun), Projects::Only(names(&["mall"])));
        assert_eq!(who.projects(Verb::ManageUsers), Projects::Only(names(&[])));
        assert!(!may(&ann(vec![]), Verb::ReadRuns, Some("mall")));
    }

    #[test]
    fn an_environments_grant_says_nothing_elsewhere() {
        let who = ann(vec![granted("ops", Some(&["mall"]), Some(&["prod"]))]);
        assert!(!may(&who, Verb::ReadRuns, Some("mall")));
        let (mall, prod) = (name("mall"), name("prod"));
        let place = Place {
            project: Some(&mall),
            environment: Some(&prod),
        };
        assert!(authorize(&who, Verb::Decide, place).is_ok());
        assert_eq!(who.roles(place), names(&["ops", "viewer"]));
        assert_eq!(who.roles(Place::project(&mall)), names(&[]));
        assert_eq!(who.projects(Verb::ReadRuns), Projects::Only(names(&[])));
    }

    #[test]
    fn a_token_limits_its_owner() {
        let mut who = Principal::admin(Actor::user("ann"));
        assert_eq!(who.projects(Verb::ManageUsers), Projects::All);
        who.scope = Some(Scope {
            role: Role::Developer,
            projects: Some(names(&["mall"])),
        });
        // The grant is the admin's; what counts of it is what a developer may.
        assert!(!may(&who, Verb::ManageUsers, None));
        assert!(may(&who, Verb::StartRun, Some("mall")));
        assert!(!may(&who, Verb::StartRun, Some("shop")) && !may(&who, Verb::StartRun, None));
        assert_eq!(who.projects(Verb::StartRun), Projects::Only(names(&["mall"])));
        assert_eq!(who.projects(Verb::ReadAudit), Projects::Only(names(&[])));
        for (role, decides) in [("viewer", false), ("developer", true), ("ops", true)] {
            who.scope = Some(Scope {
                role: role.parse().unwrap(),
                projects: None,
            });
            assert!(may(&who, Verb::ReadRuns, Some("mall")));
            assert_eq!(may(&who, Verb::Decide, Some("mall")), decides, "{role}");
        }
    }

    #[test]
    fn a_refusal_says_what_it_takes() {
        let mall = name("mall");
        let who = Principal::with(Actor::user("ann"), Role::Viewer);
        let denied = authorize(&who, Verb::StartRun, Place::project(&mall)).unwrap_err();
        assert_eq!(denied.to_string(), "`ann` may not start a run in project `mall`");
        assert!(
            denied
                .hint()
                .starts_with("it takes the role developer in project `mall`")
        );
        let denied = authorize(&who, Verb::ManageUsers, Place::SERVER).unwrap_err();
        assert_eq!(denied.to_string(), "`ann` may not change people and their roles");
        assert!(
            denied
                .hint()
                .starts_with("it takes the role admin in all projects")
        );
    }

    #[test]
    fn every_verb_is_listed_once_and_has_words() {
        let all: BTreeSet<Verb> = Verb::ALL.into_iter().collect();
        assert_eq!(all.len(), Verb::ALL.len());
        let words: BTreeSet<&str> = Verb::ALL.iter().map(|verb| verb.words()).collect();
        assert_eq!(words.len(), Verb::ALL.len());
    }
}
