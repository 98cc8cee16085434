//! Writing runs, their events, snapshots and effects, inside the writer's transaction.

use pipekeeper_engine::{EVENT_VERSION, EffectKey};
use sqlx::{PgConnection, Row as _};

use crate::{
    CommitError,
    job::{PreparedCommit, Quarantine, Success},
    rows::{encode_json, ref_columns, to_i64},
};

use super::{deliveries, text::to_column};

/// Writes all commits, or none if one of them is refused.
pub(super) async fn commit_all(
    connection: &mut PgConnection,
    commits: &[PreparedCommit],
) -> Result<Result<(), CommitError>, sqlx::Error> {
    for commit in commits {
        if let Err(refused) = check(connection, commit).await? {
            return Ok(Err(refused));
        }
    }
    for commit in commits {
        write(connection, commit).await?;
    }
    Ok(Ok(()))
}

/// Compares, and keeps what was compared as it is until the transaction ends: the writing lock keeps other servers away, and
/// the row's own lock everybody else.
async fn check(
    connection: &mut PgConnection,
    commit: &PreparedCommit,
) -> Result<Result<(), CommitError>, sqlx::Error> {
    let run = commit.summary.id.0;
    let row = sqlx::query("SELECT version, outcome FROM runs WHERE id = $1 FOR UPDATE")
        .bind(to_i64(run))
        .fetch_optional(&mut *connection)
        .await?;
    let (at_version, outcome) = match &row {
        Some(row) => {
            let version: i64 = row.try_get("version")?;
            let at_version = commit.expected > 0 && commit.expected == version;
            (at_version, row.try_get::<Option<String>, _>("outcome")?)
        }
        None => (commit.expected == 0 && is_newest(connection, run).await?, None),
    };
    if !at_version {
        let expected = commit.expected.unsigned_abs();
        return Ok(Err(CommitError::Conflict { run, expected }));
    }
    let keeps_outcome = outcome.as_deref() == commit.summary.outcome.map(|outcome| outcome.as_str());
    if outcome.is_some() && (commit.version > commit.expected || !keeps_outcome) {
        return Ok(Err(CommitError::Finished { run }));
    }
    let Some(settlement) = &commit.delivery else {
        return Ok(Ok(()));
    };
    let delivery = settlement.delivery.0;
    let pending = sqlx::query("SELECT 1 FROM deliveries WHERE id = $1 AND outcome IS NULL FOR UPDATE")
        .bind(to_i64(delivery))
        .fetch_optional(connection)
        .await?;
    Ok(pending.map(|_| ()).ok_or(CommitError::NotPending { delivery }))
}

/// Whether no run has a greater number.
async fn is_newest(connection: &mut PgConnection, run: u64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM runs WHERE id > $1)")
        .bind(to_i64(run))
        .fetch_one(connection)
        .await
}

async fn write(connection: &mut PgConnection, commit: &PreparedCommit) -> Result<(), sqlx::Error> {
    if commit.expected == 0 {
        insert_run(connection, commit).await?;
    }
    append(connection, commit).await?;
    if let Some(snapshot) = &commit.snapshot {
        sqlx::query(
            "INSERT INTO snapshots (run, version, body) VALUES ($1, $2, $3) \
             ON CONFLICT (run) DO UPDATE SET version = excluded.version, body = excluded.body",
        )
        .bind(to_i64(commit.summary.id.0))
        .bind(commit.version)
        .bind(snapshot.as_str())
        .execute(&mut *connection)
        .await?;
    }
    match &commit.delivery {
        Some(settlement) => deliveries::settle(connection, settlement).await,
        None => Ok(()),
    }
}

/// What every commit does. The events come before the run's row: once that tells of the end, the database takes no more of
/// them. What was settled goes before what is new, since its key may come again.
async fn append(connection: &mut PgConnection, commit: &PreparedCommit) -> Result<(), sqlx::Error> {
    let summary = &commit.summary;
    let run = to_i64(summary.id.0);
    if commit.version > commit.expected {
        // The values of a `json` keep their text, every escape in it too.
        sqlx::query(
            "INSERT INTO events (run, sequence, version, body) \
             SELECT $1::bigint, $2::bigint + place, $3::bigint, value::text \
             FROM json_array_elements($4::json) WITH ORDINALITY AS listed (value, place)",
        )
        .bind(run)
        .bind(commit.expected)
        .bind(i64::from(EVENT_VERSION))
        .bind(commit.events.as_str())
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query(
        "WITH settled AS (DELETE FROM effects WHERE key IN (SELECT json_array_elements_text($1::json))) \
         UPDATE runs SET version = $2, finished_at = $3, outcome = $4, phase = $5, needs_person = $6, \
         next_deadline = $7 WHERE id = $8",
    )
    .bind(commit.settled.as_str())
    .bind(commit.version)
    .bind(summary.finished_at.map(|at| at.0))
    .bind(summary.outcome.map(|outcome| outcome.as_str()))
    .bind(to_column(&summary.phase))
    .bind(summary.needs_person)
    .bind(summary.next_deadline.map(|at| at.0))
    .bind(run)
    .execute(&mut *connection)
    .await?;
    if commit.effects == "[]" {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO effects (key, run, body) SELECT value ->> 'key', $1::bigint, (value -> 'body')::text \
         FROM json_array_elements($2::json) WITH ORDINALITY AS listed (value, place) ORDER BY place \
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(run)
    .bind(commit.effects.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// The columns that say what the run is; how far it is comes with its first events.
async fn insert_run(connection: &mut PgConnection, commit: &PreparedCommit) -> Result<(), sqlx::Error> {
    let summary = &commit.summary;
    let git_ref = summary.git_ref.as_ref().map(ref_columns);
    sqlx::query(
        "INSERT INTO runs (id, version, project, pipeline, event, ref_kind, ref_name, sha, subject, actor, \
         created_at, phase, needs_person, group_key) \
         VALUES ($1, 0, $2, $3, $4, $5, $6, $7, $8, $9, $10, '', false, $11)",
    )
    .bind(to_i64(summary.id.0))
    .bind(summary.project.as_str())
    .bind(summary.pipeline.as_str())
    .bind(to_column(&summary.event))
    .bind(git_ref.map(|(kind, _)| kind))
    .bind(git_ref.map(|(_, name)| to_column(name)))
    .bind(summary.sha.as_ref().map(|sha| sha.as_str()))
    .bind(to_column(&summary.subject))
    .bind(commit.actor.as_str())
    .bind(summary.created_at.0)
    .bind(summary.group.as_deref().map(to_column))
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes effects by their keys.
pub(super) async fn settle_effects(
    connection: &mut PgConnection,
    keys: &[EffectKey],
) -> Result<(), sqlx::Error> {
    let keys: Vec<&str> = keys.iter().map(|key| key.0.as_str()).collect();
    sqlx::query("DELETE FROM effects WHERE key = ANY($1)")
        .bind(keys)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps a success, unless a newer run's is kept.
pub(super) async fn remember(connection: &mut PgConnection, success: &Success) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO successes (inputs, run, body) VALUES ($1, $2, $3) \
         ON CONFLICT (inputs) DO UPDATE SET run = excluded.run, body = excluded.body \
         WHERE excluded.run >= successes.run",
    )
    .bind(success.inputs.to_string())
    .bind(to_i64(success.result.attempt.run.0))
    .bind(encode_json(&success.result)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Sets a run aside, keeping the first reason.
pub(super) async fn quarantine(
    connection: &mut PgConnection,
    quarantine: &Quarantine,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET quarantined = $1 WHERE id = $2 AND quarantined IS NULL")
        .bind(to_column(&quarantine.reason))
        .bind(to_i64(quarantine.run.0))
        .execute(connection)
        .await?;
    Ok(())
}
