//! Where the server keeps its state.

use std::fs;

use pipekeeper_store::{PostgresUrl, UrlError};

use super::raw::Raw;
use crate::failure::Failure;

/// A database.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// A file of the data folder.
    Sqlite,
    /// A database of a Postgres server.
    Postgres(PostgresUrl),
}

impl Raw {
    pub(super) fn database(&self) -> Result<Database, Failure> {
        let Some(text) = &self.database else {
            return match &self.database_password_file {
                None => Ok(Database::Sqlite),
                Some(_) => Err(
                    Failure::usage("there is a `database_password_file` and no `database`")
                        .hint("SQLite knows no password: write `database = \"postgres://user@host/name\"`"),
                ),
            };
        };
        let url = postgres("database", text)?;
        let Some(file) = &self.database_password_file else {
            return Ok(Database::Postgres(url));
        };
        let password = fs::read_to_string(file).map_err(|error| {
            Failure::usage(format!(
                "the `database_password_file` cannot be read: `{}`: {error}",
                file.display()
            ))
        })?;
        url.with_password(password.trim_end_matches(['\n', '\r']))
            .map(Database::Postgres)
            .map_err(|_| {
                Failure::usage("`database` has a password, and there is a `database_password_file`")
                    .hint("keep one of them")
            })
    }
}

/// The address of a Postgres database; nothing of a wrong one is shown, since it may hold a password.
pub(crate) fn postgres(key: &str, text: &str) -> Result<PostgresUrl, Failure> {
    text.parse().map_err(|error: UrlError| {
        Failure::usage(format!("`{key}`: failed to {error}"))
            .hint("write it like `postgres://user@host:5432/name?sslmode=verify-full`")
    })
}
