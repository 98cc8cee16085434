//! `kind: Project`: a repository whose pipelines run.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{Millis, Name, Patterns};
use serde::{Deserialize, Serialize};

use super::{
    EnvironmentKey, Kind, ValueSource,
    environment_keys::{BRANCHES, CLUSTER, NAMESPACE, REPOSITORY, VARS, VERIFY},
    fault::{Doubt, Reference, refer},
    parts::{LENGTH, VALUE, is_default, maybe_length},
};
use crate::grammar::{ACTS, FREE, GLOBS, NAME, Object, Shape, TEXTS, Text, key, word};

/// A repository whose pipelines run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Who sends its webhooks, and where its repository is.
    pub forge: Name,
    /// The repository: as the forge calls it (`mall/web`), or an address, or a path of the server's machine.
    pub repository: String,
    /// The secret that signs its webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_secret: Option<ValueSource>,
    /// Where its actions run unless they say otherwise; none means as processes of the server's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// Whether its code may run as processes of the server's machine.
    #[serde(default, skip_serializing_if = "is_default")]
    pub trusted: bool,
    /// The branch that is meant where none is named.
    #[serde(default = "main_branch", skip_serializing_if = "is_main")]
    pub default_branch: String,
    /// The refs whose runs are trusted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protected: Protected,
    /// What becomes of requests from other people's copies.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forks: Forks,
    /// The other repositories that its pipelines may include files of.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub includes: BTreeSet<String>,
    /// The files that whoever approves is shown apart.
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    pub migrations: Patterns,
    /// What it sets of environments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<Name, EnvironmentOfProject>,
    /// How long things are kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retention: Retention,
}

/// The refs whose runs are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Branches; none means the default branch alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Patterns>,
    /// Tags; none means no tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Patterns>,
}

/// What becomes of requests from other people's copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forks {
    /// They run once a person approved their very commit.
    #[default]
    Approve,
    /// They run.
    Run,
    /// They do not.
    Ignore,
}

/// What a project sets of an environment, as far as that lets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentOfProject {
    /// In the place of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<Patterns>,
    /// In the place of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// In the place of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// In the place of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Beside the environment's, and before them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// In the place of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Name>,
}

/// How long things are kept; none means as long as the server keeps them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Runs.
    #[serde(default, with = "maybe_length", skip_serializing_if = "Option::is_none")]
    pub runs: Option<Millis>,
    /// Their logs.
    #[serde(default, with = "maybe_length", skip_serializing_if = "Option::is_none")]
    pub logs: Option<Millis>,
    /// Their artifacts.
    #[serde(default, with = "maybe_length", skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Millis>,
}

impl EnvironmentOfProject {
    /// The keys that it sets.
    pub fn set(&self) -> impl Iterator<Item = EnvironmentKey> {
        let Self {
            branches,
            cluster,
            namespace,
            repository,
            vars,
            verify,
        } = self;
        let all = [
            (EnvironmentKey::Branches, branches.is_some()),
            (EnvironmentKey::Cluster, cluster.is_some()),
            (EnvironmentKey::Namespace, namespace.is_some()),
            (EnvironmentKey::Repository, repository.is_some()),
            (EnvironmentKey::Vars, !vars.is_empty()),
            (EnvironmentKey::Verify, verify.is_some()),
        ];
        all.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key)
    }
}

impl Project {
    pub(super) fn references(&self) -> Vec<Reference> {
        let of_environments = self.environments.iter().flat_map(|(name, set)| {
            let keys = ["environments", name.as_str(), "cluster"];
            refer(Kind::Cluster, &set.cluster, &keys)
        });
        refer(Kind::Forge, [&self.forge], &["forge"])
            .chain(refer(Kind::Cluster, &self.cluster, &["cluster"]))
            .chain(refer(
                Kind::Environment,
                self.environments.keys(),
                &["environments"],
            ))
            .chain(of_environments)
            .chain(ValueSource::references(
                self.hook_secret.as_ref(),
                &["hook_secret"],
            ))
            .collect()
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        Vec::new()
    }
}

const MAIN: &str = "main";

fn main_branch() -> String {
    MAIN.to_owned()
}

fn is_main(branch: &str) -> bool {
    branch == MAIN
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a Project",
    keys: &[
        key("forge", ACTS, NAME, "The Forge that sends its webhooks and has its repository.").required(),
        key(
            "repository",
            ACTS,
            FREE,
            "The repository: as the forge calls it (`mall/web`), or an address, or a path of the server's machine.",
        )
        .required(),
        key("hook_secret", ACTS, VALUE, "The secret that signs its webhooks, the same as at the forge."),
        key(
            "cluster",
            ACTS,
            NAME,
            "The Cluster where its actions run; without it, as processes of the server's machine.",
        ),
        key(
            "trusted",
            ACTS,
            Shape::Bool,
            "Whether its code may run as processes of the server's machine, as the server's user.",
        ),
        key("default_branch", ACTS, FREE, "The branch that is meant where none is named; default main."),
        key("protected", ACTS, Shape::Object(&PROTECTED), "The refs whose runs are trusted."),
        key(
            "forks",
            ACTS,
            Shape::Words(&[word("approve"), word("run"), word("ignore")]),
            "What becomes of requests from other people's copies; default approve, each commit by a person.",
        ),
        key("includes", ACTS, TEXTS, "The other repositories that its pipelines may include files of."),
        key("migrations", ACTS, GLOBS, "Globs of the files that whoever approves is shown apart."),
        key(
            "environments",
            ACTS,
            Shape::Map { key: Text::Name, of: &Shape::Object(&ENVIRONMENT) },
            "What it sets of Environments, as far as their `project_may_set` lets it.",
        ),
        key("retention", ACTS, Shape::Object(&RETENTION), "How long things are kept; default as the server says."),
    ],
};

static PROTECTED: Object = Object {
    what: "`protected`",
    keys: &[
        key(
            "branches",
            ACTS,
            GLOBS,
            "Globs of branches; default the default branch.",
        ),
        key("tags", ACTS, GLOBS, "Globs of tags; default none."),
    ],
};

static ENVIRONMENT: Object = Object {
    what: "an environment of a Project",
    keys: &[BRANCHES, CLUSTER, NAMESPACE, REPOSITORY, VARS, VERIFY],
};

static RETENTION: Object = Object {
    what: "`retention`",
    keys: &[
        key("runs", ACTS, LENGTH, "Runs."),
        key("logs", ACTS, LENGTH, "Their logs."),
        key(
            "artifacts",
            ACTS,
            LENGTH,
            "Their artifacts; what is promoted stays.",
        ),
    ],
};
