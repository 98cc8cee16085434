//! `kind: Secret`: where a secret may be used. Its value is never in a document.

use std::collections::BTreeSet;

use pipekeeper_model::{EventKind, Name, Patterns};
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    fault::{Doubt, Reference, refer},
    parts::{ABSOLUTE, NAMES},
};
use crate::{
    codes,
    grammar::{ACTS, GLOBS, NAME, Object, Shape, key, word},
};

/// Where a secret may be used. Other documents may name it without being listed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The file of the server's machine that holds its value; none means that it is given to the server by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// What pipelines call it; none means its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_as: Option<Name>,
    /// The projects whose actions may ask for it; empty means none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<Name>,
    /// Whether the actions of all projects may, also of those that come later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_projects: bool,
    /// The environments whose actions get it, after their gates; empty means all actions.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environments: BTreeSet<Name>,
    /// The events whose runs get it; empty means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub events: BTreeSet<EventKind>,
    /// The tiers whose runs get it. Forks get none, ever.
    #[serde(default = "protected", skip_serializing_if = "is_protected")]
    pub tiers: BTreeSet<SecretTier>,
    /// The images that it enters; empty means all.
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    pub images: Patterns,
}

/// How far a run is trusted that gets a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretTier {
    /// Protected branches and tags.
    Protected,
    /// Other refs of the repository.
    Branches,
}

impl SecretTier {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Branches => "branches",
        }
    }
}

impl Secret {
    pub(super) fn references(&self) -> Vec<Reference> {
        refer(Kind::Project, &self.projects, &["projects"])
            .chain(refer(Kind::Environment, &self.environments, &["environments"]))
            .collect()
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let bounds = [
            ("known_as", self.known_as.is_some()),
            ("environments", !self.environments.is_empty()),
            ("events", !self.events.is_empty()),
            ("tiers", !is_protected(&self.tiers)),
            ("images", !self.images.is_empty()),
        ];
        let is_idle = self.projects.is_empty() && !self.all_projects;
        let idle = bounds.into_iter().filter(|(_, is_set)| *is_set && is_idle);
        let both = (self.all_projects && !self.projects.is_empty()).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["all_projects"],
                "`projects` names some, and `all_projects` means all",
                "keep one of them",
            )
        });
        let idle = idle.map(|(key, _)| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &[key],
                format!("`{key}` bounds what actions of `projects` get, and there are none"),
                "add `projects`; without them other documents alone may name the secret",
            )
        });
        idle.chain(both).collect()
    }
}

fn protected() -> BTreeSet<SecretTier> {
    BTreeSet::from([SecretTier::Protected])
}

fn is_protected(tiers: &BTreeSet<SecretTier>) -> bool {
    *tiers == protected()
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a Secret",
    keys: &[
        key(
            "file",
            ACTS,
            ABSOLUTE,
            "The file of the server's machine that holds its value; without it, the value is given to the server by hand.",
        ),
        key(
            "known_as",
            ACTS,
            NAME,
            "What pipelines call it; default its name.",
        ),
        key(
            "projects",
            ACTS,
            NAMES,
            "The Projects whose actions may ask for it; without them other documents alone may name it.",
        ),
        key(
            "all_projects",
            ACTS,
            Shape::Bool,
            "Whether the actions of all Projects may ask for it, also of those that come later.",
        ),
        key(
            "environments",
            ACTS,
            NAMES,
            "The Environments whose actions get it, after their gates; default all actions.",
        ),
        key(
            "events",
            ACTS,
            Shape::List(&EVENT),
            "The events whose runs get it; default all.",
        ),
        key(
            "tiers",
            ACTS,
            Shape::List(&Shape::Words(&[word("protected"), word("branches")])),
            "How far a run must be trusted that gets it; default protected. Forks never are.",
        ),
        key(
            "images",
            ACTS,
            GLOBS,
            "Globs of the images that it enters; default all.",
        ),
    ],
};

const EVENT: Shape = Shape::Words(&[
    word("push"),
    word("tag"),
    word("merge_request"),
    word("cron"),
    word("manual"),
    word("image"),
    word("pipeline"),
]);
