//! Opening the database: the lock, the settings that make it durable, the migrations.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::writer::{self, BATCH};

use super::{SqliteStore, exclusive, writer::Writer};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long to wait for another program that has the database locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that the log may hold before they are moved into the database.
const CHECKPOINT_PAGES: &str = "4000";
/// Prepared statements that the writer keeps: more than it has.
const STATEMENTS_KEPT: usize = 128;
/// Bytes that the log keeps on disk when it is empty.
const LOG_KEPT: &str = "67108864";

/// A database cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another server has it.
    #[error("open the database `{path}`: {} has it open", holder_words(*holder), path = path.display())]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process id of the other server, if it is known.
        holder: Option<u32>,
    },
    /// The lock beside it cannot be made.
    #[error("lock the database with `{}`", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It lies on a file system of another machine.
    #[error("open the database `{}`: it lies on {kind}, whose locks do not hold; use a local disk", path.display())]
    NetworkFileSystem {
        /// The database.
        path: PathBuf,
        /// The kind of file system.
        kind: &'static str,
    },
    /// A newer release made or migrated it.
    #[error("open the database `{}`: a newer release migrated it (step {step} is unknown here)", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// The first unknown migration.
        step: i64,
    },
    /// It cannot be migrated.
    #[error("migrate the database `{}`", path.display())]
    Migrate {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: MigrateError,
    },
    /// SQLite cannot open it.
    #[error("open the database `{}`", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The file system cannot hold a write-ahead log.
    #[error("open the database `{}`: no write-ahead log can be kept beside it", path.display())]
    NoWriteAheadLog {
        /// The database.
        path: PathBuf,
    },
}

impl SqliteStore {
    /// Opens the database at `path`, makes it if there is none, migrates it and starts its writer on the current runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path.as_ref(), BUSY_TIMEOUT).await
    }

    pub(super) async fn open_with(path: &Path, busy_timeout: Duration) -> Result<Self, OpenError> {
        let exclusive = exclusive::lock(path)?;
        exclusive::refuse_network(path, &exclusive)?;
        let failed = |source| OpenError::Database {
            path: path.to_owned(),
            source,
        };
        let options = writer_options(path, busy_timeout);
        let mut connection = options.connect().await.map_err(failed)?;
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if mode != "wal" {
            return Err(OpenError::NoWriteAheadLog {
                path: path.to_owned(),
            });
        }
        migrate(path, &mut connection).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(reader_options(path, busy_timeout))
            .await
            .map_err(failed)?;
        let (jobs, queue) = mpsc::channel(4 * BATCH);
        tokio::spawn(writer::run(Writer::new(options, connection, exclusive), queue));
        Ok(Self { readers, jobs })
    }
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), OpenError> {
    let migrated = MIGRATIONS.run_direct(None, connection, false).await;
    let path = path.to_owned();
    match migrated {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(step)) => Err(OpenError::Newer { path, step }),
        Err(source) => Err(OpenError::Migrate { path, source }),
    }
}

pub(super) fn writer_options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(busy_timeout)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_KEPT)
        .statement_cache_capacity(STATEMENTS_KEPT)
        .disable_statement_logging()
}

fn reader_options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(busy_timeout)
        .pragma("query_only", "ON")
        .disable_statement_logging()
}

fn holder_words(holder: Option<u32>) -> String {
    match holder {
        Some(pid) => format!("another server (process {pid})"),
        None => "another server".to_owned(),
    }
}
