//! Backups of an SQLite database: made while a server uses it, put back where there is none.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use thiserror::Error;

use crate::{OpenError, SqliteStore, Store as _};

/// How long to wait for another program that has the database locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// A backup was not made, or not put back.
#[derive(Debug, Error)]
pub enum BackupError {
    /// There is something already.
    #[error("write `{}`: it is there already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("copy `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// SQLite cannot read or write one of them.
    #[error("copy the database `{}`", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The file is damaged.
    #[error("read `{}`: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite found.
        problem: String,
    },
    /// The file is no database of this program, or of a newer release.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Writes a consistent copy of a database to a file that is not there yet. Servers go on meanwhile.
pub async fn back_up_sqlite(database: &Path, file: &Path) -> Result<(), BackupError> {
    refuse_existing(file)?;
    let failed = |source| BackupError::Database {
        path: database.to_owned(),
        source,
    };
    let part = part_of(file);
    remove(&part)?;
    let options = SqliteConnectOptions::new()
        .filename(database)
        .busy_timeout(BUSY_TIMEOUT);
    let options = options.disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    let name = part.to_string_lossy().into_owned();
    let copied = sqlx::query("VACUUM INTO ?")
        .bind(name)
        .execute(&mut connection)
        .await;
    copied.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    put(&part, file)
}

/// Puts a backup where there is no database, after it was found whole; older ones are migrated.
pub async fn restore_sqlite(file: &Path, database: &Path) -> Result<(), BackupError> {
    refuse_existing(database)?;
    let part = part_of(database);
    remove(&part)?;
    fs::copy(file, &part).map_err(|source| BackupError::File {
        path: file.to_owned(),
        source,
    })?;
    let restored = check_and_migrate(file, &part).await;
    // The lock of a database that never was.
    remove(&beside(&part, ".lock"))?;
    match restored {
        Ok(()) => put(&part, database),
        Err(error) => {
            for left in [beside(&part, "-wal"), beside(&part, "-shm"), part] {
                remove(&left)?;
            }
            Err(error)
        }
    }
}

async fn check_and_migrate(file: &Path, part: &Path) -> Result<(), BackupError> {
    let failed = |source| BackupError::Database {
        path: file.to_owned(),
        source,
    };
    let damaged = |problem: String| BackupError::Damaged {
        path: file.to_owned(),
        problem,
    };
    let options = SqliteConnectOptions::new()
        .filename(part)
        .disable_statement_logging();
    let mut connection = options.connect().await.map_err(failed)?;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if whole != "ok" {
        return Err(damaged(whole));
    }
    let ours: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if ours == 0 {
        return Err(damaged("it is no database of this program".to_owned()));
    }
    connection.close().await.map_err(failed)?;
    SqliteStore::open(part).await?.close().await;
    Ok(())
}

fn refuse_existing(path: &Path) -> Result<(), BackupError> {
    // What is left of another database's log would be taken for this one's.
    for beside in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(beside);
        let path = PathBuf::from(name);
        match path.try_exists() {
            Ok(false) => {}
            Ok(true) => return Err(BackupError::Exists { path }),
            Err(source) => return Err(BackupError::File { path, source }),
        }
    }
    Ok(())
}

/// Gives a file that was written its name, for good.
fn put(part: &Path, file: &Path) -> Result<(), BackupError> {
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    };
    let written = File::open(part)
        .and_then(|written| written.sync_all())
        // A second name fails where there is a file by now; a rename would replace it.
        .and_then(|()| fs::hard_link(part, file))
        .and_then(|()| fs::remove_file(part))
        .and_then(|()| File::open(folder)?.sync_all());
    written.map_err(|source| BackupError::File {
        path: file.to_owned(),
        source,
    })
}

fn part_of(file: &Path) -> PathBuf {
    beside(file, ".part")
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn remove(file: &Path) -> Result<(), BackupError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::File {
            path: file.to_owned(),
            source: error,
        }),
        Ok(()) | Err(_) => Ok(()),
    }
}
