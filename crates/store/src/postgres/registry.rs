//! Records and the audit log: written inside the writer's transaction, read by single statements.

use async_trait::async_trait;
use pipekeeper_model::{Name, Timestamp};
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};

use crate::{
    AuditEntry, AuditFilter, Change, ChangeError, NewRecord, Record, RecordKind, RecordVersion, Registry,
    StoreError, StoredAudit,
    job::{Changes, Job},
    registry::each_record_once,
    rows::{audit, encode_json, record, record_version, to_i64, to_u64},
};

use super::{
    PostgresStore,
    read::{all, one},
    text::to_column,
};

/// How many records go at once when their time is over.
const EXPIRED_AT_ONCE: i64 = 1_000;

/// By name, as every statement here: a newer server may have added columns.
const RECORD: &str =
    "SELECT name, owner, version, author, changed_at, expires_at, body FROM records WHERE kind = ";

#[async_trait]
impl Registry for PostgresStore {
    async fn change(&self, changes: Vec<Change>, audit: Vec<AuditEntry>) -> Result<(), ChangeError> {
        each_record_once(&changes)?;
        self.ask(Job::Change, Changes { changes, audit }).await
    }

    async fn record(&self, kind: RecordKind, name: &str) -> Result<Option<Record>, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new(RECORD);
        query.push_bind(kind.as_str());
        query.push(" AND name = ").push_bind(to_column(name));
        let found = one(&self.readers, query.build()).await?;
        found
            .map(|row| record(&row).map_err(|error| error.into_corrupt(format!("{} {name}", kind.as_str()))))
            .transpose()
    }

    async fn records(&self, kind: RecordKind, owner: Option<&str>) -> Result<Vec<Record>, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new(RECORD);
        query.push_bind(kind.as_str());
        if let Some(owner) = owner {
            query.push(" AND owner = ").push_bind(to_column(owner));
        }
        query.push(" ORDER BY name");
        let found = all(&self.readers, query.build()).await?;
        // A record that is left out could be the one that forbids something.
        let read = |row| record(row).map_err(|error| error.into_corrupt(kind.as_str().to_owned()));
        found.iter().map(read).collect()
    }

    async fn versions(&self, kind: RecordKind, name: &str) -> Result<Vec<RecordVersion>, StoreError> {
        let query = sqlx::query(
            "SELECT version, author, changed_at, body FROM record_versions WHERE kind = $1 AND name = $2 \
             ORDER BY version DESC",
        )
        .bind(kind.as_str())
        .bind(to_column(name));
        let found = all(&self.readers, query).await?;
        let read = |row| {
            record_version(row).map_err(|error| error.into_corrupt(format!("{} {name}", kind.as_str())))
        };
        found.iter().map(read).collect()
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        self.ask(Job::Expire, now).await
    }

    async fn audit(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<StoredAudit>, StoreError> {
        let mut query = audit_query(filter, limit);
        let found = all(&self.readers, query.build()).await?;
        let read = |row| audit(row).map_err(|error| error.into_corrupt("the audit log".to_owned()));
        found.iter().map(read).collect()
    }
}

/// Makes all changes, or none if one of them is refused.
pub(super) async fn change(
    connection: &mut PgConnection,
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

async fn versions_of(connection: &mut PgConnection, change: &Change) -> Result<Versions, sqlx::Error> {
    let row = sqlx::query(
        "SELECT (SELECT version FROM records WHERE kind = $1 AND name = $2) AS present, \
         (SELECT max(version) FROM record_versions WHERE kind = $1 AND name = $2) AS last",
    )
    .bind(change.kind.as_str())
    .bind(to_column(&change.name))
    .fetch_one(connection)
    .await?;
    let present: Option<i64> = row.try_get("present")?;
    let last: Option<i64> = row.try_get("last")?;
    Ok(Versions {
        present: present.map(to_u64),
        last: last.or(present).map_or(0, to_u64),
    })
}

async fn write(connection: &mut PgConnection, change: &Change, version: u64) -> Result<(), sqlx::Error> {
    let author = encode_json(&change.author)?;
    match &change.to {
        Some(to) => put(connection, change, to, (version, &author)).await?,
        None => {
            sqlx::query("DELETE FROM records WHERE kind = $1 AND name = $2")
                .bind(change.kind.as_str())
                .bind(to_column(&change.name))
                .execute(&mut *connection)
                .await?;
        }
    }
    if change.kind.has_history() {
        sqlx::query(
            "INSERT INTO record_versions (kind, name, version, author, changed_at, body) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(change.kind.as_str())
        .bind(to_column(&change.name))
        .bind(to_i64(version))
        .bind(author)
        .bind(change.at.0)
        .bind(change.to.as_ref().map(|to| to_column(&to.body)))
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn put(
    connection: &mut PgConnection,
    change: &Change,
    to: &NewRecord,
    (version, author): (u64, &str),
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO records (kind, name, owner, version, author, changed_at, expires_at, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, name) DO UPDATE SET owner = excluded.owner, \
         version = excluded.version, author = excluded.author, changed_at = excluded.changed_at, \
         expires_at = excluded.expires_at, body = excluded.body",
    )
    .bind(change.kind.as_str())
    .bind(to_column(&change.name))
    .bind(to_column(&to.owner))
    .bind(to_i64(version))
    .bind(author)
    .bind(change.at.0)
    .bind(to.expires.map(|at| at.0))
    .bind(to_column(&to.body))
    .execute(connection)
    .await?;
    Ok(())
}

async fn note(connection: &mut PgConnection, entry: &AuditEntry) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO audit (at, actor, who, address, verb, subject, project, old, new, reason) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(entry.at.0)
    .bind(encode_json(&entry.actor)?)
    .bind(to_column(&entry.actor.to_string()))
    .bind(entry.from.as_deref().map(to_column))
    .bind(to_column(&entry.verb))
    .bind(to_column(&entry.subject))
    .bind(entry.project.as_ref().map(Name::as_str))
    .bind(entry.before.as_deref().map(to_column))
    .bind(entry.after.as_deref().map(to_column))
    .bind(entry.reason.as_deref().map(to_column))
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes records whose time is over.
pub(super) async fn expire(connection: &mut PgConnection, now: Timestamp) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query(
        "DELETE FROM records WHERE (kind, name) IN \
         (SELECT kind, name FROM records WHERE expires_at <= $1 LIMIT $2)",
    )
    .bind(now.0)
    .bind(EXPIRED_AT_ONCE)
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}

fn audit_query(filter: &AuditFilter, limit: u32) -> QueryBuilder<Postgres> {
    let AuditFilter {
        actor,
        project,
        subject,
        verb,
        before,
    } = filter;
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT id, at, actor, address, verb, subject, project, old, new, reason FROM audit WHERE id < ",
    );
    query.push_bind(before.map_or(i64::MAX, to_i64));
    let wanted = [
        ("who", actor.as_deref()),
        ("project", project.as_ref().map(Name::as_str)),
        ("verb", verb.as_deref()),
    ];
    for (column, value) in wanted {
        if let Some(value) = value {
            query
                .push(format_args!(" AND {column} = "))
                .push_bind(to_column(value).into_owned());
        }
    }
    if let Some(subject) = subject {
        let subject = to_column(subject);
        // Everything below `a` lies between `a/` and `a0`: the character after the slash is the digit.
        query
            .push(" AND (subject = ")
            .push_bind(subject.clone().into_owned());
        query.push(" OR (subject > ").push_bind(format!("{subject}/"));
        query.push(" AND subject < ").push_bind(format!("{subject}0"));
        query.push("))");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    query
}
