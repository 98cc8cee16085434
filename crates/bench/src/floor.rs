//! The floor of the webhook row: axum and a group commit, and nothing between them.

use std::{fs, io::Write as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use sqlx::{
    ConnectOptions as _, PgConnection, Postgres, QueryBuilder, Sqlite, SqliteConnection,
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

const BATCH: usize = 256;
const QUEUE: usize = 1_024;

struct Row {
    id: String,
    body: Bytes,
    stored: oneshot::Sender<()>,
}

/// Where rows go.
enum Table {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Serves until it is killed, over a file of this folder or over a Postgres database.
pub(crate) fn serve(folder: &Path, database: Option<&str>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async {
        fs::create_dir_all(folder).context("make a folder")?;
        let table = match database {
            None => Table::Sqlite(open(&folder.join("floor.db")).await?),
            Some(address) => Table::Postgres(open_postgres(address).await?),
        };
        let (sender, rows) = mpsc::channel(QUEUE);
        tokio::spawn(write(table, rows));
        let router = Router::new()
            .route("/hooks/floor", post(receive))
            .with_state(Arc::new(sender));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr().context("listen")?;
        writeln!(std::io::stderr(), "http://{address}/hooks/floor").context("tell the address")?;
        axum::serve(listener, router).await.context("serve")
    })
}

async fn receive(
    State(rows): State<Arc<mpsc::Sender<Row>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let id = headers.get("x-gitea-delivery").and_then(|id| id.to_str().ok());
    let (stored, done) = oneshot::channel();
    let row = Row {
        id: id.unwrap_or_default().to_owned(),
        body,
        stored,
    };
    if rows.send(row).await.is_ok() && done.await.is_ok() {
        (StatusCode::ACCEPTED, "{}")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "{}")
    }
}

async fn open(path: &Path) -> Result<SqliteConnection> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "4000")
        .disable_statement_logging()
        .connect()
        .await?;
    sqlx::query("CREATE TABLE deliveries (id INTEGER PRIMARY KEY, forge_id TEXT UNIQUE, body BLOB)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn open_postgres(address: &str) -> Result<PgConnection> {
    let options: PgConnectOptions = address.parse()?;
    let mut connection = options.disable_statement_logging().connect().await?;
    sqlx::query("CREATE TABLE floor (id BIGSERIAL PRIMARY KEY, forge_id TEXT UNIQUE, body BYTEA)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn write(mut table: Table, mut rows: mpsc::Receiver<Row>) {
    let mut batch = Vec::with_capacity(BATCH);
    while rows.recv_many(&mut batch, BATCH).await > 0 {
        // Callers that were answered just now ask again within a turn: more of them share a sync.
        loop {
            let held = batch.len();
            tokio::task::yield_now().await;
            while batch.len() < BATCH
                && let Ok(row) = rows.try_recv()
            {
                batch.push(row);
            }
            if batch.len() == held {
                break;
            }
        }
        let inserted = match &mut table {
            Table::Sqlite(connection) => insert(connection, &batch).await,
            Table::Postgres(connection) => insert_into_postgres(connection, &batch).await,
        };
        if inserted.is_ok() {
            for row in batch.drain(..) {
                // A client that went away is not told.
                let _ = row.stored.send(());
            }
        }
        batch.clear();
    }
}

async fn insert(connection: &mut SqliteConnection, batch: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO deliveries (forge_id, body) ");
    insert.push_values(batch, |mut values, row| {
        values.push_bind(row.id.clone()).push_bind(row.body.to_vec());
    });
    insert.build().execute(&mut *connection).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

async fn insert_into_postgres(connection: &mut PgConnection, batch: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query("BEGIN").execute(&mut *connection).await?;
    let mut insert = QueryBuilder::<Postgres>::new("INSERT INTO floor (forge_id, body) ");
    insert.push_values(batch, |mut values, row| {
        values.push_bind(row.id.clone()).push_bind(row.body.to_vec());
    });
    insert.build().execute(&mut *connection).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}
