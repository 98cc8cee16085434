//! Commits and refs, in the grammar that may safely reach a git command line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A full object id: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha(String);

impl Sha {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }

    /// Whether this is the all-zero id that forges send for "no commit".
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|digit| digit == b'0')
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is no full object id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the commit id `{0}`: it is not 40 or 64 lower-case hex digits")]
pub struct ParseShaError(String);

impl FromStr for Sha {
    type Err = ParseShaError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if is_hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseShaError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Sha {
    type Error = ParseShaError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Sha> for String {
    fn from(sha: Sha) -> Self {
        sha.0
    }
}

/// A branch or a tag, by its short name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum GitRef {
    /// `refs/heads/NAME`.
    Branch(String),
    /// `refs/tags/NAME`.
    Tag(String),
}

/// A ref name that this server does not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefNameError {
    /// Neither a branch nor a tag.
    #[error("use the ref `{0}`: it is neither under `refs/heads/` nor under `refs/tags/`")]
    NotBranchOrTag(String),
    /// A name outside the safe grammar.
    #[error(
        "use the ref name `{0}`: names start with a letter or digit and hold letters, digits, `_`, `.`, `/`, `-`, `+`, `@`, `#` only"
    )]
    UnsafeName(String),
}

impl GitRef {
    /// Reads a full ref such as `refs/heads/main`.
    pub fn from_full(full: &str) -> Result<Self, RefNameError> {
        if let Some(name) = full.strip_prefix("refs/heads/") {
            Ok(Self::Branch(safe_name(name)?))
        } else if let Some(name) = full.strip_prefix("refs/tags/") {
            Ok(Self::Tag(safe_name(name)?))
        } else {
            Err(RefNameError::NotBranchOrTag(full.to_owned()))
        }
    }

    /// The full name, such as `refs/heads/main`.
    pub fn to_full(&self) -> String {
        match self {
            Self::Branch(name) => format!("refs/heads/{name}"),
            Self::Tag(name) => format!("refs/tags/{name}"),
        }
    }

    /// The short name.
    pub fn name(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Tag(name) => name,
        }
    }
}

impl fmt::Display for GitRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The grammar is narrower than git's, so that no ref can look like an option, a range or a path outside.
fn safe_name(name: &str) -> Result<String, RefNameError> {
    let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let holds_well = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_./-+@#".contains(&b));
    let git_refuses = name.contains("..")
        || name.contains("//")
        || name.contains("@{")
        || name.ends_with(['/', '.'])
        || name
            .split('/')
            .any(|part| part.starts_with('.') || part.ends_with(".lock"))
        || name.len() > 255;
    if starts_well && holds_well && !git_refuses {
        Ok(name.to_owned())
    } else {
        Err(RefNameError::UnsafeName(name.to_owned()))
    }
}

/// A commit of a repository, with the ref it was seen under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The repository, as people call it, such as `mall/web`.
    pub repository: String,
    /// The commit. A run of a working tree that was never committed has none.
    pub sha: Option<Sha>,
    /// The branch or tag, where there is one.
    pub git_ref: Option<GitRef>,
    /// The first line of the commit message: display text.
    pub subject: String,
}

#[cfg(test)]
mod tests {
    use super::{GitRef, Sha};

    #[test]
    fn full_refs_round_trip() {
        for full in ["refs/heads/main", "refs/heads/release/1.0", "refs/tags/v1.2.3"] {
            assert_eq!(GitRef::from_full(full).unwrap().to_full(), full);
        }
    }

    #[test]
    fn dangerous_refs_are_refused() {
        for full in [
            "refs/heads/--upload-pack=x",
            "refs/heads/a..b",
            "refs/heads/.hidden",
            "refs/heads/a b",
            "refs/heads/x.lock",
            "refs/heads/",
            "refs/heads/a@{1}",
            "HEAD",
            "refs/notes/commits",
            "refs/heads/a\n",
        ] {
            assert!(GitRef::from_full(full).is_err(), "{full}");
        }
    }

    #[test]
    fn only_full_object_ids_are_taken() {
        assert!("0123456789012345678901234567890123456789".parse::<Sha>().is_ok());
        assert!("0123".parse::<Sha>().is_err());
        assert!("-123456789012345678901234567890123456789".parse::<Sha>().is_err());
    }
}
