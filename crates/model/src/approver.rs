//! Who may approve, as documents and files write it: `role:ops` or `user:ann`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Name;

/// Someone whose approval counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Approver {
    /// Everybody who has this role.
    Role(Name),
    /// This user.
    User(Name),
}

/// The text names no approver.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the approver `{0}`: write it like `role:ops` or `user:ann`")]
pub struct ParseApproverError(String);

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(name) => write!(f, "role:{name}"),
            Self::User(name) => write!(f, "user:{name}"),
        }
    }
}

impl FromStr for Approver {
    type Err = ParseApproverError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (kind, name) = text.split_once(':')?;
            let name = name.parse().ok()?;
            match kind {
                "role" => Some(Self::Role(name)),
                "user" => Some(Self::User(name)),
                _ => None,
            }
        };
        parse().ok_or_else(|| ParseApproverError(text.to_owned()))
    }
}

impl TryFrom<String> for Approver {
    type Error = ParseApproverError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Approver> for String {
    fn from(approver: Approver) -> Self {
        approver.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Approver;

    #[test]
    fn approvers_are_written_as_they_are_read() {
        for text in ["role:ops", "user:ann"] {
            let read: Approver = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            let json = serde_json::to_value(&read).unwrap();
            assert_eq!(json, text);
            assert_eq!(serde_json::from_value::<Approver>(json).ok(), Some(read));
        }
    }

    #[test]
    fn nothing_else_is_one() {
        for text in [
            "",
            "ops",
            "role:",
            "group:ops",
            "Role:ops",
            "role:a b",
            "user:ann:x",
        ] {
            assert!(text.parse::<Approver>().is_err(), "{text}");
        }
    }
}
