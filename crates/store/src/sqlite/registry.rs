//! Records and the audit log: written inside the writer's transaction, read by single statements.

use async_trait::async_trait;
use pipekeeper_model::Timestamp;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use crate::{
    AuditEntry, AuditFilter, Change, ChangeError, NewRecord, Record, RecordKind, RecordVersion, Registry,
    StoreError, StoredAudit,
    job::{Changes, Job},
    registry::each_record_once,
    rows::{audit, encode_json, record, record_version, to_i64, to_u64},
};

use super::{SqliteStore, failure::to_store_error};

/// How many records go at once when their time is over.
const EXPIRED_AT_ONCE: i64 = 1_000;

#[async_trait]
impl Registry for SqliteStore {
    async fn change(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError> {
        each_record_once(&changes)?;
        self.ask(Job::Change, Changes { changes, audit }).await
    }

    async fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, StoreError> {
        let query = sqlx::query("SELECT * FROM records WHERE kind = ? AND name = ?")
            .bind(kind.as_str())
            .bind(name);
        let found = query.fetch_optional(&self.readers).await;
        found
            .map_err(|error| to_store_error(&error))?
            .map(|row| record(&row).map_err(|error| error.into_corrupt(format!("{} {name}", kind.as_str()))))
            .transpose()
    }

    async fn records(&self, kind: RecordKind, owner: Option<&str>) -> Result<Vec<Record>, StoreError> {
        let query =
            sqlx::query("SELECT * FROM records WHERE kind = ?1 AND (?2 IS NULL OR owner = ?2) ORDER BY name")
                .bind(kind.as_str())
                .bind(owner);
        let found = query.fetch_all(&self.readers).await;
        let found = found.map_err(|error| to_store_error(&error))?;
        // A record that is left out could be the one that forbids something.
        let read = |row| record(row).map_err(|error| error.into_corrupt(kind.as_str().to_owned()));
        found.iter().map(read).collect()
    }

    async fn versions(&self, kind: RecordKind, name: &str) -> Result<Vec<RecordVersion>, StoreError> {
        let query = sqlx::query(
            "SELECT version, author, changed_at, body FROM record_versions WHERE kind = ? AND name = ? \
             ORDER BY version DESC",
        )
        .bind(kind.as_str())
        .bind(name);
        let found = query.fetch_all(&self.readers).await;
        let read = |row| {
            record_version(row).map_err(|error| error.into_corrupt(format!("{} {name}", kind.as_str())))
        };
        found
            .map_err(|error| to_store_error(&error))?
            .iter()
            .map(read)
            .collect()
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.ask(Job::Expire, now).await
    }

    async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredAudit>, StoreError> {
        let mut query = audit_query(filter, limit);
        let found = query.build().fetch_all(&self.readers).await;
        let read = |row| audit(row).map_err(|error| error.into_corrupt("the audit log".to_owned()));
        found
            .map_err(|error| to_store_error(&error))?
            .iter()
            .map(read)
            .collect()
    }
}

/// Makes all changes, or none if one of them is refused.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    Changes { changes, audit }: &Changes,
) -> Result<Result<(), ChangeError>, sqlx::Error> {
    let mut last = Vec::with_capacity(changes.len());
    for change in changes {
        let versions = versions_of(connection, change).await?;
        if !change.expected.fits(versions.present) {
            return Ok(Err(ChangeError::Conflict {
                kind: change.kind,
                name: change.name.clone(),
                found: versions.present,
            }));
        }
        last.push(versions);
    }
    for (change, versions) in changes.iter().zip(last) {
        write(connection, change, versions.last + 1).await?;
    }
    for entry in audit {
        note(connection, entry).await?;
    }
    Ok(Ok(()))
}

struct Versions {
    present: Option<u64>,
    /// Also of one that was removed.
    last: u64,
}

async fn versions_of(connection: &mut SqliteConnection, change: &Change) -> Result<Versions, sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT version FROM records WHERE kind = ?1 AND name = ?2) AS present, \
         (SELECT max(version) FROM record_versions WHERE kind = ?1 AND name = ?2) AS last",
    )
    .bind(change.kind.as_str())
    .bind(change.name.as_str())
    .fetch_one(connection)
    .await?;
    let present: Option<i64> = row.try_get("present")?;
    let last: Option<i64> = row.try_get("last")?;
    Ok(Versions {
        present: present.map(to_u64),
        last: last.or(present).map_or(0, to_u64),
    })
}

async fn write(connection: &mut SqliteConnection, change: &Change, version: u64) -> Result<(), sqlx::Error> {
    let author = encode_json(&change.author)?;
    match &change.to {
        Some(to) => put(connection, change, to, (version, &author)).await?,
        None => {
            sqlx::query("DELETE FROM records WHERE kind = ? AND name = ?")
                .bind(change.kind.as_str())
                .bind(change.name.as_str())
                .execute(&mut *connection)
                .await?;
        }
    }
    if change.kind.has_history() {
        sqlx::query(
            "INSERT INTO record_versions (kind, name, version, author, changed_at, body) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(change.kind.as_str())
        .bind(change.name.as_str())
        .bind(to_i64(version))
        .bind(author)
        .bind(change.at.0)
        .bind(change.to.as_ref().map(|to| to.body.as_str()))
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn put(
    connection: &mut SqliteConnection,
    change: &Change,
    to: &NewRecord,
    (version, author): (u64, &str),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO records (kind, name, owner, version, author, changed_at, expires_at, body) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET owner = excluded.owner, \
         version = excluded.version, author = excluded.author, changed_at = excluded.changed_at, \
         expires_at = excluded.expires_at, body = excluded.body",
    )
    .bind(change.kind.as_str())
    .bind(change.name.as_str())
    .bind(to.owner.as_str())
    .bind(to_i64(version))
    .bind(author)
    .bind(change.at.0)
    .bind(to.expires.map(|at| at.0))
    .bind(to.body.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

async fn note(connection: &mut SqliteConnection, entry: &AuditEntry) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO audit (at, actor, who, address, verb, subject, project, old, new, reason) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(entry.at.0)
    .bind(encode_json(&entry.actor)?)
    .bind(entry.actor.to_string())
    .bind(entry.from.as_deref())
    .bind(entry.verb.as_str())
    .bind(entry.subject.as_str())
    .bind(entry.project.as_ref().map(|project| project.as_str()))
    .bind(entry.before.as_deref())
    .bind(entry.after.as_deref())
    .bind(entry.reason.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes records whose time is over.
pub(super) async fn expire(connection: &mut SqliteConnection, now: Timestamp) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM records WHERE (kind, name) IN \
         (SELECT kind, name FROM records WHERE expires_at <= ? LIMIT ?)",
    )
    .bind(now.0)
    .bind(EXPIRED_AT_ONCE)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}

fn audit_query(filter: &AuditFilter, limit: u32) -> QueryBuilder<Sqlite> {
    let AuditFilter {
        actor,
        project,
        subject,
        verb,
        before,
    } = filter;
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM audit WHERE id < ");
    query.push_bind(before.map_or(i64::MAX, to_i64));
    let wanted = [
        ("who", actor.as_deref()),
        ("project", project.as_ref().map(|project| project.as_str())),
        ("verb", verb.as_deref()),
    ];
    for (column, value) in wanted {
        if let Some(value) = value {
            query
                .push(format_args!(" AND {column} = "))
                .push_bind(value.to_owned());
        }
    }
    if let Some(subject) = subject {
        // Everything below `a` lies between `a/` and `a0`: the character after the slash is the digit.
        query.push(" AND (subject = ").push_bind(subject.clone());
        query.push(" OR (subject > ").push_bind(format!("{subject}/"));
        query.push(" AND subject < ").push_bind(format!("{subject}0"));
        query.push("))");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    query
}
