//! The [`Registry`]: versioned records of everything that people configure and of themselves, and the audit log.

use async_trait::async_trait;
use pipekeeper_model::{Actor, Name, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::StoreError;

/// What is kept beside runs. The same durability contract as [`Store`](crate::Store)'s holds.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Makes all changes and writes their audit entries, or none of it. A record is named at most once.
    ///
    /// # Errors
    /// [`ChangeError::Conflict`] for the first record that is not as it was expected.
    async fn change(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError>;

    /// One record.
    async fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, StoreError>;

    /// All records of a kind, or those of one owner, by name.
    async fn records(&self, kind: RecordKind, owner: Option<&str>) -> Result<Vec<Record>, StoreError>;

    /// What a record was and is, newest first; nothing for kinds without a history.
    async fn versions(&self, kind: RecordKind, name: &str) -> Result<Vec<RecordVersion>, StoreError>;

    /// Removes records whose time is over; how many there were. At most a thousand go at once.
    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// Audit entries, newest first.
    async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredAudit>, StoreError>;
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A document that was applied: owned by its kind, named `KIND/NAME`.
    Document,
    /// A person or program that may log in.
    User,
    /// An access token, named by its hash and owned by its user.
    Token,
    /// A name that was somebody's who was removed: nobody gets it unless an admin says so.
    FormerUser,
    /// A browser's session, named by its hash and owned by its user.
    Session,
    /// A link that may be used once, named by its hash.
    Link,
    /// What an issuer calls somebody, named by a hash of it and owned by their user.
    Subject,
    /// The sealed value of a secret, named like its document and owned by what pipelines call it.
    Secret,
    /// A run that somebody wants kept whatever its age, named by its number and owned by its project.
    KeptRun,
}

impl RecordKind {
    /// The word that stands for it in a database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::User => "user",
            Self::Token => "token",
            Self::FormerUser => "former_user",
            Self::Session => "session",
            Self::Link => "link",
            Self::Subject => "subject",
            Self::Secret => "secret",
            Self::KeptRun => "kept_run",
        }
    }

    /// Whether every version of it is kept. What holds a secret, or the hash of one, is not.
    pub fn has_history(self) -> bool {
        match self {
            Self::Document => true,
            Self::User
            | Self::Token
            | Self::FormerUser
            | Self::Session
            | Self::Link
            | Self::Subject
            | Self::Secret
            | Self::KeptRun => false,
        }
    }
}

/// A record as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, unique in its kind.
    pub name: String,
    /// What it belongs to; empty for nothing.
    pub owner: String,
    /// How often it was written. A kind with a history counts on over removals.
    pub version: u64,
    /// JSON.
    pub body: String,
    /// Who wrote it last.
    pub author: Actor,
    /// When.
    pub at: Timestamp,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

/// A record as it was once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordVersion {
    /// Which one, from 1.
    pub version: u64,
    /// JSON; none if it was removed.
    pub body: Option<String>,
    /// Who wrote it.
    pub author: Actor,
    /// When.
    pub at: Timestamp,
}

/// One change of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: RecordKind,
    /// Its name.
    pub name: String,
    /// How it must be for the change to be made.
    pub expected: Expected,
    /// What it becomes; none to remove it.
    pub to: Option<NewRecord>,
    /// Who changes it.
    pub author: Actor,
    /// When.
    pub at: Timestamp,
}

/// What a record becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// What it belongs to; empty for nothing.
    pub owner: String,
    /// JSON.
    pub body: String,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

/// How a record must be for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// As it may be.
    Any,
    /// Not there.
    Absent,
    /// There, in whatever version.
    Present,
    /// There, in this version.
    Version(u64),
}

impl Expected {
    /// Whether a record with this version, or without one, is as expected.
    pub(crate) fn fits(self, version: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => version.is_none(),
            Self::Present => version.is_some(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

/// A change was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// The record is not as expected.
    #[error("change {} `{name}`: {}", kind.as_str(), found_words(*found))]
    Conflict {
        /// The record's kind.
        kind: RecordKind,
        /// Its name.
        name: String,
        /// The version that it has; none if it is not there.
        found: Option<u64>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn found_words(found: Option<u64>) -> String {
    match found {
        Some(version) => format!("it is there, in version {version}"),
        None => "it is not there".to_owned(),
    }
}

/// Who did what to what, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The address of the request, as far as it is known.
    pub from: Option<String>,
    /// What was done: a verb in dotted form, such as `gate.approve`.
    pub verb: String,
    /// To what: `run/57/publish`, `document/environment/prod`, `user/ann`.
    pub subject: String,
    /// In which project.
    pub project: Option<Name>,
    /// How it was before, as JSON; never a secret.
    pub before: Option<String>,
    /// How it was afterwards, as JSON; never a secret.
    pub after: Option<String>,
    /// Why, in the actor's words.
    pub reason: Option<String>,
}

/// An audit entry with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAudit {
    /// Counted from 1, in the order of writing.
    pub id: u64,
    /// The entry.
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// Which audit entries a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only those of this actor, by the text that stands for it.
    pub actor: Option<String>,
    /// Only those of this project.
    pub project: Option<Name>,
    /// Only those whose subject is this, or lies below it.
    pub subject: Option<String>,
    /// Only those whose verb is this.
    pub verb: Option<String>,
    /// Only those with a smaller number: the cursor of the next page.
    pub before: Option<u64>,
}

impl AuditFilter {
    /// Whether an entry is shown.
    pub(crate) fn shows(&self, stored: &StoredAudit) -> bool {
        let entry = &stored.entry;
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        self.before.is_none_or(|before| stored.id < before)
            && is(&self.actor, &entry.actor.to_string())
            && is(&self.verb, &entry.verb)
            && (self.project.is_none() || self.project == entry.project)
            && self.subject.as_ref().is_none_or(|wanted| {
                let rest = entry.subject.strip_prefix(wanted.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }
}

/// Refuses a list of changes that names a record twice: the second would be judged on a state that the first changes.
pub(crate) fn each_record_once(changes: &[Change]) -> Result<(), ChangeError> {
    let mut seen = std::collections::BTreeSet::new();
    match changes
        .iter()
        .find(|change| !seen.insert((change.kind, &change.name)))
    {
        Some(repeated) => Err(ChangeError::Conflict {
            kind: repeated.kind,
            name: repeated.name.clone(),
            found: None,
        }),
        None => Ok(()),
    }
}
