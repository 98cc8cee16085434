//! Reading. Every method is one statement, so it sees one state of the database and needs no transaction.
//!
//! Lists leave out a row that cannot be read and log it: one spoilt row must not stop the rest of the server.

use pipekeeper_engine::{AdoptedNode, Event};
use pipekeeper_model::{Digest, Name, RunId};
use sqlx::{
    PgPool, Postgres, QueryBuilder,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use crate::{
    Delivery, DeliveryId, RefMove, Refusal, RunFilter, RunStamp, RunSummary, StoreError, StoredEffect,
    StoredRun,
    rows::{self, Loaded, ref_columns, sha_column, to_i64, to_u64},
};

use super::{
    failure::to_store_error,
    pool::{PATIENCE, bounded},
    text::to_column,
};

/// By name: `*` would mean another type once a newer server adds a column, and statements are prepared for one.
const RUN: &str = "SELECT id, version, project, pipeline, event, ref_kind, ref_name, sha, subject, actor, created_at, \
    finished_at, outcome, phase, needs_person, group_key, next_deadline, quarantined FROM runs WHERE id ";

pub(super) async fn all(
    readers: &PgPool,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Vec<PgRow>, StoreError> {
    let found = bounded(PATIENCE, query.fetch_all(readers)).await;
    found.map_err(|error| to_store_error(&error))
}

pub(super) async fn one(
    readers: &PgPool,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<Option<PgRow>, StoreError> {
    Ok(all(readers, query).await?.into_iter().next())
}

pub(super) async fn refusals(readers: &PgPool, project: &Name) -> Result<Vec<Refusal>, StoreError> {
    let query =
        sqlx::query("SELECT id, project, at, reason FROM refusals WHERE project = $1 ORDER BY id DESC")
            .bind(project.as_str());
    let found = all(readers, query).await?;
    Ok(rows::readable(&found, "refusal", "id", rows::refusal))
}

pub(super) async fn pending_deliveries(
    readers: &PgPool,
    after: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let query = sqlx::query(
        "SELECT id, project, forge_id, event, received_at, outcome, ''::bytea AS body FROM deliveries \
         WHERE outcome IS NULL AND id > $1 ORDER BY id LIMIT $2",
    )
    .bind(after.map_or(0, |after| to_i64(after.0)))
    .bind(i64::from(limit));
    let found = all(readers, query).await?;
    Ok(rows::readable(&found, "delivery", "id", rows::delivery))
}

pub(super) async fn delivery(readers: &PgPool, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
    let query = sqlx::query(
        "SELECT id, project, forge_id, event, received_at, outcome, body FROM deliveries WHERE id = $1",
    )
    .bind(to_i64(id.0));
    let found = one(readers, query).await?;
    found
        .map(|row| rows::delivery(&row).map_err(|error| error.into_corrupt(format!("delivery {}", id.0))))
        .transpose()
}

pub(super) async fn deliveries(
    readers: &PgPool,
    project: Option<&Name>,
    before: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Delivery>, StoreError> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT id, project, forge_id, event, received_at, outcome, ''::bytea AS body FROM deliveries WHERE id < ",
    );
    query.push_bind(before.map_or(i64::MAX, |before| to_i64(before.0)));
    if let Some(project) = project {
        query.push(" AND project = ").push_bind(project.as_str());
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    let found = all(readers, query.build()).await?;
    Ok(rows::readable(&found, "delivery", "id", rows::delivery))
}

pub(super) async fn find_move(readers: &PgPool, moved: &RefMove) -> Result<Option<DeliveryId>, StoreError> {
    let (kind, name) = ref_columns(&moved.git_ref);
    let query = sqlx::query(
        "SELECT delivery FROM ref_moves AS same \
         WHERE project = $1 AND ref_kind = $2 AND ref_name = $3 AND old_sha = $4 AND new_sha = $5 \
         AND NOT EXISTS (SELECT 1 FROM ref_moves AS back WHERE back.project = $1 AND back.ref_kind = $2 \
         AND back.ref_name = $3 AND back.new_sha = $4 AND back.id > same.id) \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(moved.project.as_str())
    .bind(kind)
    .bind(to_column(name))
    .bind(sha_column(moved.before.as_ref()))
    .bind(sha_column(moved.after.as_ref()));
    let found = one(readers, query).await?;
    let id = found.map(|row| rows::number(&row, "delivery")).transpose();
    Ok(id.map_err(|error| to_store_error(&error))?.map(DeliveryId))
}

pub(super) async fn last_run(readers: &PgPool) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar("SELECT coalesce(max(id), 0) FROM runs").fetch_one(readers);
    let last: i64 = bounded(PATIENCE, query)
        .await
        .map_err(|error| to_store_error(&error))?;
    Ok(to_u64(last))
}

pub(super) async fn recall(readers: &PgPool, inputs: &Digest) -> Result<Option<AdoptedNode>, StoreError> {
    let query = sqlx::query("SELECT body FROM successes WHERE inputs = $1").bind(inputs.to_string());
    let found = one(readers, query).await?;
    found
        .map(|row| {
            rows::json(&row, "body").map_err(|error| error.into_corrupt(format!("success of {inputs}")))
        })
        .transpose()
}

pub(super) async fn stamp(readers: &PgPool, run: RunId) -> Result<Option<RunStamp>, StoreError> {
    let query = sqlx::query("SELECT version, quarantined FROM runs WHERE id = $1").bind(to_i64(run.0));
    let found = one(readers, query).await?;
    found
        .map(|row| rows::stamp(&row).map_err(|error| error.into_corrupt(format!("run {run}"))))
        .transpose()
}

pub(super) async fn active(readers: &PgPool) -> Result<Vec<(RunId, u64)>, StoreError> {
    let query =
        sqlx::query("SELECT id, version FROM runs WHERE outcome IS NULL AND quarantined IS NULL ORDER BY id");
    let found = all(readers, query).await?;
    Ok(rows::readable(&found, "run", "id", rows::run_version))
}

pub(super) async fn load(readers: &PgPool, run: RunId) -> Result<Option<StoredRun>, StoreError> {
    let query = sqlx::query(
        "SELECT 0::bigint AS kind, version AS number, 0::bigint AS version, quarantined AS body \
         FROM runs WHERE id = $1 \
         UNION ALL SELECT 1, version, 0, body FROM snapshots WHERE run = $1 \
         UNION ALL SELECT 2, sequence, version, body FROM events WHERE run = $1 \
         AND sequence > coalesce((SELECT version FROM snapshots WHERE run = $1), 0) \
         ORDER BY kind, number",
    )
    .bind(to_i64(run.0));
    let found = all(readers, query).await?;
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
    readers: &PgPool,
    run: RunId,
    after: u64,
    limit: u32,
) -> Result<Vec<(u64, Event)>, StoreError> {
    let query = sqlx::query(
        "SELECT sequence, version, body FROM events WHERE run = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
    )
    .bind(to_i64(run.0))
    .bind(to_i64(after))
    .bind(i64::from(limit));
    let found = all(readers, query).await?;
    found
        .iter()
        .map(|row| rows::numbered_event(row, "sequence", run))
        .collect()
}

pub(super) async fn summary(readers: &PgPool, run: RunId) -> Result<Option<RunSummary>, StoreError> {
    let mut query = QueryBuilder::<Postgres>::new(RUN);
    query.push("= ").push_bind(to_i64(run.0));
    let found = one(readers, query.build()).await?;
    found
        .map(|row| rows::summary(&row).map_err(|error| error.into_corrupt(format!("run {run}"))))
        .transpose()
}

/// One of a few texts, so that each is prepared once.
pub(super) async fn runs(
    readers: &PgPool,
    filter: &RunFilter,
    limit: u32,
) -> Result<Vec<RunSummary>, StoreError> {
    let RunFilter {
        projects,
        pipeline,
        sha,
        active,
        group,
        before,
    } = filter;
    let mut query = QueryBuilder::<Postgres>::new(RUN);
    query
        .push("< ")
        .push_bind(before.map_or(i64::MAX, |before| to_i64(before.0)));
    if let Some(projects) = projects {
        let names: Vec<&str> = projects.iter().map(Name::as_str).collect();
        query.push(" AND project = ANY(").push_bind(names).push(")");
    }
    let wanted = [
        ("pipeline", pipeline.as_ref().map(Name::as_str)),
        ("sha", sha.as_ref().map(|sha| sha.as_str())),
    ];
    for (column, value) in wanted {
        if let Some(value) = value {
            query.push(format_args!(" AND {column} = ")).push_bind(value);
        }
    }
    if let Some(group) = group {
        query.push(" AND group_key = ").push_bind(to_column(group));
    }
    if *active {
        query.push(" AND outcome IS NULL AND quarantined IS NULL");
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    let found = all(readers, query.build()).await?;
    Ok(rows::readable(&found, "run", "id", rows::summary))
}

pub(super) async fn effects(
    readers: &PgPool,
    after: Option<u64>,
    limit: u32,
) -> Result<Vec<StoredEffect>, StoreError> {
    let query = sqlx::query(
        "SELECT effects.sequence, effects.run, effects.body FROM effects JOIN runs ON runs.id = effects.run \
         WHERE effects.sequence > $1 AND runs.quarantined IS NULL ORDER BY effects.sequence LIMIT $2",
    )
    .bind(after.map_or(0, to_i64))
    .bind(i64::from(limit));
    let found = all(readers, query).await?;
    Ok(rows::readable(&found, "effect", "sequence", rows::effect))
}
