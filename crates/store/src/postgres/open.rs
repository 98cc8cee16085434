//! Opening the database: what it must be, the migrations, the pools.

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    migrate::{MigrateError, Migrator},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::writer::{self, BATCH};

use super::{
    PostgresStore, PostgresUrl,
    pool::{self, Access},
    writer::Writer,
};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// Connections that read at the same time.
const READERS: u32 = 8;
/// The writer uses one; were that lost on its way back, the other would go on.
const WRITERS: u32 = 2;
/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// A database cannot be used.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// It cannot be reached, or does not let us in.
    #[error("open the database `{url}`")]
    Database {
        /// The database.
        url: PostgresUrl,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// It does not answer.
    #[error("open the database `{url}`: it does not answer")]
    Silent {
        /// The database.
        url: PostgresUrl,
    },
    /// It cannot keep every text.
    #[error("open the database `{url}`: its encoding is {encoding}; make one with `ENCODING 'UTF8'`")]
    Encoding {
        /// The database.
        url: PostgresUrl,
        /// Its encoding.
        encoding: String,
    },
    /// A newer release migrated it.
    #[error("open the database `{url}`: a newer release migrated it (step {step} is unknown here)")]
    Newer {
        /// The database.
        url: PostgresUrl,
        /// The first unknown migration.
        step: i64,
    },
    /// It cannot be migrated.
    #[error("migrate the database `{url}`")]
    Migrate {
        /// The database.
        url: PostgresUrl,
        /// Why not.
        #[source]
        source: MigrateError,
    },
}

impl PostgresStore {
    /// Opens the database, migrates it and starts its writer on the current runtime. Several servers may do so.
    pub async fn open(url: &PostgresUrl) -> Result<Self, ConnectError> {
        migrate(url, connect(url).await?).await?;
        Ok(Self::serve(url))
    }

    fn serve(url: &PostgresUrl) -> Self {
        let pool = |size, access| pool::pool(url.options(), size, access);
        let (jobs, queue) = mpsc::channel(4 * BATCH);
        // Two servers of the same number would not hear each other, and still look at everything now and then.
        let origin = getrandom::u64().unwrap_or_default();
        tokio::spawn(writer::run(
            Writer::new(pool(WRITERS, Access::Write), origin),
            queue,
        ));
        Self {
            readers: pool(READERS, Access::Read),
            listening: pool(1, Access::Read),
            jobs,
            epoch: None,
            origin,
        }
    }
}

/// Whether there is nothing at all in the database.
pub async fn is_empty(url: &PostgresUrl) -> Result<bool, ConnectError> {
    let mut connection = connect(url).await?;
    sqlx::query_scalar(
        "SELECT NOT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = current_schema())",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(|source| ConnectError::Database {
        url: url.clone(),
        source,
    })
}

/// A connection of its own, without the limits of those that serve.
pub(crate) async fn connect(url: &PostgresUrl) -> Result<PgConnection, ConnectError> {
    let failed = |source| ConnectError::Database {
        url: url.clone(),
        source,
    };
    let options = url.options().disable_statement_logging();
    let connecting = tokio::time::timeout(CONNECT, options.connect()).await;
    let mut connection = connecting
        .map_err(|_| ConnectError::Silent { url: url.clone() })?
        .map_err(failed)?;
    connection
        .execute("SET client_min_messages = warning")
        .await
        .map_err(failed)?;
    let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if encoding == "UTF8" {
        Ok(connection)
    } else {
        Err(ConnectError::Encoding {
            url: url.clone(),
            encoding,
        })
    }
}

/// Migrates under an advisory lock, so that of several servers that start at once one does it and the others wait.
async fn migrate(url: &PostgresUrl, mut connection: PgConnection) -> Result<(), ConnectError> {
    let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
    let url = url.clone();
    match migrated {
        Ok(()) => connection
            .close()
            .await
            .map_err(|source| ConnectError::Database { url, source }),
        Err(MigrateError::VersionMissing(step)) => Err(ConnectError::Newer { url, step }),
        Err(source) => Err(ConnectError::Migrate { url, source }),
    }
}
