//! What ended runs left: written inside the writer's transaction, read by single statements.

use async_trait::async_trait;
use pipekeeper_model::{Name, RunId, Timestamp};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use crate::{
    Estate, Estates, Loss, Part, StoreError, StoredEstate,
    job::{Job, Tidying},
    rows::{encode_json, loss_column, stored_estate, to_i64, to_u64},
};

use super::{SqliteStore, failure::to_store_error};

#[async_trait]
impl Estates for SqliteStore {
    async fn unfinished(&self) -> Result<Vec<RunId>, StoreError> {
        let query = sqlx::query("SELECT id FROM runs WHERE outcome IS NULL ORDER BY id");
        self.ids(query).await
    }

    async fn without_estate(&self, after: Option<RunId>, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let query = sqlx::query(
            "SELECT id FROM runs WHERE id > ? AND outcome IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM estates WHERE run = runs.id) ORDER BY id LIMIT ?",
        );
        let query = query.bind(after.map_or(0, |after| to_i64(after.0)));
        self.ids(query.bind(i64::from(limit))).await
    }

    async fn keep_estates(&self, estates: Vec<Estate>) -> Result<(), StoreError> {
        self.ask(Job::Tidy, Tidying::Keep(estates)).await.map(|_: u64| ())
    }

    async fn estates(&self, before: Option<RunId>, limit: u32) -> Result<Vec<StoredEstate>, StoreError> {
        let query = sqlx::query(
            "SELECT * FROM runs JOIN estates ON estates.run = runs.id WHERE runs.id < ? \
             ORDER BY runs.id DESC LIMIT ?",
        );
        let query = query.bind(before.map_or(i64::MAX, |before| to_i64(before.0)));
        let found = query.bind(i64::from(limit)).fetch_all(&self.readers).await;
        let found = found.map_err(|error| to_store_error(&error))?;
        // What cannot be read must not be taken for what nobody wants.
        let read = |row| stored_estate(row).map_err(|error| error.into_corrupt("an estate".to_owned()));
        found.iter().map(read).collect()
    }

    async fn estate(&self, run: RunId) -> Result<Option<StoredEstate>, StoreError> {
        let query = sqlx::query("SELECT * FROM runs JOIN estates ON estates.run = runs.id WHERE runs.id = ?");
        let found = query.bind(to_i64(run.0)).fetch_optional(&self.readers).await;
        let found = found.map_err(|error| to_store_error(&error))?;
        found
            .map(|row| {
                stored_estate(&row).map_err(|error| error.into_corrupt(format!("estate of run {run}")))
            })
            .transpose()
    }

    async fn give_up(&self, losses: Vec<Loss>) -> Result<(), StoreError> {
        self.ask(Job::Tidy, Tidying::GiveUp(losses))
            .await
            .map(|_: u64| ())
    }

    async fn remove_runs(&self, runs: Vec<RunId>) -> Result<u64, StoreError> {
        self.ask(Job::Tidy, Tidying::Runs(runs)).await
    }

    async fn remove_deliveries(
        &self,
        project: &Name,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let project = project.clone();
        let old = Tidying::Deliveries {
            project,
            before,
            limit,
        };
        self.ask(Job::Tidy, old).await
    }
}

impl SqliteStore {
    async fn ids(&self, query: Query<'_, Sqlite, SqliteArguments>) -> Result<Vec<RunId>, StoreError> {
        let found = query.fetch_all(&self.readers).await;
        let found = found.map_err(|error| to_store_error(&error))?;
        let ids = found.iter().map(|row| Ok(RunId(to_u64(row.try_get("id")?))));
        ids.collect::<Result<_, _>>()
            .map_err(|error: sqlx::Error| to_store_error(&error))
    }
}

/// Whether nobody keeps the run of an estate; somebody may have begun to while it was judged.
const UNKEPT: &str =
    "NOT EXISTS (SELECT 1 FROM records WHERE kind = 'kept_run' AND name = CAST(estates.run AS TEXT))";

/// Does it; how many rows of runs or deliveries went.
pub(super) async fn tidy(connection: &mut SqliteConnection, what: &Tidying) -> Result<u64, sqlx::Error> {
    match what {
        Tidying::Keep(estates) => keep(connection, estates).await.map(|()| 0),
        Tidying::GiveUp(losses) => give_up(connection, losses).await.map(|()| 0),
        Tidying::Runs(runs) => remove_runs(connection, runs).await,
        Tidying::Deliveries {
            project,
            before,
            limit,
        } => remove_deliveries(connection, project, *before, *limit).await,
    }
}

async fn keep(connection: &mut SqliteConnection, estates: &[Estate]) -> Result<(), sqlx::Error> {
    for estate in estates {
        // A run that is gone leaves nothing any more.
        sqlx::query(
            "INSERT INTO estates (run, body) SELECT id, ? FROM runs WHERE id = ? AND outcome IS NOT NULL \
             ON CONFLICT (run) DO NOTHING",
        )
        .bind(encode_json(&estate.left)?)
        .bind(to_i64(estate.run.0))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn give_up(connection: &mut SqliteConnection, losses: &[Loss]) -> Result<(), sqlx::Error> {
    for loss in losses {
        let (column, run) = (loss_column(loss.part), to_i64(loss.run.0));
        let update =
            format!("UPDATE estates SET {column} = ? WHERE run = ? AND {column} IS NULL AND {UNKEPT}");
        let given_up = sqlx::query(AssertSqlSafe(update))
            .bind(encode_json(&loss.gone)?)
            .bind(run)
            .execute(&mut *connection)
            .await?
            .rows_affected();
        if given_up == 0 {
            continue;
        }
        match loss.part {
            Part::Artifacts => {
                sqlx::query("DELETE FROM successes WHERE run = ?")
                    .bind(run)
                    .execute(&mut *connection)
                    .await?;
            }
            Part::Logs => {}
        }
    }
    Ok(())
}

async fn remove_runs(connection: &mut SqliteConnection, runs: &[RunId]) -> Result<u64, sqlx::Error> {
    let found = sqlx::query_scalar::<_, i64>(
        "SELECT id FROM runs WHERE id IN (SELECT value FROM json_each(?)) AND outcome IS NOT NULL \
         AND id < (SELECT max(id) FROM runs) AND NOT EXISTS (SELECT 1 FROM effects WHERE run = runs.id) AND NOT EXISTS \
         (SELECT 1 FROM records WHERE kind = 'kept_run' AND name = CAST(runs.id AS TEXT))",
    )
    .bind(encode_json(&runs)?)
    .fetch_all(&mut *connection)
    .await?;
    let ids = encode_json(&found)?;
    let parts = [
        ("events", "run"),
        ("snapshots", "run"),
        ("successes", "run"),
        ("estates", "run"),
        ("runs", "id"),
    ];
    for (table, column) in parts {
        let delete = format!("DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))");
        sqlx::query(AssertSqlSafe(delete))
            .bind(ids.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}

async fn remove_deliveries(
    connection: &mut SqliteConnection,
    project: &Name,
    before: Timestamp,
    limit: u32,
) -> Result<u64, sqlx::Error> {
    let found = sqlx::query_scalar::<_, i64>(
        "SELECT id FROM deliveries WHERE project = ? AND outcome IS NOT NULL AND received_at < ? \
         AND NOT EXISTS (SELECT 1 FROM ref_moves AS last WHERE last.delivery = deliveries.id \
         AND NOT EXISTS (SELECT 1 FROM ref_moves AS later WHERE later.project = last.project \
         AND later.ref_kind = last.ref_kind AND later.ref_name = last.ref_name AND later.id > last.id)) \
         ORDER BY id LIMIT ?",
    )
    .bind(project.as_str())
    .bind(before.0)
    .bind(i64::from(limit))
    .fetch_all(&mut *connection)
    .await?;
    let ids = encode_json(&found)?;
    for (table, column) in [("ref_moves", "delivery"), ("deliveries", "id")] {
        let delete = format!("DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))");
        sqlx::query(AssertSqlSafe(delete))
            .bind(ids.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(u64::try_from(found.len()).unwrap_or(u64::MAX))
}
