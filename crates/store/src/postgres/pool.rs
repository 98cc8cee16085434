//! Connections: their settings, and the care that they need between two uses.

use std::{future::Future, time::Duration};

use sqlx::{
    ConnectOptions as _, Executor as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

/// How long a caller waits for a connection, also while the server is away.
const ACQUIRE: Duration = Duration::from_secs(5);
/// How long a connection may take to be fit for its next use.
const RELEASE: Duration = Duration::from_secs(5);
/// How long anything may take on the way to the server and back: longer than the server lets a statement run.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);
/// Connections live no longer, so that a server that came back elsewhere is found, and one that grew is let go.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// What a pool's connections may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// A pool of at most this many connections.
pub(super) fn pool(options: PgConnectOptions, size: u32, access: Access) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE)
        .max_lifetime(LIFETIME)
        .after_connect(move |connection, _| Box::pin(set_up(connection, access)))
        .after_release(|connection, _| Box::pin(end_transaction(connection)))
        .connect_lazy_with(options.disable_statement_logging())
}

/// What the server keeps to for this session: whoever vanishes holds neither locks nor the server's connections for long.
/// A server that is set up to lose what it acknowledged is told not to.
const SETTINGS: &str = "SELECT set_config(name, value, false) FROM (VALUES \
    ('client_min_messages', 'warning'), \
    ('statement_timeout', '30s'), \
    ('idle_in_transaction_session_timeout', '5s'), \
    ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '3'), \
    ('tcp_user_timeout', '30s'), \
    ('synchronous_commit', CASE current_setting('synchronous_commit') \
        WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END)) AS settings (name, value)";

async fn set_up(connection: &mut PgConnection, access: Access) -> Result<(), sqlx::Error> {
    connection.execute(SETTINGS).await?;
    match access {
        Access::Read => {
            connection
                .execute("SET default_transaction_read_only = on")
                .await?;
        }
        Access::Write => {}
    }
    Ok(())
}

/// Ends a transaction whose `BEGIN` was on its way when its caller gave up: sqlx takes such a connection for a fresh one, and
/// what the next caller writes would be acknowledged and never committed. A plain `ROLLBACK` would do, but where there is
/// nothing to end, as nearly always, each would put a warning into the server's log; so there is always something.
async fn end_transaction(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    bounded(RELEASE, connection.execute("BEGIN; ROLLBACK")).await?;
    Ok(true)
}

/// Waits no longer than this. A connection whose use was given up is not used as it is: its answer may still come.
pub(super) async fn bounded<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(patience, work).await {
        Ok(result) => result,
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}
