//! `credentials:`, rights that an action borrows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Name;

/// A right that an action borrows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Credential {
    /// To what its project's forge has.
    Git,
    /// To a registry.
    Registry(Name),
    /// To its project's namespace in a cluster.
    Cluster(Name),
}

/// A text names no right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("borrow `{0}`: there are `git`, `registry:NAME` and `cluster:NAME`")]
pub struct CredentialError(String);

impl FromStr for Credential {
    type Err = CredentialError;

    fn from_str(text: &str) -> Result<Self, CredentialError> {
        let named = |(kind, name): (&str, &str)| {
            let name = name.parse().ok()?;
            match kind {
                "registry" => Some(Self::Registry(name)),
                "cluster" => Some(Self::Cluster(name)),
                _ => None,
            }
        };
        let found = match text {
            "git" => Some(Self::Git),
            _ => text.split_once(':').and_then(named),
        };
        found.ok_or_else(|| CredentialError(text.to_owned()))
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git => f.write_str("git"),
            Self::Registry(name) => write!(f, "registry:{name}"),
            Self::Cluster(name) => write!(f, "cluster:{name}"),
        }
    }
}

impl TryFrom<String> for Credential {
    type Error = CredentialError;

    fn try_from(text: String) -> Result<Self, CredentialError> {
        text.parse()
    }
}

impl From<Credential> for String {
    fn from(credential: Credential) -> Self {
        credential.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_is_the_text_that_it_was() {
        for text in ["git", "registry:harbor", "cluster:eks"] {
            let read: Credential = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), text);
        }
        for text in ["", "svn", "registry", "registry:", "cluster:A B", "git:x"] {
            let error = text.parse::<Credential>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("borrow `{text}`: ")));
        }
    }
}
