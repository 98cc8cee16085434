//! `pipe db`: the server's database as a whole. Only `backup` may run beside a server.

mod tools;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use pipekeeper_store::{
    Copied, CopyError, PostgresUrl, Store as _, back_up_sqlite, copy, is_empty, restore_sqlite,
};

use crate::{
    config::{self, Database, Flags},
    failure::{Exit, Failure, OrFail, chain},
    folders, runtime,
    server::database,
    term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Db {
    #[command(subcommand)]
    what: What,
    /// The server's configuration
    #[arg(long, global = true, env = "PIPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bring the database up to this version, as a server does when it starts
    Migrate,
    /// Write a consistent copy of the database to a file, also while a server runs; the master keys of secrets are not in it
    Backup {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Put a backup back where there is no database yet
    Restore {
        /// The file that `pipe db backup` wrote
        file: PathBuf,
    },
    /// Copy the data folder's SQLite database to an empty Postgres one
    Copy {
        /// The Postgres database; by default the one that the configuration names
        #[arg(long, value_name = "URL")]
        to: Option<String>,
    },
}

impl Db {
    /// Does what was asked.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let (data_dir, database) = config::database(&Flags {
            file: self.config,
            listen: None,
            data_dir: self.data_dir,
        })?;
        runtime::block_on(async {
            match self.what {
                What::Migrate => migrate(&data_dir, &database).await,
                What::Backup { file } => back_up(&data_dir, &database, &file).await,
                What::Restore { file } => restore(&data_dir, &database, &file).await,
                What::Copy { to } => copy_to_postgres(&data_dir, database, to).await,
            }
        })?;
        Ok(Exit::Done)
    }
}

async fn migrate(data_dir: &Path, database: &Database) -> Result<(), Failure> {
    folders::make(data_dir)?;
    database::open(data_dir, database).await?.store.close().await;
    term::note(format_args!("{} is up to date", name(data_dir, database)));
    Ok(())
}

async fn back_up(data_dir: &Path, database: &Database, file: &Path) -> Result<(), Failure> {
    match database {
        Database::Sqlite => {
            let source = existing(data_dir)?;
            back_up_sqlite(&source, file).await.or_usage("make a backup")?;
        }
        Database::Postgres(url) => tools::back_up(url, file)?,
    }
    term::note(format_args!(
        "{} is in `{}`; logs, artifacts and caches are files beside it: docs/database.md",
        name(data_dir, database),
        file.display()
    ));
    Ok(())
}

async fn restore(data_dir: &Path, database: &Database, file: &Path) -> Result<(), Failure> {
    folders::make(data_dir)?;
    match database {
        Database::Sqlite => restore_sqlite(file, &database::file(data_dir))
            .await
            .or_usage("restore the database")?,
        Database::Postgres(url) => {
            if !is_empty(url).await.or_usage("look at the database")? {
                return Err(Failure::usage(format!("the database `{url}` is not empty"))
                    .hint("make a new one with `createdb`, and name that"));
            }
            tools::restore(url, file)?;
            database::open(data_dir, database).await?.store.close().await;
        }
    }
    term::note(format_args!("{} is restored", name(data_dir, database)));
    Ok(())
}

async fn copy_to_postgres(data_dir: &Path, database: Database, to: Option<String>) -> Result<(), Failure> {
    let url = match (to, database) {
        (Some(to), _) => config::postgres("--to", &to)?,
        (None, Database::Postgres(url)) => url,
        (None, Database::Sqlite) => {
            return Err(Failure::usage("no Postgres database is named")
                .hint("write `database = \"postgres://…\"` into the configuration, or say `--to URL`"));
        }
    };
    existing(data_dir)?;
    let store = database::open_sqlite(data_dir).await?;
    let copied = copy(&store, &url, tell()).await;
    store.close().await;
    copied.map_err(|error| explain(&error, &url))?;
    term::note(format_args!("everything is in `{url}`, and counted"));
    Ok(())
}

fn explain(error: &CopyError, url: &PostgresUrl) -> Failure {
    let failure = Failure::usage(format!("failed to {}", chain(error)));
    match error {
        CopyError::NotEmpty { .. } => failure.hint(format!(
            "`{url}` belongs to a server already; make a new one with `createdb`, and name that"
        )),
        CopyError::Connect(_)
        | CopyError::Read { .. }
        | CopyError::Write { .. }
        | CopyError::Count { .. }
        | CopyError::Commit { .. } => failure,
    }
}

/// Says how far the copy is, at every tenth of a table and when it is done.
fn tell() -> impl FnMut(Copied) {
    let mut told = ("", 0);
    move |Copied { table, rows, of }| {
        let tenth = (rows * 10).checked_div(of).unwrap_or(10);
        if told != (table, tenth) && tenth > 0 {
            told = (table, tenth);
            term::note(format_args!("{table:<10} {rows} of {of}"));
        }
    }
}

/// The SQLite database of a data folder, which must be there: SQLite would make one.
fn existing(data_dir: &Path) -> Result<PathBuf, Failure> {
    let file = database::file(data_dir);
    if file.exists() {
        Ok(file)
    } else {
        Err(
            Failure::not_found(format!("there is no database `{}`", file.display()))
                .hint("name the server's own `--config` or `--data-dir`"),
        )
    }
}

fn name(data_dir: &Path, database: &Database) -> String {
    match database {
        Database::Sqlite => format!("`{}`", database::file(data_dir).display()),
        Database::Postgres(url) => format!("`{url}`"),
    }
}
