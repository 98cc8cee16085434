//! Writing deliveries, refusals and the ledger of refs, inside the writer's transaction.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _};

use crate::{
    Accepted, DeliveryId, DeliverySettlement, NewDelivery, RefMove, Refusal,
    job::Ask,
    records::REFUSALS_KEPT,
    rows::{encode_json, ref_columns, sha_column, to_i64, to_u64},
};

use super::text::{from_column, to_column};

/// Stores the deliveries that are not known yet, in one statement, and answers for each.
pub(super) async fn accept(
    connection: &mut PgConnection,
    asks: &mut [&mut Ask<NewDelivery, Accepted>],
) -> Result<(), sqlx::Error> {
    if asks.is_empty() {
        return Ok(());
    }
    let mut stored = insert(connection, asks).await?;
    for ask in asks {
        let (project, forge_id) = (ask.body.project.as_str(), ask.body.forge_id.as_str());
        // The first of several copies in one batch is the one that was stored.
        let accepted = match stored.remove(&(project.to_owned(), forge_id.to_owned())) {
            Some(id) => Accepted::New(DeliveryId(id)),
            None => Accepted::Duplicate(find(connection, project, forge_id).await?),
        };
        ask.answer(accepted);
    }
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    asks: &[&mut Ask<NewDelivery, Accepted>],
) -> Result<HashMap<(String, String), u64>, sqlx::Error> {
    let deliveries = || asks.iter().map(|ask| &ask.body);
    let found = sqlx::query(
        "INSERT INTO deliveries (project, forge_id, event, received_at, body) \
         SELECT project, forge_id, event, received_at, body \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[]) \
         WITH ORDINALITY AS received (project, forge_id, event, received_at, body, place) ORDER BY place \
         ON CONFLICT (project, forge_id) DO NOTHING RETURNING id, project, forge_id",
    )
    .bind(deliveries().map(|one| one.project.as_str()).collect::<Vec<_>>())
    .bind(
        deliveries()
            .map(|one| to_column(&one.forge_id))
            .collect::<Vec<_>>(),
    )
    .bind(deliveries().map(|one| to_column(&one.event)).collect::<Vec<_>>())
    .bind(deliveries().map(|one| one.received_at.0).collect::<Vec<_>>())
    .bind(deliveries().map(|one| one.body.as_slice()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut stored = HashMap::with_capacity(found.len());
    for row in found {
        let forge_id = from_column(row.try_get("forge_id")?).into_owned();
        stored.insert((row.try_get("project")?, forge_id), to_u64(row.try_get("id")?));
    }
    Ok(stored)
}

async fn find(
    connection: &mut PgConnection,
    project: &str,
    forge_id: &str,
) -> Result<DeliveryId, sqlx::Error> {
    let id: i64 = sqlx::query_scalar("SELECT id FROM deliveries WHERE project = $1 AND forge_id = $2")
        .bind(project)
        .bind(to_column(forge_id))
        .fetch_one(connection)
        .await?;
    Ok(DeliveryId(to_u64(id)))
}

/// Notes a refusal and forgets the oldest.
pub(super) async fn refuse(connection: &mut PgConnection, refusal: &Refusal) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO refusals (project, at, reason) VALUES ($1, $2, $3)")
        .bind(refusal.project.as_str())
        .bind(refusal.at.0)
        .bind(to_column(&refusal.reason))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "DELETE FROM refusals WHERE project = $1 AND id <= \
         (SELECT id FROM refusals WHERE project = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(refusal.project.as_str())
    .bind(i64::try_from(REFUSALS_KEPT).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(())
}

/// Settles a delivery unless it is settled already, with its entry in the ledger.
pub(super) async fn settle(
    connection: &mut PgConnection,
    settlement: &DeliverySettlement,
) -> Result<(), sqlx::Error> {
    let settled = sqlx::query("UPDATE deliveries SET outcome = $1 WHERE id = $2 AND outcome IS NULL")
        .bind(encode_json(&settlement.outcome)?)
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
    connection: &mut PgConnection,
    delivery: DeliveryId,
    moved: &RefMove,
) -> Result<(), sqlx::Error> {
    let (kind, name) = ref_columns(&moved.git_ref);
    sqlx::query(
        "INSERT INTO ref_moves (delivery, project, ref_kind, ref_name, old_sha, new_sha) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(to_i64(delivery.0))
    .bind(moved.project.as_str())
    .bind(kind)
    .bind(to_column(name))
    .bind(sha_column(moved.before.as_ref()))
    .bind(sha_column(moved.after.as_ref()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes a delivery's outcome and ledger entries back.
pub(super) async fn reopen(connection: &mut PgConnection, id: DeliveryId) -> Result<bool, sqlx::Error> {
    let id = to_i64(id.0);
    let reopened = sqlx::query(
        "UPDATE deliveries SET outcome = NULL, reopened = reopened + 1 WHERE id = $1 AND outcome IS NOT NULL",
    )
    .bind(id)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if reopened == 1 {
        sqlx::query("DELETE FROM ref_moves WHERE delivery = $1")
            .bind(id)
            .execute(connection)
            .await?;
    }
    Ok(reopened == 1)
}
