//! Ids and names. Ids of attempts are derived, never drawn, so that every effect on them can be repeated.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A run's number, unique in its store and counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A node's index in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The index as a `usize`.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One try of one node: run, node and number (counted from 1), shown as `r57-n3-a1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId {
    /// The run.
    pub run: RunId,
    /// The node.
    pub node: NodeId,
    /// The number of the try, from 1.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}-n{}-a{}", self.run.0, self.node.0, self.number)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no attempt id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the attempt id `{0}`: it is not of the form `r57-n3-a1`")]
pub struct ParseAttemptIdError(String);

impl FromStr for AttemptId {
    type Err = ParseAttemptIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (run, rest) = text.strip_prefix('r')?.split_once("-n")?;
            let (node, number) = rest.split_once("-a")?;
            Some(Self {
                run: RunId(run.parse().ok()?),
                node: NodeId(node.parse().ok()?),
                number: number.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseAttemptIdError(text.to_owned()))
    }
}

impl TryFrom<String> for AttemptId {
    type Error = ParseAttemptIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AttemptId> for String {
    fn from(id: AttemptId) -> Self {
        id.to_string()
    }
}

/// A name that people give: pipelines, actions, artifacts, projects.
///
/// 1 to 63 characters: a letter or digit, then letters, digits, `_`, `.` and `-`. It is safe in paths and URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The text is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "use `{0}` as a name: a name has 1 to 63 letters, digits, `_`, `.` or `-` and starts with a letter or digit"
)]
pub struct NameError(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let holds_well = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if starts_well && holds_well && text.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{AttemptId, Name, NodeId, RunId};

    #[test]
    fn attempt_ids_round_trip() {
        let id = AttemptId {
            run: RunId(57),
            node: NodeId(3),
            number: 1,
        };
        assert_eq!(id.to_string(), "r57-n3-a1");
        assert_eq!("r57-n3-a1".parse(), Ok(id));
        assert!("r57-n3".parse::<AttemptId>().is_err());
    }

    #[test]
    fn names_cannot_leave_a_folder() {
        assert!("web-1.2_x".parse::<Name>().is_ok());
        for bad in ["", ".", "..", "a/b", "-x", "a b", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
