//! `lend:` of what the server has rights to: whose actions may borrow them by `credentials:`.

use std::collections::BTreeSet;

use pipekeeper_model::Name;
use serde::{Deserialize, Serialize};

use super::{
    Kind, SecretTier,
    fault::{Doubt, Reference, refer},
    parts::NAMES,
};
use crate::{
    codes,
    grammar::{ACTS, Key, Object, Shape, key, word},
};

/// Whose actions may borrow a right. Forks and sent working trees never do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lend {
    /// The projects whose actions may.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<Name>,
    /// Whether the actions of all projects may, also of those that come later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_projects: bool,
    /// The environments whose actions may, after their gates; empty means all actions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environments: BTreeSet<Name>,
    /// The tiers whose runs may.
    #[serde(default = "protected", skip_serializing_if = "is_protected")]
    pub tiers: BTreeSet<SecretTier>,
}

impl Lend {
    pub(super) fn references(lend: Option<&Self>) -> impl Iterator<Item = Reference> {
        lend.into_iter().flat_map(|lend| {
            refer(Kind::Project, &lend.projects, &["lend", "projects"]).chain(refer(
                Kind::Environment,
                &lend.environments,
                &["lend", "environments"],
            ))
        })
    }

    /// `missing` is the key of what is lent, if it is not there.
    pub(super) fn doubts(lend: Option<&Self>, missing: Option<&str>) -> Vec<Doubt> {
        let Some(lend) = lend else { return Vec::new() };
        let nothing = missing.map(|key| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["lend"],
                format!("what is lent is `{key}`, and there is none"),
                "add it, or remove `lend`",
            )
        });
        let nobody = (lend.projects.is_empty() && !lend.all_projects).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["lend"],
                "it is lent to the actions of `projects`, and there are none",
                "add `projects`, or `all_projects: true`",
            )
        });
        let both = (lend.all_projects && !lend.projects.is_empty()).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["lend", "all_projects"],
                "`projects` names some, and `all_projects` means all",
                "keep one of them",
            )
        });
        nothing.into_iter().chain(nobody).chain(both).collect()
    }
}

fn protected() -> BTreeSet<SecretTier> {
    BTreeSet::from([SecretTier::Protected])
}

fn is_protected(tiers: &BTreeSet<SecretTier>) -> bool {
    *tiers == protected()
}

/// `lend:` of whatever has rights.
pub(super) const LEND: Key = key(
    "lend",
    ACTS,
    Shape::Object(&KEYS),
    "Whose actions may borrow its rights by `credentials:`; default nobody's.",
);

static KEYS: Object = Object {
    what: "`lend`",
    keys: &[
        key("projects", ACTS, NAMES, "The Projects whose actions may borrow."),
        key(
            "all_projects",
            ACTS,
            Shape::Bool,
            "Whether the actions of all Projects may, also of those that come later.",
        ),
        key(
            "environments",
            ACTS,
            NAMES,
            "The Environments whose actions may, after their gates; default all actions.",
        ),
        key(
            "tiers",
            ACTS,
            Shape::List(&Shape::Words(&[word("protected"), word("branches")])),
            "How far a run must be trusted that borrows; default protected. Forks never are.",
        ),
    ],
};
