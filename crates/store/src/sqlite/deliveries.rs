//! Writing deliveries, refusals and the ledger of refs, inside the writer's transaction.

use std::{collections::HashMap, sync::LazyLock};

use sqlx::{Row as _, SqliteConnection};

use crate::{
    Accepted, DeliveryId, DeliverySettlement, NewDelivery, RefMove, Refusal,
    job::Ask,
    records::REFUSALS_KEPT,
    rows::{encode_json, ref_columns, sha_column, to_i64, to_u64},
};

/// The most rows in one statement.
const WIDE: usize = 32;

/// One statement for each number of rows: a step to SQLite's thread and back costs more than a row.
static INSERTS: LazyLock<Vec<String>> = LazyLock::new(|| (1..=WIDE).map(insert_text).collect());

fn insert_text(rows: usize) -> String {
    format!(
        "INSERT INTO deliveries (project, forge_id, event, received_at, body) VALUES {} \
         ON CONFLICT (project, forge_id) DO NOTHING RETURNING id, project, forge_id",
        vec!["(?, ?, ?, ?, ?)"; rows].join(", ")
    )
}

/// Stores the deliveries that are not known yet and answers for each.
pub(super) async fn accept(
    connection: &mut SqliteConnection,
    asks: &mut [&mut Ask<NewDelivery, Accepted>],
) -> Result<(), sqlx::Error> {
    let mut stored = HashMap::new();
    for chunk in asks.chunks(WIDE) {
        if let Some(text) = INSERTS.get(chunk.len() - 1) {
            insert(connection, text, chunk, &mut stored).await?;
        }
    }
    for ask in asks {
        let key = (ask.body.project.as_str(), ask.body.forge_id.as_str());
        // The first of several copies in one batch is the one that was stored.
        let accepted = match stored.remove(&(key.0.to_owned(), key.1.to_owned())) {
            Some(id) => Accepted::New(DeliveryId(id)),
            None => Accepted::Duplicate(find(connection, key.0, key.1).await?),
        };
        ask.answer(accepted);
    }
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    text: &'static str,
    asks: &[&mut Ask<NewDelivery, Accepted>],
    stored: &mut HashMap<(String, String), u64>,
) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query(text);
    for ask in asks {
        let delivery = &ask.body;
        query = query
            .bind(delivery.project.as_str())
            .bind(delivery.forge_id.as_str())
            .bind(delivery.event.as_str())
            .bind(delivery.received_at.0)
            .bind(delivery.body.as_slice());
    }
    for row in query.fetch_all(connection).await? {
        let key = (row.try_get("project")?, row.try_get("forge_id")?);
        stored.insert(key, to_u64(row.try_get("id")?));
    }
    Ok(())
}

async fn find(
    connection: &mut SqliteConnection,
    project: &str,
    forge_id: &str,
) -> Result<DeliveryId, sqlx::Error> {
    let row = sqlx::query("SELECT id FROM deliveries WHERE project = ? AND forge_id = ?")
        .bind(project)
        .bind(forge_id)
        .fetch_one(connection)
        .await?;
    Ok(DeliveryId(to_u64(row.try_get("id")?)))
}

/// Notes a refusal and forgets the oldest.
pub(super) async fn refuse(connection: &mut SqliteConnection, refusal: &Refusal) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO refusals (project, at, reason) VALUES (?, ?, ?)")
        .bind(refusal.project.as_str())
        .bind(refusal.at.0)
        .bind(refusal.reason.as_str())
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "DELETE FROM refusals WHERE project = ?1 AND id <= \
         (SELECT id FROM refusals WHERE project = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(refusal.project.as_str())
    .bind(i64::try_from(REFUSALS_KEPT).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// Settles a delivery unless it is settled already, with its entry in the ledger.
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    settlement: &DeliverySettlement,
) -> Result<(), sqlx::Error> {
    let outcome = encode_json(&settlement.outcome)?;
    let settled = sqlx::query("UPDATE deliveries SET outcome = ? WHERE id = ? AND outcome IS NULL")
        .bind(outcome)
        .bind(to_i64(settlement.delivery.0))
        .execute(&mut *connection)
        .await?
        .rows_affected();
    match &settlement.moved {
        Some(moved) if settled == 1 => enter_move(connection, settlement.delivery, moved).await,
        Some(_) | None => Ok(()),
    }
}

async fn enter_move(
    connection: &mut SqliteConnection,
    delivery: DeliveryId,
    moved: &RefMove,
) -> Result<(), sqlx::Error> {
    let (kind, name) = ref_columns(&moved.git_ref);
    sqlx::query(
        "INSERT INTO ref_moves (delivery, project, ref_kind, ref_name, old_sha, new_sha) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(to_i64(delivery.0))
    .bind(moved.project.as_str())
    .bind(kind)
    .bind(name)
    .bind(sha_column(moved.before.as_ref()))
    .bind(sha_column(moved.after.as_ref()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a delivery's outcome and ledger entries back.
pub(super) async fn reopen(connection: &mut SqliteConnection, id: DeliveryId) -> Result<bool, sqlx::Error> {
    let id = to_i64(id.0);
    let reopened = sqlx::query(
        "UPDATE deliveries SET outcome = NULL, reopened = reopened + 1 WHERE id = ? AND outcome IS NOT NULL",
    )
    .bind(id)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if reopened == 1 {
        sqlx::query("DELETE FROM ref_moves WHERE delivery = ?")
            .bind(id)
            .execute(connection)
            .await?;
    }
    Ok(reopened == 1)
}
