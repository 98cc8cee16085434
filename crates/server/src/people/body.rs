//! What the records of people, tokens, sessions and links say, as JSON in the registry.

use std::collections::BTreeSet;

use pipekeeper_access::{Grant, Scope};
use pipekeeper_model::{Actor, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{foreign::Issued, password::PasswordHash};
use crate::error::ApiError;

/// A person or program that may log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct UserBody {
    /// None: they have tokens alone.
    pub(crate) password: Option<PasswordHash>,
    /// What they may do.
    pub(crate) grants: Vec<Grant>,
    /// Their accounts at forges, as the forges authenticate them.
    pub(crate) identities: BTreeSet<Actor>,
    /// Whether they are kept out.
    pub(crate) disabled: bool,
    /// What their sessions and tokens were opened in, if they are to count: another password or subject begins
    /// another.
    pub(crate) era: String,
    /// Who they are for the issuer of logins, if it knows them.
    pub(crate) issued: Option<Issued>,
}

impl UserBody {
    /// Their groups, as they were read last.
    pub(crate) fn groups(&self) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.issued.as_ref().map_or(&NONE, |issued| &issued.groups)
    }
}

/// An access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenBody {
    /// What its owner calls it.
    pub(crate) label: String,
    /// What it may be used for; none for all that its owner may.
    #[serde(default)]
    pub(crate) scope: Option<Scope>,
    /// What its owner's era was.
    #[serde(default)]
    pub(crate) era: String,
    pub(crate) created: Timestamp,
    /// When it was used last, to the hour.
    #[serde(default)]
    pub(crate) used: Option<Timestamp>,
}

/// A browser's session. Its record belongs to its user; that of the server's own token to nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionBody {
    pub(crate) created: Timestamp,
    /// What its user's era was.
    #[serde(default)]
    pub(crate) era: String,
    /// The limits of the token that opened it.
    #[serde(default)]
    pub(crate) scope: Option<Scope>,
    /// The hash of that token: the session ends with it.
    #[serde(default)]
    pub(crate) token: Option<String>,
    /// The address that it was opened from.
    #[serde(default)]
    pub(crate) from: Option<String>,
}

/// Reads what a record says.
pub(crate) fn read<T: DeserializeOwned>(what: &str, body: &str) -> Result<T, ApiError> {
    serde_json::from_str(body).map_err(|error| ApiError::internal(&format!("{what} cannot be read: {error}")))
}

/// What a record says, as text.
pub(crate) fn write(body: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(body).map_err(|error| ApiError::internal(&error))
}
