//! Rows of any database to values and back. A row that cannot be read is an error with its place, never a panic.

mod estates;
mod registry;

use std::borrow::Cow;

use pipekeeper_engine::{EVENT_VERSION, Event, Snapshot};
use pipekeeper_model::{GitRef, Name, RunId, Sha, Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Delivery, DeliveryId, NewDelivery, Refusal, RunStamp, RunSummary, StoreError, StoredEffect, StoredRun,
};

pub(crate) use estates::{loss_column, stored_estate};
pub(crate) use registry::{audit, record, record_version};

/// A row of a database, its columns by name; each database says how it keeps these few types.
pub(crate) trait Cells {
    fn number_or_null(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    fn text_or_null(&self, column: &str) -> Result<Option<Cow<'_, str>>, sqlx::Error>;
    fn flag(&self, column: &str) -> Result<bool, sqlx::Error>;
    fn bytes(&self, column: &str) -> Result<Vec<u8>, sqlx::Error>;

    fn number(&self, column: &str) -> Result<i64, sqlx::Error> {
        self.number_or_null(column)?.ok_or_else(|| is_null(column))
    }

    fn text(&self, column: &str) -> Result<Cow<'_, str>, sqlx::Error> {
        self.text_or_null(column)?.ok_or_else(|| is_null(column))
    }
}

fn is_null(column: &str) -> sqlx::Error {
    sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: "it is null".into(),
    }
}

/// Why a row cannot be read.
pub(crate) struct Unreadable(String);

impl<E: std::error::Error> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Unreadable {
    pub(crate) fn into_corrupt(self, what: String) -> StoreError {
        StoreError::Corrupt { what, reason: self.0 }
    }
}

/// Numbers beyond a database's are never given out, so the greatest stands for "none that exists".
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Numbers that a store gives out are never negative.
pub(crate) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(crate) fn ref_columns(git_ref: &GitRef) -> (&'static str, &str) {
    match git_ref {
        GitRef::Branch(name) => ("branch", name),
        GitRef::Tag(name) => ("tag", name),
    }
}

pub(crate) fn sha_column(sha: Option<&Sha>) -> &str {
    sha.map_or("", Sha::as_str)
}

pub(crate) fn encode_json<T: Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A row's number, for messages and cursors.
pub(crate) fn number(row: &impl Cells, column: &str) -> Result<u64, sqlx::Error> {
    Ok(to_u64(row.number(column)?))
}

/// The rows of a list that can be read: one spoilt row must not stop the rest of the server, so it is logged.
pub(crate) fn readable<R: Cells, T>(
    found: &[R],
    what: &str,
    number: &str,
    read: fn(&R) -> Result<T, Unreadable>,
) -> Vec<T> {
    let read_one = |row: &R| {
        read(row)
            .map_err(|error| {
                let number = row.number(number).unwrap_or(0);
                let error = error.into_corrupt(format!("{what} {number}"));
                tracing::error!("left out of a list: {error}");
            })
            .ok()
    };
    found.iter().filter_map(read_one).collect()
}

pub(crate) fn delivery(row: &impl Cells) -> Result<Delivery, Unreadable> {
    let outcome = row.text_or_null("outcome")?;
    Ok(Delivery {
        id: DeliveryId(number(row, "id")?),
        received: NewDelivery {
            project: name(row, "project")?,
            forge_id: text(row, "forge_id")?,
            event: text(row, "event")?,
            received_at: Timestamp(row.number("received_at")?),
            body: row.bytes("body")?,
        },
        outcome: outcome.as_deref().map(serde_json::from_str).transpose()?,
    })
}

pub(crate) fn refusal(row: &impl Cells) -> Result<Refusal, Unreadable> {
    Ok(Refusal {
        project: name(row, "project")?,
        at: Timestamp(row.number("at")?),
        reason: text(row, "reason")?,
    })
}

pub(crate) fn summary(row: &impl Cells) -> Result<RunSummary, Unreadable> {
    let sha = row.text_or_null("sha")?;
    let outcome = row.text_or_null("outcome")?;
    Ok(RunSummary {
        id: RunId(number(row, "id")?),
        project: name(row, "project")?,
        pipeline: name(row, "pipeline")?,
        event: text(row, "event")?,
        git_ref: git_ref(row)?,
        sha: sha.map(|sha| sha.parse()).transpose()?,
        subject: text(row, "subject")?,
        actor: json(row, "actor")?,
        created_at: Timestamp(row.number("created_at")?),
        finished_at: row.number_or_null("finished_at")?.map(Timestamp),
        outcome: outcome.map(|outcome| outcome.parse()).transpose()?,
        phase: text(row, "phase")?,
        needs_person: row.flag("needs_person")?,
        group: row.text_or_null("group_key")?.map(Cow::into_owned),
        next_deadline: row.number_or_null("next_deadline")?.map(Timestamp),
    })
}

pub(crate) fn stamp(row: &impl Cells) -> Result<RunStamp, Unreadable> {
    Ok(RunStamp {
        version: number(row, "version")?,
        quarantined: row.text_or_null("quarantined")?.map(Cow::into_owned),
    })
}

pub(crate) fn run_version(row: &impl Cells) -> Result<(RunId, u64), Unreadable> {
    Ok((RunId(number(row, "id")?), number(row, "version")?))
}

/// What the rows of a run make.
pub(crate) enum Loaded {
    Whole(StoredRun),
    /// Its snapshot cannot be read; the events, which are the truth, are all wanted in its place.
    WithoutSnapshot(StoredRun),
}

/// A run from its row (kind 0), its snapshot (1) and the events after that (2), each with `number`, `version` and `body`.
pub(crate) fn stored_run(found: &[impl Cells], run: RunId) -> Result<Option<Loaded>, StoreError> {
    let Some((head, parts)) = found.split_first() else {
        return Ok(None);
    };
    let corrupt = |error: Unreadable| error.into_corrupt(format!("run {run}"));
    let quarantined = head.text_or_null("body").map_err(|error| corrupt(error.into()))?;
    let mut stored = StoredRun {
        snapshot: None,
        tail: Vec::with_capacity(parts.len()),
        version: number(head, "number").map_err(|error| corrupt(error.into()))?,
        quarantined: quarantined.map(Cow::into_owned),
    };
    for part in parts {
        match part.number("kind").map_err(|error| corrupt(error.into()))? {
            1 => match json::<Snapshot>(part, "body") {
                Ok(snapshot) => stored.snapshot = Some(snapshot),
                Err(error) => {
                    let error = corrupt(error);
                    tracing::warn!(run.id = run.0, "the snapshot is left out: {error}");
                    return Ok(Some(Loaded::WithoutSnapshot(stored)));
                }
            },
            _ => stored.tail.push(numbered_event(part, "number", run)?.1),
        }
    }
    Ok(Some(Loaded::Whole(stored)))
}

/// The run with all its events in the place of a snapshot.
pub(crate) fn from_events(stored: StoredRun, events: Vec<(u64, Event)>) -> StoredRun {
    StoredRun {
        snapshot: None,
        version: events.last().map_or(0, |(number, _)| *number),
        tail: events.into_iter().map(|(_, event)| event).collect(),
        quarantined: stored.quarantined,
    }
}

pub(crate) fn event(row: &impl Cells) -> Result<Event, Unreadable> {
    let version = row.number("version")?;
    if version != i64::from(EVENT_VERSION) {
        return Err(Unreadable(format!(
            "it has version {version}, this program reads version {EVENT_VERSION}"
        )));
    }
    json(row, "body")
}

/// An event with its number in a column of this name.
pub(crate) fn numbered_event(row: &impl Cells, column: &str, run: RunId) -> Result<(u64, Event), StoreError> {
    let number = number(row, column)
        .map_err(|error| Unreadable::from(error).into_corrupt(format!("events of run {run}")))?;
    let event = event(row).map_err(|error| error.into_corrupt(format!("event {number} of run {run}")))?;
    Ok((number, event))
}

pub(crate) fn effect(row: &impl Cells) -> Result<StoredEffect, Unreadable> {
    Ok(StoredEffect {
        run: RunId(number(row, "run")?),
        sequence: number(row, "sequence")?,
        effect: json(row, "body")?,
    })
}

pub(crate) fn json<T: DeserializeOwned>(row: &impl Cells, column: &str) -> Result<T, Unreadable> {
    Ok(serde_json::from_str(&row.text(column)?)?)
}

pub(crate) fn text(row: &impl Cells, column: &str) -> Result<String, Unreadable> {
    Ok(row.text(column)?.into_owned())
}

fn name(row: &impl Cells, column: &str) -> Result<Name, Unreadable> {
    Ok(row.text(column)?.parse()?)
}

fn git_ref(row: &impl Cells) -> Result<Option<GitRef>, Unreadable> {
    let kind = row.text_or_null("ref_kind")?;
    let name = row.text_or_null("ref_name")?.map(Cow::into_owned);
    match (kind.as_deref(), name) {
        (None, None) => Ok(None),
        (Some("branch"), Some(name)) => Ok(Some(GitRef::Branch(name))),
        (Some("tag"), Some(name)) => Ok(Some(GitRef::Tag(name))),
        (kind, name) => Err(Unreadable(format!(
            "a ref of kind {kind:?} with the name {name:?}"
        ))),
    }
}
