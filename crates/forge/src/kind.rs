//! The forges that this server understands.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A kind of forge, as the project's configuration names it; never guessed from a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// github.com and GitHub Enterprise.
    GitHub,
    /// Gitea.
    Gitea,
}

impl ForgeKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::GitHub, Self::Gitea];

    /// The word in files and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::Gitea => "gitea",
        }
    }
}

impl fmt::Display for ForgeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no forge that this server understands.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("use the forge kind `{0}`: it is neither `github` nor `gitea`")]
pub struct ParseForgeKindError(String);

impl FromStr for ForgeKind {
    type Err = ParseForgeKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ParseForgeKindError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::ForgeKind;

    #[test]
    fn words_round_trip() {
        for kind in ForgeKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!("GitHub".parse::<ForgeKind>().is_err());
    }
}
