//! A database of a row's own on the Postgres server that `PIPE_TEST_POSTGRES` names.

use anyhow::{Context as _, Result, bail};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, postgres::PgConnectOptions};
use tokio::runtime::Builder;

const SERVER: &str = "PIPE_TEST_POSTGRES";

/// An empty database, dropped with the value.
pub(crate) struct Database {
    server: PgConnectOptions,
    name: String,
    address: String,
}

impl Database {
    pub(crate) fn make() -> Result<Self> {
        let Ok(server) = std::env::var(SERVER) else {
            bail!("this row needs {SERVER}: eval \"$(scripts/dev-postgres env)\"");
        };
        let name = format!("pipe_bench_{}", std::process::id());
        let (front, query) = server.split_once('?').unwrap_or((&server, ""));
        let (front, _) = front
            .rsplit_once('/')
            .with_context(|| format!("{SERVER} names no database"))?;
        let made = Self {
            address: format!("{front}/{name}?{query}"),
            server: server.parse().with_context(|| format!("read {SERVER}"))?,
            name,
        };
        made.ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", made.name))?;
        made.ask(format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'",
            made.name
        ))?;
        Ok(made)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn ask(&self, what: String) -> Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let asked = async { self.server.connect().await?.execute(AssertSqlSafe(what)).await };
        runtime.block_on(asked).context("ask Postgres")?;
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // One that stays is dropped by the next row of this name, or with the server.
        let _ = self.ask(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}
