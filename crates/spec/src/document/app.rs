//! `kind: App`: desired state from git, or from an artifact, for a namespace of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::Name;
use serde::{Deserialize, Serialize};

use super::{
    Kind,
    fault::{Doubt, Reference, refer},
    parts::{NAMES, is_default},
};
use crate::{
    codes,
    grammar::{ACTS, FREE, Fixed, NAME, Object, Shape, Text, key, word},
};

/// Desired state for a namespace of a cluster. Without a word, nothing happens to the cluster by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Whose it is.
    pub project: Name,
    /// What is wanted.
    pub source: Source,
    /// The environment whose rules hold for it; its cluster and namespace are meant where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// The namespace there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The images that follow an environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<Name, AppImage>,
    /// Whether these images are committed to the source too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub write_back: bool,
    /// Whether a change of the source is applied by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto_sync: bool,
    /// Whether a change of the cluster is undone by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub self_heal: bool,
    /// Whether what the source no longer has is removed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prune: bool,
    /// The apps that must be in sync before it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub depends_on: BTreeSet<Name>,
}

/// What is wanted, and how it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A folder of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The repository of the folder; none means the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The ref of the repository; none means its default branch.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// An artifact of a registry, by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// What makes manifests of it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub renderer: Renderer,
    /// Files of values, for Helm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What makes manifests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renderer {
    /// Nothing: they are there.
    #[default]
    Plain,
    /// Kustomize.
    Kustomize,
    /// Helm.
    Helm,
}

/// Where an image's release comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppImage {
    /// What this environment runs.
    pub environment: Name,
}

impl App {
    pub(super) fn references(&self) -> Vec<Reference> {
        let of_images = self.images.iter().flat_map(|(name, image)| {
            let keys = ["images", name.as_str(), "environment"];
            refer(Kind::Environment, [&image.environment], &keys)
        });
        refer(Kind::Project, [&self.project], &["project"])
            .chain(refer(Kind::Environment, &self.environment, &["environment"]))
            .chain(refer(Kind::Cluster, &self.cluster, &["cluster"]))
            .chain(refer(Kind::App, &self.depends_on, &["depends_on"]))
            .chain(of_images)
            .collect()
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let is_placed = self.environment.is_some() || (self.cluster.is_some() && self.namespace.is_some());
        let homeless = (!is_placed).then(|| {
            Doubt::new(
                codes::MISSING_KEY,
                &[],
                "nothing says where the App goes",
                "add `environment`, or both `cluster` and `namespace`",
            )
        });
        let idle = (self.write_back && self.images.is_empty()).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["write_back"],
                "`write_back` commits `images`, and there are none",
                "add `images`, or remove `write_back`",
            )
        });
        let mut found: Vec<Doubt> = homeless.into_iter().chain(idle).collect();
        found.extend(self.source.doubts());
        found
    }
}

impl Source {
    fn doubts(&self) -> Vec<Doubt> {
        let of_folders = [
            ("repository", self.repository.is_some() && self.path.is_none()),
            ("ref", self.git_ref.is_some() && self.path.is_none()),
        ];
        let misplaced = of_folders.into_iter().filter(|(_, is_set)| *is_set);
        let misplaced = misplaced.map(|(key, _)| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["source", key],
                format!("`{key}` belongs to a source with `path`"),
                "an artifact is named whole, with its digest",
            )
        });
        let values = (!self.values.is_empty() && self.renderer != Renderer::Helm).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["source", "values"],
                "`values` are for Helm",
                "write `renderer: helm`, or remove `values`",
            )
        });
        misplaced.chain(values).collect()
    }
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "an App",
    keys: &[
        key("project", ACTS, NAME, "The Project that it belongs to.").required(),
        key("source", ACTS, SOURCE, "What is wanted, and how it is made.").required(),
        key(
            "environment",
            ACTS,
            NAME,
            "The Environment whose rules hold for it; its cluster and namespace are meant where none is named.",
        ),
        key("cluster", ACTS, NAME, "The Cluster that it is in."),
        key("namespace", ACTS, FREE, "The namespace there."),
        key(
            "images",
            ACTS,
            Shape::Map {
                key: Text::Name,
                of: &Shape::Object(&IMAGE),
            },
            "The images that follow an Environment.",
        ),
        key(
            "write_back",
            ACTS,
            Shape::Bool,
            "Whether these images are committed to the source too.",
        ),
        key(
            "auto_sync",
            ACTS,
            Shape::Bool,
            "Whether a change of the source is applied by itself.",
        ),
        key(
            "self_heal",
            ACTS,
            Shape::Bool,
            "Whether a change of the cluster is undone by itself.",
        ),
        key(
            "prune",
            ACTS,
            Shape::Bool,
            "Whether what the source no longer has is removed.",
        ),
        key(
            "depends_on",
            ACTS,
            NAMES,
            "The Apps that must be in sync before it.",
        ),
    ],
};

const SOURCE: Shape = Shape::Choice {
    object: &SOURCE_KEYS,
    of: &["path", "artifact"],
};

static SOURCE_KEYS: Object = Object {
    what: "a source",
    keys: &[
        key("path", ACTS, Shape::Text(Text::Path), "A folder of a repository."),
        key(
            "repository",
            ACTS,
            FREE,
            "The repository of the folder; default the Project's.",
        ),
        key(
            "ref",
            ACTS,
            FREE,
            "The ref of the repository; default its default branch.",
        ),
        key(
            "artifact",
            ACTS,
            Shape::Text(Text::Fixed(Fixed::Pinned)),
            "An artifact of a registry, by its digest: `harbor.example.org/shop/manifests@sha256:…`.",
        ),
        key(
            "renderer",
            ACTS,
            Shape::Words(&[word("plain"), word("kustomize"), word("helm")]),
            "What makes manifests of it: nothing (`plain`, default), Kustomize, or Helm.",
        ),
        key(
            "values",
            ACTS,
            VALUES,
            "Files of values, for Helm; the last one wins.",
        ),
    ],
};

const VALUES: Shape = Shape::AnyOf(&[Shape::Text(Text::Path), Shape::List(&Shape::Text(Text::Path))]);

static IMAGE: Object = Object {
    what: "an image of an App",
    keys: &[key(
        "environment",
        ACTS,
        NAME,
        "The Environment whose release it takes.",
    )
    .required()],
};
