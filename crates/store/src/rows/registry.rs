//! Rows of records and of the audit log.

use std::borrow::Cow;

use pipekeeper_model::Timestamp;

use crate::{AuditEntry, Record, RecordVersion, StoredAudit};

use super::{Cells, Unreadable, json, number, text};

pub(crate) fn record(row: &impl Cells) -> Result<Record, Unreadable> {
    Ok(Record {
        name: text(row, "name")?,
        owner: text(row, "owner")?,
        version: number(row, "version")?,
        body: text(row, "body")?,
        author: json(row, "author")?,
        at: Timestamp(row.number("changed_at")?),
        expires: row.number_or_null("expires_at")?.map(Timestamp),
    })
}

pub(crate) fn record_version(row: &impl Cells) -> Result<RecordVersion, Unreadable> {
    Ok(RecordVersion {
        version: number(row, "version")?,
        body: text_or_null(row, "body")?,
        author: json(row, "author")?,
        at: Timestamp(row.number("changed_at")?),
    })
}

pub(crate) fn audit(row: &impl Cells) -> Result<StoredAudit, Unreadable> {
    let project = row.text_or_null("project")?;
    Ok(StoredAudit {
        id: number(row, "id")?,
        entry: AuditEntry {
            at: Timestamp(row.number("at")?),
            actor: json(row, "actor")?,
            from: text_or_null(row, "address")?,
            verb: text(row, "verb")?,
            subject: text(row, "subject")?,
            project: project.map(|project| project.parse()).transpose()?,
            before: text_or_null(row, "old")?,
            after: text_or_null(row, "new")?,
            reason: text_or_null(row, "reason")?,
        },
    })
}

fn text_or_null(row: &impl Cells, column: &str) -> Result<Option<String>, Unreadable> {
    Ok(row.text_or_null(column)?.map(Cow::into_owned))
}
