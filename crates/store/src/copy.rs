//! From an SQLite file to a Postgres database, whole or not at all; entry: [`copy`].

use futures_util::TryStreamExt as _;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqlitePool, postgres::PgRow,
    sqlite::SqliteRow,
};
use thiserror::Error;

use crate::{
    ConnectError, PostgresStore, PostgresUrl, SqliteStore, Store as _,
    postgres::{begin, connect, to_column},
    rows::to_u64,
};

/// The tables with the columns that number their rows; what others refer to comes before them.
pub(crate) const TABLES: [(&str, &str); 13] = [
    ("deliveries", "id"),
    ("refusals", "id"),
    ("ref_moves", "id"),
    ("runs", "id"),
    ("events", "run, sequence"),
    ("snapshots", "run"),
    ("effects", "sequence"),
    ("probes", "id"),
    ("successes", "inputs"),
    ("estates", "run"),
    ("records", "kind, name"),
    ("record_versions", "kind, name, version"),
    ("audit", "id"),
];

/// The most rows in one statement.
const ROWS: usize = 500;
/// How many bytes of them may be held at once, and one row more.
const BYTES: usize = 4 << 20;

/// How far the copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The table that is being copied.
    pub table: &'static str,
    /// Its rows that were copied.
    pub rows: u64,
    /// Its rows in all.
    pub of: u64,
}

/// A copy was not made; the new database is as empty as before.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The new database cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The new database is in use.
    #[error("copy into `{url}`: its table `{table}` has rows")]
    NotEmpty {
        /// The database.
        url: PostgresUrl,
        /// A table that is not empty.
        table: &'static str,
    },
    /// Reading the old one failed.
    #[error("read the table `{table}`")]
    Read {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Writing the new one failed.
    #[error("write the table `{table}`")]
    Write {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Something went missing on the way.
    #[error("copy the table `{table}`: {wanted} rows were read and {found} arrived")]
    Count {
        /// The table.
        table: &'static str,
        /// How many there were.
        wanted: u64,
        /// How many there are.
        found: u64,
    },
    /// The whole could not be ended.
    #[error("commit the copy")]
    Commit {
        /// Why.
        #[source]
        source: sqlx::Error,
    },
}

/// Copies everything that an SQLite store holds into an empty Postgres database, in one transaction. The store stays open
/// meanwhile, so that no server writes to it.
pub async fn copy(
    from: &SqliteStore,
    to: &PostgresUrl,
    mut on_progress: impl FnMut(Copied),
) -> Result<(), CopyError> {
    // Opened and closed for its migrations.
    PostgresStore::open(to).await?.close().await;
    let mut connection = connect(to).await?;
    begin(&mut connection).await.map_err(committing)?;
    for (table, _) in TABLES {
        let any = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        let any = sqlx::query_scalar::<_, bool>(AssertSqlSafe(any)).fetch_one(&mut connection);
        if any.await.map_err(|source| CopyError::Write { table, source })? {
            let url = to.clone();
            return Err(CopyError::NotEmpty { url, table });
        }
    }
    for (table, order) in TABLES {
        let columns = columns(&mut connection, table).await?;
        let table = Table {
            name: table,
            order,
            columns,
        };
        table
            .copy(from.readers(), &mut connection, &mut on_progress)
            .await?;
    }
    connection.execute("COMMIT").await.map_err(committing)?;
    connection.close().await.map_err(committing)
}

fn committing(source: sqlx::Error) -> CopyError {
    CopyError::Commit { source }
}

/// A table, as the new database has it.
struct Table {
    name: &'static str,
    order: &'static str,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    kind: Kind,
    numbers_itself: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Flag,
    Text,
    Bytes,
}

/// The values of one column of some rows.
enum Values {
    Numbers(Vec<Option<i64>>),
    Flags(Vec<Option<bool>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

async fn columns(connection: &mut PgConnection, table: &'static str) -> Result<Vec<Column>, CopyError> {
    let found = sqlx::query(
        "SELECT column_name::text AS name, data_type::text AS kind, is_identity = 'YES' AS numbers_itself \
         FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1 \
         ORDER BY ordinal_position",
    )
    .bind(table)
    .fetch_all(connection)
    .await;
    let column = |row: &PgRow| {
        Ok(Column {
            name: row.try_get("name")?,
            kind: match row.try_get("kind")? {
                "bigint" => Kind::Number,
                "boolean" => Kind::Flag,
                "bytea" => Kind::Bytes,
                _ => Kind::Text,
            },
            numbers_itself: row.try_get("numbers_itself")?,
        })
    };
    found
        .and_then(|found| found.iter().map(column).collect())
        .map_err(|source| CopyError::Write { table, source })
}

impl Table {
    async fn copy(
        &self,
        from: &SqlitePool,
        to: &mut PgConnection,
        on_progress: &mut impl FnMut(Copied),
    ) -> Result<(), CopyError> {
        let table = self.name;
        let reading = |source| CopyError::Read { table, source };
        let writing = |source| CopyError::Write { table, source };
        let count = format!("SELECT count(*) FROM {table}");
        let of: i64 = sqlx::query_scalar(AssertSqlSafe(count.clone()))
            .fetch_one(from)
            .await
            .map_err(reading)?;
        let mut progress = Copied {
            table,
            rows: 0,
            of: to_u64(of),
        };
        on_progress(progress);
        // What the triggers guard is settled here already: a finished run's events would be refused.
        self.execute(to, "ALTER TABLE {table} DISABLE TRIGGER USER")
            .await?;
        let select = format!("SELECT {} FROM {table} ORDER BY {}", self.names(), self.order);
        let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(from);
        let mut page = Page::new(&self.columns);
        while let Some(row) = rows.try_next().await.map_err(reading)? {
            page.push(&self.columns, &row).map_err(reading)?;
            if page.rows == ROWS || page.bytes >= BYTES {
                progress.rows += self.insert(to, &mut page).await.map_err(writing)?;
                on_progress(progress);
            }
        }
        if page.rows > 0 {
            progress.rows += self.insert(to, &mut page).await.map_err(writing)?;
            on_progress(progress);
        }
        self.execute(to, "ALTER TABLE {table} ENABLE TRIGGER USER")
            .await?;
        self.go_on_numbering(from, to).await?;
        let found: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(to)
            .await
            .map_err(writing)?;
        if found != of || progress.rows != progress.of {
            return Err(CopyError::Count {
                table,
                wanted: progress.of,
                found: to_u64(found),
            });
        }
        Ok(())
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        names.join(", ")
    }

    async fn execute(&self, to: &mut PgConnection, sql: &str) -> Result<(), CopyError> {
        let table = self.name;
        let sql = AssertSqlSafe(sql.replace("{table}", table));
        let done = to.execute(sql).await.map(|_| ());
        done.map_err(|source| CopyError::Write { table, source })
    }

    /// Writes the page's rows and empties it.
    async fn insert(&self, to: &mut PgConnection, page: &mut Page) -> Result<u64, sqlx::Error> {
        let page = std::mem::replace(page, Page::new(&self.columns));
        let arrays = (1..)
            .zip(&self.columns)
            .map(|(number, column)| match column.kind {
                Kind::Number => format!("${number}::bigint[]"),
                Kind::Flag => format!("${number}::boolean[]"),
                Kind::Text => format!("${number}::text[]"),
                Kind::Bytes => format!("${number}::bytea[]"),
            });
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        let text = format!(
            "INSERT INTO {} ({}) SELECT * FROM UNNEST({arrays})",
            self.name,
            self.names()
        );
        let mut query = sqlx::query(AssertSqlSafe(text));
        for values in page.values {
            query = match values {
                Values::Numbers(values) => query.bind(values),
                Values::Flags(values) => query.bind(values),
                Values::Texts(values) => query.bind(values),
                Values::Bytes(values) => query.bind(values),
            };
        }
        Ok(query.execute(to).await?.rows_affected())
    }

    /// Numbers that were given out once are not given out again, also where their row is gone.
    async fn go_on_numbering(&self, from: &SqlitePool, to: &mut PgConnection) -> Result<(), CopyError> {
        let table = self.name;
        for column in self.columns.iter().filter(|column| column.numbers_itself) {
            let last = sqlx::query_scalar::<_, i64>("SELECT seq FROM sqlite_sequence WHERE name = ?")
                .bind(table)
                .fetch_optional(from)
                .await
                .map_err(|source| CopyError::Read { table, source })?;
            let Some(last) = last.filter(|last| *last > 0) else {
                continue;
            };
            sqlx::query("SELECT setval(pg_get_serial_sequence($1, $2), $3)")
                .bind(table)
                .bind(column.name.as_str())
                .bind(last)
                .execute(&mut *to)
                .await
                .map_err(|source| CopyError::Write { table, source })?;
        }
        Ok(())
    }
}

/// Rows on their way.
struct Page {
    values: Vec<Values>,
    rows: usize,
    bytes: usize,
}

impl Page {
    fn new(columns: &[Column]) -> Self {
        let values = columns.iter().map(|column| match column.kind {
            Kind::Number => Values::Numbers(Vec::new()),
            Kind::Flag => Values::Flags(Vec::new()),
            Kind::Text => Values::Texts(Vec::new()),
            Kind::Bytes => Values::Bytes(Vec::new()),
        });
        Self {
            values: values.collect(),
            rows: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, columns: &[Column], row: &SqliteRow) -> Result<(), sqlx::Error> {
        for (column, values) in columns.iter().zip(&mut self.values) {
            let name = column.name.as_str();
            match values {
                Values::Numbers(values) => values.push(row.try_get(name)?),
                Values::Flags(values) => values.push(row.try_get(name)?),
                Values::Texts(values) => {
                    let text: Option<&str> = row.try_get(name)?;
                    self.bytes += text.map_or(0, str::len);
                    values.push(text.map(|text| to_column(text).into_owned()));
                }
                Values::Bytes(values) => {
                    let bytes: Option<Vec<u8>> = row.try_get(name)?;
                    self.bytes += bytes.as_ref().map_or(0, Vec::len);
                    values.push(bytes);
                }
            }
        }
        self.rows += 1;
        Ok(())
    }
}
