//! Being the only server of a database: a session of its own holds an advisory lock, and every transaction that writes looks
//! whether that very session still has it. So a server that lost its session, because of a failover or a network that
//! broke, writes nothing once another has the database.

use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _, postgres::PgConnectOptions,
};

/// What the lock is about: the database's one server. It is a number that nobody else is likely to use.
const LOCK: i64 = 2_814_640_379_001_887_410;

/// Takes the lock, if it is free.
const TAKE: &str = "SELECT pg_try_advisory_lock($1) AS taken, pg_backend_pid() AS pid, \
    (SELECT extract(epoch FROM backend_start)::text FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS since";

/// Whether a session has the lock. A process id may be given out again, but not with the same time.
const HOLDS: &str = "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) \
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
    AND ((classid::bigint << 32) | objid::bigint) = $1 AND pid = $2 AND extract(epoch FROM backend_start)::text = $3)";

/// Counts the servers that had the database: a record that no kind of ours names.
const COUNT: &str = "INSERT INTO records (kind, name, owner, version, author, changed_at, body) \
    VALUES ('tenure', 'server', '', 1, '{\"kind\":\"system\"}', 0, '{}') \
    ON CONFLICT (kind, name) DO UPDATE SET version = records.version + 1 RETURNING version";
const COUNTED: &str = "SELECT version FROM records WHERE kind = 'tenure' AND name = 'server'";

/// The one server's hold on its database.
#[derive(Debug)]
pub(super) struct Tenure {
    options: PgConnectOptions,
    /// Which server it is, of all that ever had the database.
    number: i64,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    pid: i32,
    since: String,
    connection: PgConnection,
}

impl Tenure {
    /// Takes the database; none if another server has it.
    pub(super) async fn take(options: PgConnectOptions) -> Result<Option<Self>, sqlx::Error> {
        let Some(mut session) = Session::open(&options).await? else {
            return Ok(None);
        };
        let number = sqlx::query_scalar(COUNT)
            .fetch_one(&mut session.connection)
            .await?;
        Ok(Some(Self {
            options,
            number,
            session: Some(session),
        }))
    }

    /// Whether this server still has the database, as a transaction sees it.
    pub(super) async fn holds(&self, connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
        let Some(session) = &self.session else {
            return Ok(false);
        };
        sqlx::query_scalar(HOLDS)
            .bind(LOCK)
            .bind(session.pid)
            .bind(session.since.as_str())
            .fetch_one(connection)
            .await
    }

    /// Takes the database again with another session; false if another server has it, or had it meanwhile: what this one
    /// knows of its runs is old then.
    pub(super) async fn regain(&mut self) -> Result<bool, sqlx::Error> {
        self.session = None;
        let Some(mut session) = Session::open(&self.options).await? else {
            return Ok(false);
        };
        let number: i64 = sqlx::query_scalar(COUNTED)
            .fetch_one(&mut session.connection)
            .await?;
        if number == self.number {
            self.session = Some(session);
        }
        Ok(self.session.is_some())
    }

    /// Leaves the database to whoever comes next.
    pub(super) async fn end(self) -> Result<(), sqlx::Error> {
        let Some(mut session) = self.session else {
            return Ok(());
        };
        // The session would do it too, but only once the server notices that it has ended.
        sqlx::query("SELECT pg_advisory_unlock($1)")
            .bind(LOCK)
            .execute(&mut session.connection)
            .await?;
        session.connection.close().await
    }
}

impl Session {
    async fn open(options: &PgConnectOptions) -> Result<Option<Self>, sqlx::Error> {
        let mut connection = options.clone().disable_statement_logging().connect().await?;
        // A machine that vanishes gives the database free within about a minute.
        connection
            .execute(
                "SELECT set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false), \
                 set_config('tcp_keepalives_count', '3', false), set_config('idle_session_timeout', '0', false)",
            )
            .await?;
        let row = sqlx::query(TAKE).bind(LOCK).fetch_one(&mut connection).await?;
        if !row.try_get::<bool, _>("taken")? {
            return Ok(None);
        }
        Ok(Some(Self {
            pid: row.try_get("pid")?,
            since: row.try_get("since")?,
            connection,
        }))
    }
}
