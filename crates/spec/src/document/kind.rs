//! The kinds, and a document of any of them.

use std::{fmt, str::FromStr};

use pipekeeper_model::Name;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    App, Cluster, Environment, Forge, Notification, Project, Registry, RoleBinding, Secret, app,
    cluster_keys, environment_keys,
    fault::{Doubt, Reference},
    forge, notification, project, registry, role_binding, secret,
};
use crate::grammar::Object;

/// One document: something that a server knows by kind and name.
///
/// Its serialised form is the document itself, with its defaults left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it is called; unique among its kind.
    pub name: Name,
    /// Everything else. It says the kind too.
    #[serde(flatten)]
    pub body: Body,
}

impl Document {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.body.kind()
    }
}

macro_rules! kinds {
    ($($kind:ident: $keys:path, $help:literal;)*) => {
        /// What a document is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(#[doc = $help] $kind,)*
        }

        /// What a document says.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Body {
            $(#[doc = $help] $kind(Box<$kind>),)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The word in documents.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)*
                }
            }

            /// What it is, in a line.
            pub fn help(self) -> &'static str {
                match self {
                    $(Self::$kind => $help,)*
                }
            }

            /// The keys beside `kind` and `name`.
            pub(crate) fn keys(self) -> &'static Object {
                match self {
                    $(Self::$kind => &$keys,)*
                }
            }
        }

        impl Body {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// The documents that it names.
            pub(super) fn references(&self) -> Vec<Reference> {
                match self {
                    $(Self::$kind(body) => body.references(),)*
                }
            }

            /// What is wrong with it though each key is well formed.
            pub(super) fn doubts(&self) -> Vec<Doubt> {
                match self {
                    $(Self::$kind(body) => body.doubts(),)*
                }
            }
        }
    };
}

kinds! {
    Project: project::KEYS, "A repository whose pipelines run.";
    Environment: environment_keys::KEYS, "A place that a release may reach, and what stands in front of it.";
    Cluster: cluster_keys::KEYS, "Where pods run.";
    Forge: forge::KEYS, "Where repositories are, and who sends webhooks.";
    Registry: registry::KEYS, "Where images are.";
    RoleBinding: role_binding::KEYS, "Who has a role, and where.";
    Secret: secret::KEYS, "Where a secret may be used; never its value.";
    Notification: notification::KEYS, "Who is told of what.";
    App: app::KEYS, "Desired state from git, or from an artifact, for a namespace of a cluster.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the kind `{0}`: there is no such kind")]
pub struct ParseKindError(String);

impl FromStr for Kind {
    type Err = ParseKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .find(|kind| kind.as_str() == text)
            .copied()
            .ok_or_else(|| ParseKindError(text.to_owned()))
    }
}
