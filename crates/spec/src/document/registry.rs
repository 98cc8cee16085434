//! `kind: Registry`: where images are.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Lend, ValueSource,
    fault::{Doubt, Reference},
    lend::LEND,
    parts::{CA, INSECURE, URL, VALUE, doubt_plain, is_default},
};
use crate::{
    codes,
    grammar::{ACTS, Object, Shape, key, word},
};

/// Where images are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Its address.
    pub url: String,
    /// Whether `http://` is allowed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub insecure: bool,
    /// The certificates to trust in the place of Mozilla's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The user and password that the server has there, as `user:password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<ValueSource>,
    /// Where the server makes pull secrets of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pull_secrets: BTreeSet<PullSecret>,
    /// Whose actions may borrow these credentials; none means nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lend: Option<Lend>,
}

/// Where pull secrets are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullSecret {
    /// In the namespaces of actions.
    Build,
    /// In the namespaces of environments.
    Targets,
}

impl Registry {
    pub(super) fn references(&self) -> Vec<Reference> {
        let mut found = ValueSource::references(self.credentials.as_ref(), &["credentials"]);
        found.extend(Lend::references(self.lend.as_ref()));
        found
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let unknown = (self.credentials.is_none() && !self.pull_secrets.is_empty()).then(|| {
            Doubt::new(
                codes::KEYS_TOGETHER,
                &["pull_secrets"],
                "`pull_secrets` are made of `credentials`, and there are none",
                "add `credentials`, or remove `pull_secrets`",
            )
        });
        let plain = doubt_plain(Some(&self.url), self.insecure);
        let missing = self.credentials.is_none().then_some("credentials");
        let lent = Lend::doubts(self.lend.as_ref(), missing);
        unknown.into_iter().chain(plain).chain(lent).collect()
    }
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a Registry",
    keys: &[
        key("url", ACTS, URL, "Its address.").required(),
        INSECURE,
        CA,
        key(
            "credentials",
            ACTS,
            VALUE,
            "What the server is known by there: `user:password`.",
        ),
        key(
            "pull_secrets",
            ACTS,
            Shape::List(&Shape::Words(&[word("build"), word("targets")])),
            "Where the server makes pull secrets of them: in the namespaces of actions, of Environments; default nowhere.",
        ),
        LEND,
    ],
};
