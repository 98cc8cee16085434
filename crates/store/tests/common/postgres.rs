//! A database of a test's own on a real Postgres server, dropped with the value.

use std::io::Write as _;

use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, postgres::PgConnectOptions};

/// The server's address: of a database where others may be made.
const SERVER: &str = "PIPE_TEST_POSTGRES";

/// An empty database.
pub(crate) struct TestDatabase {
    server: PgConnectOptions,
    name: String,
    address: String,
}

impl TestDatabase {
    /// Makes one, or says why there is none.
    pub(crate) async fn make() -> Option<Self> {
        let Ok(server) = std::env::var(SERVER) else {
            drop(writeln!(
                std::io::stderr(),
                "skipped: this needs {SERVER}: eval \"$(scripts/dev-postgres env)\""
            ));
            return None;
        };
        let name = format!("pipe_test_{:016x}", getrandom::u64().expect("randomness"));
        let (front, query) = server.split_once('?').unwrap_or((&server, ""));
        let (front, _) = front.rsplit_once('/').expect("the address names a database");
        let address = format!("{front}/{name}?{query}");
        let server: PgConnectOptions = server.parse().expect("the address of a server");
        let create = AssertSqlSafe(format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"
        ));
        let made = async { server.connect().await?.execute(create).await };
        made.await.expect("a database of its own");
        Some(Self {
            server,
            name,
            address,
        })
    }

    /// Its address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let server = self.server.clone();
        let end = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let dropped = async { server.connect().await?.execute(end).await };
            runtime
                .expect("a runtime")
                .block_on(dropped)
                .expect("nobody else drops it");
        });
        // A test that failed already keeps its own message.
        let dropped = dropping.join();
        assert!(dropped.is_ok() || std::thread::panicking());
    }
}
