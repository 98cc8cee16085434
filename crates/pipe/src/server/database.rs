//! The database of a server, of either kind.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use pipekeeper_store::{
    ConnectError, Estates, Lease, OpenError, PostgresStore, PostgresUrl, Registry, SqliteStore, Store,
};

use crate::{
    config::Database,
    failure::{Failure, chain},
    term,
};

/// The SQLite database of a data folder.
pub(crate) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("pipekeeper.db")
}

/// One database, for all that it is used for.
pub(crate) struct Opened {
    /// Runs and what belongs to them.
    pub(crate) store: Arc<dyn Store>,
    /// What ended runs left.
    pub(crate) estates: Arc<dyn Estates>,
    /// What people configure, and who they are.
    pub(crate) registry: Arc<dyn Registry>,
    /// Who performs, where other servers may have it too.
    pub(crate) lease: Option<Arc<dyn Lease>>,
}

/// Opens the database and migrates it.
pub(crate) async fn open(data_dir: &Path, database: &Database) -> Result<Opened, Failure> {
    match database {
        Database::Sqlite => {
            let store = Arc::new(open_sqlite(data_dir).await?);
            Ok(Opened {
                store: Arc::clone(&store) as Arc<dyn Store>,
                estates: Arc::clone(&store) as Arc<dyn Estates>,
                registry: store,
                lease: None,
            })
        }
        Database::Postgres(url) => {
            let store = open_postgres(url).await?;
            let store = Arc::new(store);
            Ok(Opened {
                store: Arc::clone(&store) as Arc<dyn Store>,
                estates: Arc::clone(&store) as Arc<dyn Estates>,
                registry: Arc::clone(&store) as Arc<dyn Registry>,
                lease: Some(store),
            })
        }
    }
}

/// Set for a server that has begun anew since another one performs: its database was in use a moment ago.
pub(crate) const BEGUN_ANEW: &str = "PIPE_BEGUN_ANEW";
/// How long such a server waits for its database.
const PATIENCE: Duration = Duration::from_mins(10);

async fn open_postgres(url: &PostgresUrl) -> Result<PostgresStore, Failure> {
    let since = Instant::now();
    loop {
        let error = match PostgresStore::open(url).await {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        let is_away = matches!(error, ConnectError::Database { .. } | ConnectError::Silent { .. });
        if !is_away || env::var_os(BEGUN_ANEW).is_none() || since.elapsed() > PATIENCE {
            return Err(Failure::usage(format!("failed to {}", chain(&error))));
        }
        term::note(format_args!(
            "waits for its database: failed to {}",
            chain(&error)
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;
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
