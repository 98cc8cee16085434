//! Reading. Every method is one statement, so it sees one state of the database and needs no transaction.
//!
//! Lists leave out a row that cannot be read and log it: one spoilt row must not stop the rest of the server.

use pipekeeper_engine::{AdoptedNode, Event};
use pipekeeper_model::{Digest, Name, RunId};
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use crate::{
    Delivery, DeliveryId, RefMove, Refusal, RunFilter, RunStamp, RunSummary, StoreError, StoredEffect,
    StoredRun,
    rows::{self, Loaded, ref_columns, sha_column, to_i64, to_u64},
};

use super::failure::to_store_error;

pub(super) async fn refusals(readers: &SqlitePool, project: &Name) -> Result<Vec<Refusal>, StoreError> {
    let query =
        sqlx::query("SELECT id, project, at, reason FROM refusals WHERE project = ? ORDER BY id DESC")
            .bind(project.as_str());
    let found = query
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(rows::readable(&found, "refusal", "id", rows::refusal))
}

pub(super) async fn pending_deliveries(
    readers: &SqlitePool,
    after: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let query = sqlx::query(
        "SELECT id, project, forge_id, event, received_at, outcome, x'' AS body FROM deliveries \
         WHERE outcome IS NULL AND id > ? ORDER BY id LIMIT ?",
    )
    .bind(after.map_or(0, |after| to_i64(after.0)))
    .bind(i64::from(limit));
    let found = query
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(rows::readable(&found, "delivery", "id", rows::delivery))
}

pub(super) async fn delivery(readers: &SqlitePool, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    let query = sqlx::query(
        "SELECT id, project, forge_id, event, received_at, outcome, body FROM deliveries WHERE id = ?",
    )
    .bind(to_i64(id.0));
    let found = query
        .fetch_optional(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    found
        .map(|row| rows::delivery(&row).map_err(|error| error.into_corrupt(format!("delivery {}", id.0))))
        .transpose()
}

pub(super) async fn deliveries(
    readers: &SqlitePool,
    project: Option<&Name>,
    before: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT id, project, forge_id, event, received_at, outcome, x'' AS body FROM deliveries WHERE id < ",
    );
    query.push_bind(before.map_or(i64::MAX, |before| to_i64(before.0)));
    if let Some(project) = project {
        query.push(" AND project = ").push_bind(project.as_str());
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    let found = query
        .build()
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(rows::readable(&found, "delivery", "id", rows::delivery))
}

pub(super) async fn find_move(
    readers: &SqlitePool,
    moved: &RefMove,
) -> Result<Option<DeliveryId>, StoreError> {
    let (kind, name) = ref_columns(&moved.git_ref);
    let query = sqlx::query(
        "SELECT delivery FROM ref_moves AS same \
         WHERE project = ?1 AND ref_kind = ?2 AND ref_name = ?3 AND old_sha = ?4 AND new_sha = ?5 \
         AND NOT EXISTS (SELECT 1 FROM ref_moves AS back WHERE back.project = ?1 AND back.ref_kind = ?2 \
         AND back.ref_name = ?3 AND back.new_sha = ?4 AND back.id > same.id) \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(moved.project.as_str())
    .bind(kind)
    .bind(name)
    .bind(sha_column(moved.before.as_ref()))
    .bind(sha_column(moved.after.as_ref()));
    let read = async {
        let found = query.fetch_optional(readers).await?;
        found.map(|row| rows::number(&row, "delivery")).transpose()
    };
    let id = read.await.map_err(|error| to_store_error(&error))?;
    Ok(id.map(DeliveryId))
}

pub(super) async fn last_run(readers: &SqlitePool) -> Result<u64, StoreError> {
    let last: i64 = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM runs")
        .fetch_one(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(to_u64(last))
}

pub(super) async fn recall(readers: &SqlitePool, inputs: &Digest) -> Result<Option<AdoptedNode>, StoreError> {
    let query = sqlx::query("SELECT body FROM successes WHERE inputs = ?").bind(inputs.to_string());
    let found = query
        .fetch_optional(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    found
        .map(|row| {
            rows::json(&row, "body").map_err(|error| error.into_corrupt(format!("success of {inputs}")))
        })
        .transpose()
}

pub(super) async fn stamp(readers: &SqlitePool, run: RunId) -> Result<Option<RunStamp>, StoreError> {
    let query = sqlx::query("SELECT version, quarantined FROM runs WHERE id = ?").bind(to_i64(run.0));
    let found = query
        .fetch_optional(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    found
        .map(|row| rows::stamp(&row).map_err(|error| error.into_corrupt(format!("run {run}"))))
        .transpose()
}

pub(super) async fn active(readers: &SqlitePool) -> Result<Vec<(RunId, u64)>, StoreError> {
    let query =
        sqlx::query("SELECT id, version FROM runs WHERE outcome IS NULL AND quarantined IS NULL ORDER BY id");
    let found = query
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(rows::readable(&found, "run", "id", rows::run_version))
}

pub(super) async fn load(readers: &SqlitePool, run: RunId) -> Result<Option<StoredRun>, StoreError> {
    let query = sqlx::query(
        "SELECT 0 AS kind, version AS number, 0 AS version, quarantined AS body FROM runs WHERE id = ?1 \
         UNION ALL SELECT 1, version, 0, body FROM snapshots WHERE run = ?1 \
         UNION ALL SELECT 2, sequence, version, body FROM events WHERE run = ?1 \
         AND sequence > coalesce((SELECT version FROM snapshots WHERE run = ?1), 0) \
         ORDER BY kind, number",
    )
    .bind(to_i64(run.0));
    let found = query
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    match rows::stored_run(&found, run)? {
        None => Ok(None),
        Some(Loaded::Whole(stored)) => Ok(Some(stored)),
        Some(Loaded::WithoutSnapshot(stored)) => {
            let events = events(readers, run, 0, u32::MAX).await?;
            Ok(Some(rows::from_events(stored, events)))
        }
    }
}

pub(super) async fn events(
    readers: &SqlitePool,
    run: RunId,
    after: u64,
    limit: u32,
) -> Result<Vec<(u64, Event)>, StoreError> {
    let query = sqlx::query(
        "SELECT sequence, version, body FROM events WHERE run = ? AND sequence > ? ORDER BY sequence LIMIT ?",
    )
    .bind(to_i64(run.0))
    .bind(to_i64(after))
    .bind(i64::from(limit));
    let found = query
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    found
        .iter()
        .map(|row| rows::numbered_event(row, "sequence", run))
        .collect()
}

pub(super) async fn summary(readers: &SqlitePool, run: RunId) -> Result<Option<RunSummary>, StoreError> {
    let query = sqlx::query("SELECT * FROM runs WHERE id = ?").bind(to_i64(run.0));
    let found = query
        .fetch_optional(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    found
        .map(|row| rows::summary(&row).map_err(|error| error.into_corrupt(format!("run {run}"))))
        .transpose()
}

pub(super) async fn runs(
    readers: &SqlitePool,
    filter: &RunFilter,
    limit: u32,
) -> Result<Vec<RunSummary>, StoreError> {
    let mut query = runs_query(filter, limit);
    let found = query
        .build()
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(rows::readable(&found, "run", "id", rows::summary))
}

/// The statement of [`runs`]: one of a few texts, so that each is prepared once.
pub(super) fn runs_query(filter: &RunFilter, limit: u32) -> QueryBuilder<Sqlite> {
    let RunFilter {
        projects,
        pipeline,
        sha,
        active,
        group,
        before,
    } = filter;
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM runs WHERE id < ");
    query.push_bind(before.map_or(i64::MAX, |before| to_i64(before.0)));
    // Few runs are active: the plus keeps SQLite from walking all runs of a project to find them.
    let plus = if *active { "+" } else { "" };
    let wanted = [
        ("pipeline", pipeline.as_ref().map(Name::as_str)),
        ("sha", sha.as_ref().map(|sha| sha.as_str())),
    ];
    for (column, value) in wanted {
        if let Some(value) = value {
            query
                .push(format_args!(" AND {plus}{column} = "))
                .push_bind(value.to_owned());
        }
    }
    if let Some(projects) = projects {
        query.push(format_args!(" AND {plus}project IN ("));
        let mut names = query.separated(", ");
        for project in projects {
            names.push_bind(project.as_str().to_owned());
        }
        query.push(")");
    }
    if let Some(group) = group {
        query.push(" AND group_key = ").push_bind(group.clone());
    }
    if *active {
        query.push(" AND outcome IS NULL AND quarantined IS NULL");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    query
}

pub(super) async fn effects(
    readers: &SqlitePool,
    after: Option<u64>,
    limit: u32,
) -> Result<Vec<StoredEffect>, StoreError> {
    let query = sqlx::query(
        "SELECT effects.sequence, effects.run, effects.body FROM effects JOIN runs ON runs.id = effects.run \
         WHERE effects.sequence > ? AND runs.quarantined IS NULL ORDER BY effects.sequence LIMIT ?",
    )
    .bind(after.map_or(0, to_i64))
    .bind(i64::from(limit));
    let found = query
        .fetch_all(readers)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(rows::readable(&found, "effect", "sequence", rows::effect))
}
