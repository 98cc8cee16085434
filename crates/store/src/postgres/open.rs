//! Opening the database: what it must be, the migrations, the pools.

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    migrate::{MigrateError, Migrator},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    Store as _,
    writer::{self, BATCH},
};

use super::{
    PostgresStore, PostgresUrl,
    pool::{self, Access},
    tenure::Tenure,
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
    /// Another server has it.
    #[error("open the database `{url}`: another server has it")]
    InUse {
        /// The database.
        url: PostgresUrl,
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
    /// Opens the database, migrates it and starts its writer on the current runtime.
    pub async fn open(url: &PostgresUrl) -> Result<Self, ConnectError> {
        migrate(url, connect(url).await?).await?;
        Ok(Self::serve(url, None))
    }

    /// The same for a server, of which a database has one: a second one is refused, and one that lost the database to
    /// another writes nothing more.
    pub async fn open_alone(url: &PostgresUrl) -> Result<Self, ConnectError> {
        migrate(url, connect(url).await?).await?;
        let failed = |source| ConnectError::Database {
            url: url.clone(),
            source,
        };
        let taking = tokio::time::timeout(CONNECT, Tenure::take(url.options())).await;
        let taken = taking.map_err(|_| ConnectError::Silent { url: url.clone() })?;
        let Some(tenure) = taken.map_err(failed)? else {
            return Err(ConnectError::InUse { url: url.clone() });
        };
        let store = Self::serve(url, Some(tenure));
        // Whatever the server before this one was just writing is there from now on, or never will be.
        let waited = store.check().await;
        waited.map_err(|error| failed(sqlx::Error::Io(std::io::Error::other(error))))?;
        Ok(store)
    }

    fn serve(url: &PostgresUrl, tenure: Option<Tenure>) -> Self {
        let readers = pool::pool(url.options(), READERS, Access::Read);
        let writers = pool::pool(url.options(), WRITERS, Access::Write);
        let (jobs, queue) = mpsc::channel(4 * BATCH);
        tokio::spawn(writer::run(Writer::new(writers, tenure), queue));
        Self { readers, jobs }
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
