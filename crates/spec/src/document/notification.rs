//! `kind: Notification`: who is told of what.

use std::collections::BTreeSet;

use pipekeeper_model::{Name, Patterns};
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    fault::{Doubt, Reference, refer},
    parts::{NAMES, URL, is_default},
};
use crate::grammar::{ACTS, GLOBS, NAME, Object, Shape, key, word};

/// Who is told of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// Where messages go.
    pub to: Address,
    /// How they are written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub format: Format,
    /// What they tell of.
    pub on: BTreeSet<Happening>,
    /// The projects that they tell of; empty means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<Name>,
    /// The environments that they tell of; empty means all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub environments: BTreeSet<Name>,
    /// The branches whose runs they tell of.
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    pub branches: Patterns,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// A web address.
    Url(String),
    /// One that is itself a secret.
    Secret(Name),
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// What happened as JSON, for programs.
    #[default]
    Json,
    /// As Slack, Mattermost and Rocket.Chat read it.
    Slack,
}

/// What people may want to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// A run succeeded.
    RunSucceeded,
    /// A run ended otherwise.
    RunFailed,
    /// A run succeeded where the one before did not.
    RunFixed,
    /// A person is waited for.
    GateOpened,
    /// Nobody answered.
    GateExpired,
    /// An environment runs a release.
    Promoted,
    /// It does not, and should.
    PromotionFailed,
    /// It went back to an earlier one.
    RolledBack,
    /// A cluster differs from what was asked.
    Drift,
}

impl Notification {
    pub(super) fn references(&self) -> Vec<Reference> {
        let secret = match &self.to {
            Address::Url(_) => None,
            Address::Secret(name) => Some(name),
        };
        refer(Kind::Secret, secret, &["to", "secret"])
            .chain(refer(Kind::Project, &self.projects, &["projects"]))
            .chain(refer(Kind::Environment, &self.environments, &["environments"]))
            .collect()
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        Vec::new()
    }
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a Notification",
    keys: &[
        key("to", ACTS, TO, "Where messages go.").required(),
        key(
            "format",
            ACTS,
            Shape::Words(&[word("json"), word("slack")]),
            "How they are written: `json` (default), or `slack` as Slack, Mattermost and Rocket.Chat read it.",
        ),
        key("on", ACTS, Shape::List(&HAPPENING), "What they tell of.").required(),
        key(
            "projects",
            ACTS,
            NAMES,
            "The Projects that they tell of; default all.",
        ),
        key(
            "environments",
            ACTS,
            NAMES,
            "The Environments that they tell of; default all.",
        ),
        key(
            "branches",
            ACTS,
            GLOBS,
            "Globs of the branches whose runs they tell of; default all.",
        ),
    ],
};

const TO: Shape = Shape::Choice {
    object: &TO_KEYS,
    of: &["url", "secret"],
};

static TO_KEYS: Object = Object {
    what: "where messages go",
    keys: &[
        key("url", ACTS, URL, "A web address."),
        key("secret", ACTS, NAME, "The Secret that holds one."),
    ],
};

const HAPPENING: Shape = Shape::Words(&[
    word("run_succeeded"),
    word("run_failed"),
    word("run_fixed"),
    word("gate_opened"),
    word("gate_expired"),
    word("promoted"),
    word("promotion_failed"),
    word("rolled_back"),
    word("drift"),
]);
