//! Roles: a ladder of four, and groups of approvers of any name.

use std::{fmt, str::FromStr};

use pipekeeper_model::{Name, NameError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What somebody is, in some projects or in all of them.
///
/// The first four are a ladder: each may do what those before it may. A group may see, and decide at the gates that name
/// it; nobody is in a group by having another role, so that a rule which wants two kinds of people gets two kinds of people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// Sees runs, logs and artifacts.
    Viewer,
    /// Starts, cancels and retries runs, and looks into actions.
    Developer,
    /// Replays deliveries, removes caches, reads the audit log.
    Maintainer,
    /// Does everything, also to people and documents.
    Admin,
    /// Is one of a group of approvers, such as `ops` or `tester`.
    Group(Name),
}

/// The text is no role.
#[derive(Debug, Error)]
#[error(
    "read the role `{text}`: {reason}; hint: viewer, developer, maintainer, admin, or the name of a group of approvers"
)]
pub struct RoleError {
    text: String,
    reason: NameError,
}

impl Role {
    /// Those that build on each other, the least first.
    pub const LADDER: [Self; 4] = [Self::Viewer, Self::Developer, Self::Maintainer, Self::Admin];

    /// Whether who has this role may do what `least` may. No role of the ladder includes a group.
    pub fn includes(&self, least: &Self) -> bool {
        match (self, least) {
            (Self::Group(own), Self::Group(wanted)) => own == wanted,
            (Self::Group(_), Self::Viewer) => true,
            (Self::Group(_), Self::Developer | Self::Maintainer | Self::Admin)
            | (Self::Viewer | Self::Developer | Self::Maintainer | Self::Admin, Self::Group(_)) => false,
            (own, wanted) => own >= wanted,
        }
    }

    /// The word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Viewer => "viewer",
            Self::Developer => "developer",
            Self::Maintainer => "maintainer",
            Self::Admin => "admin",
            Self::Group(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        if let Some(role) = Self::LADDER.into_iter().find(|role| role.as_str() == text) {
            return Ok(role);
        }
        text.parse().map(Self::Group).map_err(|reason| RoleError {
            text: text.to_owned(),
            reason,
        })
    }
}

impl TryFrom<String> for Role {
    type Error = RoleError;

    fn try_from(text: String) -> Result<Self, RoleError> {
        text.parse()
    }
}

impl From<Role> for String {
    fn from(role: Role) -> Self {
        role.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::Role;

    #[test]
    fn the_ladder_includes_what_is_below_and_no_group() {
        let ops: Role = "ops".parse().unwrap();
        for (at, role) in Role::LADDER.iter().enumerate() {
            for (below, least) in Role::LADDER.iter().enumerate() {
                assert_eq!(role.includes(least), below <= at, "{role} {least}");
            }
            assert!(!role.includes(&ops), "{role}");
        }
        assert!(ops.includes(&ops) && ops.includes(&Role::Viewer));
        assert!(!ops.includes(&Role::Developer) && !ops.includes(&"tester".parse().unwrap()));
    }

    #[test]
    fn a_role_is_its_word() {
        for word in ["viewer", "developer", "maintainer", "admin", "ops"] {
            let role: Role = word.parse().unwrap();
            assert_eq!(role.to_string(), word);
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{word}\""));
        }
        let refused = "no name!".parse::<Role>().unwrap_err().to_string();
        assert!(
            refused.contains("`no name!`") && refused.contains("hint:"),
            "{refused}"
        );
    }
}
