//! Writing runs, their events, snapshots and effects, inside the writer's transaction.

use pipekeeper_engine::{EVENT_VERSION, EffectKey};
use sqlx::{Row as _, SqliteConnection};

use crate::{
    CommitError,
    job::{PreparedCommit, Quarantine, Success},
    rows::{encode_json, ref_columns, to_i64},
};

use super::deliveries;

/// Writes all commits, or none if one of them is refused.
pub(super) async fn commit_all(
    connection: &mut SqliteConnection,
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

async fn check(
    connection: &mut SqliteConnection,
    commit: &PreparedCommit,
) -> Result<Result<(), CommitError>, sqlx::Error> {
    let run = commit.summary.id.0;
    let delivery = commit.delivery.as_ref().map(|settlement| settlement.delivery.0);
    let row = sqlx::query(
        "SELECT (SELECT version FROM runs WHERE id = ?1) AS version, \
         (SELECT outcome FROM runs WHERE id = ?1) AS outcome, \
         coalesce((SELECT max(id) FROM runs), 0) AS newest, \
         EXISTS (SELECT 1 FROM deliveries WHERE id = ?2 AND outcome IS NULL) AS pending",
    )
    .bind(to_i64(run))
    .bind(delivery.map(to_i64))
    .fetch_one(connection)
    .await?;
    let version: Option<i64> = row.try_get("version")?;
    let outcome: Option<String> = row.try_get("outcome")?;
    let at_version = match version {
        Some(version) => commit.expected > 0 && commit.expected == version,
        None => commit.expected == 0 && row.try_get::<i64, _>("newest")? < to_i64(run),
    };
    if !at_version {
        let expected = commit.expected.unsigned_abs();
        return Ok(Err(CommitError::Conflict { run, expected }));
    }
    let keeps_outcome = outcome.as_deref() == commit.summary.outcome.map(|outcome| outcome.as_str());
    if outcome.is_some() && (commit.version > commit.expected || !keeps_outcome) {
        return Ok(Err(CommitError::Finished { run }));
    }
    match delivery {
        Some(delivery) if !row.try_get::<bool, _>("pending")? => {
            Ok(Err(CommitError::NotPending { delivery }))
        }
        Some(_) | None => Ok(Ok(())),
    }
}

/// What every commit does, in one step to SQLite's thread and back; the values are bound in the order of the text. The
/// events come before the run's row: once that tells of the end, the database takes no more of them.
const APPEND: &str = "\
    INSERT INTO events (run, sequence, version, body) \
    SELECT ?, ? + 1 + key, ?, value FROM json_each(?); \
    UPDATE runs SET version = ?, finished_at = ?, outcome = ?, phase = ?, needs_person = ?, \
    next_deadline = ? WHERE id = ?; \
    DELETE FROM effects WHERE key IN (SELECT value FROM json_each(?)); \
    INSERT INTO effects (key, run, body) \
    SELECT value ->> 'key', ?, value -> 'body' FROM json_each(?) WHERE true ORDER BY json_each.key \
    ON CONFLICT (key) DO NOTHING";

async fn write(connection: &mut SqliteConnection, commit: &PreparedCommit) -> Result<(), sqlx::Error> {
    if commit.expected == 0 {
        insert_run(connection, commit).await?;
    }
    let summary = &commit.summary;
    sqlx::query(APPEND)
        .bind(to_i64(summary.id.0))
        .bind(commit.expected)
        .bind(i64::from(EVENT_VERSION))
        .bind(commit.events.as_str())
        .bind(commit.version)
        .bind(summary.finished_at.map(|at| at.0))
        .bind(summary.outcome.map(|outcome| outcome.as_str()))
        .bind(summary.phase.as_str())
        .bind(summary.needs_person)
        .bind(summary.next_deadline.map(|at| at.0))
        .bind(to_i64(summary.id.0))
        .bind(commit.settled.as_str())
        .bind(to_i64(summary.id.0))
        .bind(commit.effects.as_str())
        .execute(&mut *connection)
        .await?;
    if let Some(snapshot) = &commit.snapshot {
        sqlx::query(
            "INSERT INTO snapshots (run, version, body) VALUES (?, ?, ?) \
             ON CONFLICT (run) DO UPDATE SET version = excluded.version, body = excluded.body",
        )
        .bind(to_i64(summary.id.0))
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

/// The columns that say what the run is; how far it is comes with its first events.
async fn insert_run(connection: &mut SqliteConnection, commit: &PreparedCommit) -> Result<(), sqlx::Error> {
    let summary = &commit.summary;
    let git_ref = summary.git_ref.as_ref().map(ref_columns);
    sqlx::query(
        "INSERT INTO runs (id, version, project, pipeline, event, ref_kind, ref_name, sha, subject, actor, \
         created_at, phase, needs_person, group_key) \
         VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?)",
    )
    .bind(to_i64(summary.id.0))
    .bind(summary.project.as_str())
    .bind(summary.pipeline.as_str())
    .bind(summary.event.as_str())
    .bind(git_ref.map(|(kind, _)| kind))
    .bind(git_ref.map(|(_, name)| name))
    .bind(summary.sha.as_ref().map(|sha| sha.as_str()))
    .bind(summary.subject.as_str())
    .bind(commit.actor.as_str())
    .bind(summary.created_at.0)
    .bind(summary.group.as_deref())
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes effects by their keys.
pub(super) async fn settle_effects(
    connection: &mut SqliteConnection,
    keys: &[EffectKey],
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM effects WHERE key IN (SELECT value FROM json_each(?))")
        .bind(encode_json(&keys)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps a success, unless a newer run's is kept.
pub(super) async fn remember(
    connection: &mut SqliteConnection,
    success: &Success,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO successes (inputs, run, body) VALUES (?, ?, ?) \
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
    connection: &mut SqliteConnection,
    quarantine: &Quarantine,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE runs SET quarantined = ? WHERE id = ? AND quarantined IS NULL")
        .bind(quarantine.reason.as_str())
        .bind(to_i64(quarantine.run.0))
        .execute(connection)
        .await?;
    Ok(())
}
