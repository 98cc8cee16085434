//! `kind: RoleBinding`: who has a role, and where.

use std::collections::BTreeSet;

use pipekeeper_model::Name;
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    fault::{Doubt, Reference, refer},
    parts::NAMES,
};
use crate::grammar::{ACTS, NAME, Object, TEXTS, key};

/// Who has a role, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleBinding {
    /// The role: `viewer`, `developer`, `maintainer`, `admin`, or a group of approvers of any name.
    pub role: Name,
    /// The users who have it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub users: BTreeSet<Name>,
    /// The groups of the login's issuer whose members have it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
    /// The projects that they have it for; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projects: Option<BTreeSet<Name>>,
    /// The environments that they have it for; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environments: Option<BTreeSet<Name>>,
}

impl RoleBinding {
    pub(super) fn references(&self) -> Vec<Reference> {
        let (projects, environments) = (self.projects.iter().flatten(), self.environments.iter().flatten());
        refer(Kind::Project, projects, &["projects"])
            .chain(refer(Kind::Environment, environments, &["environments"]))
            .collect()
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let is_idle = self.users.is_empty() && self.groups.is_empty();
        let doubt = is_idle.then(|| {
            Doubt::nobody(
                &[],
                format!("nobody gets the role `{}`", self.role),
                "add `users` or `groups`",
            )
        });
        // A list that a program left empty must not mean everything.
        let places = [("projects", &self.projects), ("environments", &self.environments)];
        let empty = places
            .into_iter()
            .filter(|(_, names)| names.as_ref().is_some_and(BTreeSet::is_empty));
        let nowhere = empty.map(|(key, _)| {
            Doubt::nobody(
                &[key],
                format!("`{key}` names none, so that the role holds nowhere"),
                "name some, or leave the key out for all",
            )
        });
        doubt.into_iter().chain(nowhere).collect()
    }
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a RoleBinding",
    keys: &[
        key(
            "role",
            ACTS,
            NAME,
            "The role: `viewer`, `developer`, `maintainer`, `admin`, or a group of approvers of any name.",
        )
        .required(),
        key("users", ACTS, NAMES, "The users who have it."),
        key(
            "groups",
            ACTS,
            TEXTS,
            "The groups of the login's issuer whose members have it.",
        ),
        key(
            "projects",
            ACTS,
            NAMES,
            "The Projects that they have it for; default all.",
        ),
        key(
            "environments",
            ACTS,
            NAMES,
            "The Environments that they have it for; default all.",
        ),
    ],
};
