//! Who caused an input: recorded with every decision, never trusted from display text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The one who asked for something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// Pipekeeper itself: timers, recovery, the outbox.
    System,
    /// A forge account, by the identity that the forge authenticated.
    Forge {
        /// The forge's name, such as `gitea`.
        forge: String,
        /// The account's login.
        login: String,
    },
    /// A person or program known to this server or machine.
    User {
        /// The user's name.
        name: String,
    },
}

impl Actor {
    /// A user of this server or machine.
    pub fn user(name: impl Into<String>) -> Self {
        Self::User { name: name.into() }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("pipekeeper"),
            Self::Forge { forge, login } => write!(f, "{login}@{forge}"),
            Self::User { name } => f.write_str(name),
        }
    }
}
