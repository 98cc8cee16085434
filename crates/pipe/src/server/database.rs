//! The database of a server, of either kind.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pipekeeper_store::{ConnectError, OpenError, PostgresStore, PostgresUrl, Registry, SqliteStore, Store};

use crate::{
    config::Database,
    failure::{Failure, chain},
};

/// The SQLite database of a data folder.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("pipekeeper.db")
}

/// One database, for both that it is used for.
pub(crate) struct Opened {
    /// Runs and what belongs to them.
    pub(crate) store: Arc<dyn Store>,
    /// What people configure, and who they are.
    pub(crate) registry: Arc<dyn Registry>,
}

impl<S: Store + Registry + 'static> From<S> for Opened {
    fn from(store: S) -> Self {
        let store = Arc::new(store);
        Self {
            store: Arc::clone(&store) as Arc<dyn Store>,
            registry: store,
        }
    }
}

/// Opens the database and migrates it.
pub(crate) async fn open(data_dir: &Path, database: &Database) -> Result<Opened, Failure> {
    match database {
        Database::Sqlite => Ok(open_sqlite(data_dir).await?.into()),
        Database::Postgres(url) => Ok(open_postgres(url).await?.into()),
    }
}

/// Opens the SQLite database of a data folder and migrates it.
pub(crate) async fn open_sqlite(data_dir: &Path) -> Result<SqliteStore, Failure> {
    SqliteStore::open(file(data_dir)).await.map_err(|error| {
        let failure = Failure::usage(format!("failed to {}", chain(&error)));
        match error {
            OpenError::InUse { .. } => {
                failure.hint("one server has a data folder at a time; choose another with `--data-dir`")
            }
            OpenError::Lock { .. }
            | OpenError::NetworkFileSystem { .. }
            | OpenError::Newer { .. }
            | OpenError::Migrate { .. }
            | OpenError::Database { .. }
            | OpenError::NoWriteAheadLog { .. } => failure,
        }
    })
}

async fn open_postgres(url: &PostgresUrl) -> Result<PostgresStore, Failure> {
    PostgresStore::open_alone(url).await.map_err(|error| {
        let failure = Failure::usage(format!("failed to {}", chain(&error)));
        match error {
            ConnectError::InUse { .. } => failure
                .hint("stop the other one first; one whose machine vanished is forgotten within a minute"),
            ConnectError::Database { .. }
            | ConnectError::Silent { .. }
            | ConnectError::Encoding { .. }
            | ConnectError::Newer { .. }
            | ConnectError::Migrate { .. } => failure,
        }
    })
}
