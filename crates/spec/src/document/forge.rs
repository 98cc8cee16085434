//! `kind: Forge`: where repositories are, and who sends webhooks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Lend, ValueSource,
    fault::{Doubt, Reference},
    lend::LEND,
    parts::{CA, INSECURE, URL, VALUE, doubt_plain, is_default},
};
use crate::grammar::{ACTS, Object, Shape, TEXTS, key, word};

/// Where repositories are, and who sends webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forge {
    /// Which program it is.
    #[serde(rename = "type")]
    pub forge_type: ForgeType,
    /// Its address; none means that its projects name whole addresses, or the public one of its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether `http://` is allowed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub insecure: bool,
    /// The certificates to trust in the place of Mozilla's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The token that repositories are fetched and statuses are reported with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ValueSource>,
    /// Which of its repositories become projects by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discover: Option<Discover>,
    /// Whose actions may borrow its token; none means nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lend: Option<Lend>,
}

/// Which program a forge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForgeType {
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// Gitea.
    Gitea,
    /// Forgejo.
    Forgejo,
    /// Gogs.
    Gogs,
    /// Bitbucket Cloud.
    Bitbucket,
    /// Bitbucket Data Center.
    BitbucketDataCenter,
    /// Anything that sends signed JSON.
    Generic,
}

/// Which repositories become projects by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discover {
    /// Those of these organisations that have a pipeline.
    pub organisations: BTreeSet<String>,
}

impl ForgeType {
    /// Its address where there is one for everybody.
    pub fn public_url(self) -> Option<&'static str> {
        match self {
            Self::Github => Some("https://github.com"),
            Self::Gitlab => Some("https://gitlab.com"),
            Self::Bitbucket => Some("https://bitbucket.org"),
            Self::Gitea | Self::Forgejo | Self::Gogs | Self::BitbucketDataCenter | Self::Generic => None,
        }
    }
}

impl Forge {
    pub(super) fn references(&self) -> Vec<Reference> {
        let mut found = ValueSource::references(self.token.as_ref(), &["token"]);
        found.extend(Lend::references(self.lend.as_ref()));
        found
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let plain = doubt_plain(self.url.as_deref(), self.insecure);
        let missing = self.token.is_none().then_some("token");
        let lent = Lend::doubts(self.lend.as_ref(), missing);
        plain.into_iter().chain(lent).collect()
    }
}

/// The keys beside `kind` and `name`.
pub(super) static KEYS: Object = Object {
    what: "a Forge",
    keys: &[
        key("type", ACTS, TYPE, "Which program it is.").required(),
        key(
            "url",
            ACTS,
            URL,
            "Its address; default the public one of its type, if there is one.",
        ),
        INSECURE,
        CA,
        key(
            "token",
            ACTS,
            VALUE,
            "The token that repositories are fetched and statuses are reported with.",
        ),
        key(
            "discover",
            ACTS,
            Shape::Object(&DISCOVER),
            "Which of its repositories become Projects by themselves; default none.",
        ),
        LEND,
    ],
};

const TYPE: Shape = Shape::Words(&[
    word("github"),
    word("gitlab"),
    word("gitea"),
    word("forgejo"),
    word("gogs"),
    word("bitbucket"),
    word("bitbucket_data_center"),
    word("generic"),
]);

static DISCOVER: Object = Object {
    what: "`discover`",
    keys: &[key(
        "organisations",
        ACTS,
        TEXTS,
        "Those of these organisations that have a pipeline.",
    )
    .required()],
};
