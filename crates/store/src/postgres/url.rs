//! Where a Postgres database is.

use std::{error::Error as _, fmt, str::FromStr};

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};
use thiserror::Error;

/// The schemes of its address.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// The address of a Postgres database, `postgres://user@host:5432/name?sslmode=verify-full`. Nothing shows its password.
///
/// What it leaves out comes from the variables of `libpq` (`PGHOST`, `PGUSER`, …) and from `~/.pgpass`.
#[derive(Clone)]
pub struct PostgresUrl {
    options: Box<PgConnectOptions>,
    password: Password,
}

/// Whether an address has a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Password {
    Given,
    Absent,
}

/// An address is none of a Postgres database.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It begins with something else.
    #[error("read the address of a database: it does not begin with `postgres://`")]
    Scheme,
    /// It cannot be read.
    #[error("read the address of a database: {reason}")]
    Unreadable {
        /// What is wrong.
        reason: String,
    },
    /// A second password.
    #[error("take the password: the address of the database has one already")]
    SecondPassword,
}

impl FromStr for PostgresUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(UrlError::Scheme)?;
        let options = PgConnectOptions::from_str(text).map_err(|error| UrlError::Unreadable {
            reason: error
                .source()
                .map_or_else(|| error.to_string(), ToString::to_string),
        })?;
        let authority = rest.split(['/', '?']).next().unwrap_or("");
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        let in_query = rest
            .split_once('?')
            .is_some_and(|(_, query)| query.split('&').any(|pair| pair.starts_with("password=")));
        let password = if user.contains(':') || in_query {
            Password::Given
        } else {
            Password::Absent
        };
        Ok(Self {
            options: Box::new(options),
            password,
        })
    }
}

impl PostgresUrl {
    /// The same with a password, which it has not yet.
    pub fn with_password(self, password: &str) -> Result<Self, UrlError> {
        match self.password {
            Password::Given => Err(UrlError::SecondPassword),
            Password::Absent => Ok(Self {
                options: Box::new(self.options.password(password)),
                password: Password::Given,
            }),
        }
    }

    /// The variables by which Postgres's own programs find the database, the password among them.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let mut variables = vec![
            ("PGHOST", host),
            ("PGPORT", options.get_port().to_string()),
            ("PGUSER", options.get_username().to_owned()),
            ("PGDATABASE", database.to_owned()),
        ];
        // What the options do not show otherwise. A password in the query is decoded with the rest of it.
        let mut url = options.to_url_lossy();
        if let Some(password) = url.password() {
            let query = format!("{}&password={password}", url.query().unwrap_or(""));
            url.set_query(Some(&query));
        }
        variables.extend(url.query_pairs().filter_map(|(key, value)| {
            let name = match key.as_ref() {
                "password" => "PGPASSWORD",
                "sslmode" => "PGSSLMODE",
                "sslrootcert" => "PGSSLROOTCERT",
                "sslcert" => "PGSSLCERT",
                "sslkey" => "PGSSLKEY",
                _ => return None,
            };
            // A file stands there with a word before it.
            Some((name, value.strip_prefix("file: ").unwrap_or(&value).to_owned()))
        }));
        variables
    }

    pub(super) fn options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.options)
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        match options.get_socket() {
            Some(socket) => write!(f, "postgres:///{database} at {}", socket.display()),
            None => write!(
                f,
                "postgres://{}:{}/{database}",
                options.get_host(),
                options.get_port()
            ),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{PostgresUrl, UrlError};

    #[test]
    fn nothing_shows_the_password() {
        let url: PostgresUrl = "postgres://ann:s3cret@db.example.org:6543/ci".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://db.example.org:6543/ci");
        assert_eq!(
            format!("{url:?}"),
            "PostgresUrl(postgres://db.example.org:6543/ci)"
        );
    }

    #[test]
    fn there_is_one_password() {
        for given in ["postgres://ann:x@h/d", "postgresql://ann@h/d?password=x"] {
            let url: PostgresUrl = given.parse().unwrap();
            assert_eq!(url.with_password("y").unwrap_err(), UrlError::SecondPassword);
        }
        let url: PostgresUrl = "postgres://ann@h/d".parse().unwrap();
        let url = url.with_password("y").unwrap();
        assert_eq!(url.with_password("z").unwrap_err(), UrlError::SecondPassword);
    }

    #[test]
    fn other_programs_are_told_where_it_is() {
        let url = "postgres://ann:a%2Bb%26%20%25@db.example.org/ci?sslmode=verify-full&sslrootcert=/ca.pem";
        let url: PostgresUrl = url.parse().unwrap();
        let wanted = [
            ("PGHOST", "db.example.org"),
            ("PGPORT", "5432"),
            ("PGUSER", "ann"),
            ("PGDATABASE", "ci"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/ca.pem"),
            ("PGPASSWORD", "a+b& %"),
        ];
        assert_eq!(
            url.variables(),
            wanted.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn other_addresses_are_refused() {
        let refused = |text: &str| text.parse::<PostgresUrl>().unwrap_err();
        assert_eq!(refused("mysql://h/d"), UrlError::Scheme);
        assert_eq!(refused("/srv/pipe.db"), UrlError::Scheme);
        let odd = refused("postgres://ann:s3cret@h:port/d");
        assert!(matches!(odd, UrlError::Unreadable { .. }), "{odd}");
        assert!(!odd.to_string().contains("s3cret"), "{odd}");
    }
}
