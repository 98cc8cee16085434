//! Rows to values and back. A row that cannot be read is an error with its place, never a panic.

use pipekeeper_engine::{EVENT_VERSION, Event};
use pipekeeper_model::{GitRef, Name, RunId, Sha, Timestamp};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Decode, Row as _, Sqlite, Type, sqlite::SqliteRow};

use crate::{Delivery, DeliveryId, NewDelivery, Refusal, RunSummary, StoreError, StoredEffect};

/// Why a row cannot be read.
pub(super) struct Unreadable(String);

impl<E: std::error::Error> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Unreadable {
    pub(super) fn into_corrupt(self, what: String) -> StoreError {
        StoreError::Corrupt { what, reason: self.0 }
    }
}

/// Numbers beyond SQLite's are never given out, so the greatest stands for "none that exists".
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Numbers that this store gives out are never negative.
pub(super) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn ref_columns(git_ref: &GitRef) -> (&'static str, &str) {
    match git_ref {
        GitRef::Branch(name) => ("branch", name),
        GitRef::Tag(name) => ("tag", name),
    }
}

pub(super) fn sha_column(sha: Option<&Sha>) -> &str {
    sha.map_or("", Sha::as_str)
}

pub(super) fn encode_json<T: Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A row's number, for messages and cursors.
pub(super) fn number(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    Ok(to_u64(row.try_get(column)?))
}

pub(super) fn delivery(row: &SqliteRow) -> Result<Delivery, Unreadable> {
    let outcome: Option<String> = cell(row, "outcome")?;
    Ok(Delivery {
        id: DeliveryId(number(row, "id")?),
        received: NewDelivery {
            project: name(row, "project")?,
            forge_id: cell(row, "forge_id")?,
            event: cell(row, "event")?,
            received_at: Timestamp(cell(row, "received_at")?),
            body: cell(row, "body")?,
        },
        outcome: outcome.as_deref().map(serde_json::from_str).transpose()?,
    })
}

pub(super) fn refusal(row: &SqliteRow) -> Result<Refusal, Unreadable> {
    Ok(Refusal {
        project: name(row, "project")?,
        at: Timestamp(cell(row, "at")?),
        reason: cell(row, "reason")?,
    })
}

pub(super) fn summary(row: &SqliteRow) -> Result<RunSummary, Unreadable> {
    let kind: Option<String> = cell(row, "ref_kind")?;
    let name_of_ref: Option<String> = cell(row, "ref_name")?;
    let sha: Option<String> = cell(row, "sha")?;
    let outcome: Option<String> = cell(row, "outcome")?;
    Ok(RunSummary {
        id: RunId(number(row, "id")?),
        project: name(row, "project")?,
        pipeline: name(row, "pipeline")?,
        event: cell(row, "event")?,
        git_ref: git_ref(kind.as_deref(), name_of_ref)?,
        sha: sha.map(|sha| sha.parse()).transpose()?,
        subject: cell(row, "subject")?,
        actor: json(row, "actor")?,
        created_at: Timestamp(cell(row, "created_at")?),
        finished_at: cell::<Option<i64>>(row, "finished_at")?.map(Timestamp),
        outcome: outcome.map(|outcome| outcome.parse()).transpose()?,
        phase: cell(row, "phase")?,
        needs_person: cell(row, "needs_person")?,
        group: cell(row, "group_key")?,
        next_deadline: cell::<Option<i64>>(row, "next_deadline")?.map(Timestamp),
    })
}

pub(super) fn event(row: &SqliteRow) -> Result<Event, Unreadable> {
    let version: i64 = cell(row, "version")?;
    if version != i64::from(EVENT_VERSION) {
        return Err(Unreadable(format!(
            "it has version {version}, this program reads version {EVENT_VERSION}"
        )));
    }
    json(row, "body")
}

pub(super) fn effect(row: &SqliteRow) -> Result<StoredEffect, Unreadable> {
    Ok(StoredEffect {
        run: RunId(number(row, "run")?),
        sequence: number(row, "sequence")?,
        effect: json(row, "body")?,
    })
}

pub(super) fn json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, Unreadable> {
    let text: &str = row.try_get(column)?;
    Ok(serde_json::from_str(text)?)
}

pub(super) fn cell<T>(row: &SqliteRow, column: &str) -> Result<T, Unreadable>
where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite>,
{
    Ok(row.try_get(column)?)
}

fn name(row: &SqliteRow, column: &str) -> Result<Name, Unreadable> {
    let text: &str = row.try_get(column)?;
    Ok(text.parse()?)
}

fn git_ref(kind: Option<&str>, name: Option<String>) -> Result<Option<GitRef>, Unreadable> {
    match (kind, name) {
        (None, None) => Ok(None),
        (Some("branch"), Some(name)) => Ok(Some(GitRef::Branch(name))),
        (Some("tag"), Some(name)) => Ok(Some(GitRef::Tag(name))),
        (kind, name) => Err(Unreadable(format!(
            "a ref of kind {kind:?} with the name {name:?}"
        ))),
    }
}
