//! Opening: what is refused, several servers at once, TLS.

use std::net::TcpListener;

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Executor as _};

use super::TestDatabase;
use crate::{ConnectError, PostgresStore, Store as _, postgres::open};

#[tokio::test]
async fn several_servers_may_start_at_once() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let url = database.url();
    let stores = join_all((0..6).map(|_| PostgresStore::open(&url))).await;
    for store in stores {
        let store = store.unwrap();
        store.check().await.unwrap();
        store.close().await;
    }
    let steps = i64::try_from(open::MIGRATIONS.iter().count()).unwrap();
    assert_eq!(
        database.count("SELECT count(*) FROM _sqlx_migrations").await,
        steps
    );
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    database.store().await.close().await;
    database
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (9999, 'later', true, '\\x00', 0)",
        )
        .await
        .unwrap();
    let error = PostgresStore::open(&database.url()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Newer { step: 9999, .. }), "{error}");
}

#[tokio::test]
async fn an_encoding_that_keeps_less_is_refused() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let name = database.address().rsplit('/').next().unwrap();
    let name = name.split('?').next().unwrap();
    let create = format!("CREATE DATABASE {name}_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    let mut raw = database.raw().await;
    raw.execute(AssertSqlSafe(create)).await.unwrap();
    let url = database.address().replace(name, &format!("{name}_latin1"));
    let opened = PostgresStore::open(&url.parse().unwrap()).await;
    let end = format!("DROP DATABASE {name}_latin1 WITH (FORCE)");
    raw.execute(AssertSqlSafe(end)).await.unwrap();
    let error = opened.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Encoding { encoding, .. } if encoding == "LATIN1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_one_clear_error() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://ann:s3cret@{free}/ci").parse().unwrap();
    let error = PostgresStore::open(&url).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("open the database `postgres://{free}/ci`")
    );
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn the_url_asks_for_tls_and_for_whom_to_trust() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let Some(ca) = std::env::var_os("PIPE_TEST_POSTGRES_CA") else {
        println!("skipped: the server's certificate is not known");
        return;
    };
    let ca = ca.to_str().unwrap();
    for (query, encrypted) in [
        ("sslmode=disable".to_owned(), Some(false)),
        ("sslmode=require".to_owned(), Some(true)),
        (format!("sslmode=verify-full&sslrootcert={ca}"), Some(true)),
        // An authority that Mozilla does not know.
        ("sslmode=verify-full".to_owned(), None),
    ] {
        let url = format!("{}&{query}", database.address()).parse().unwrap();
        let Ok(store) = PostgresStore::open(&url).await else {
            assert_eq!(encrypted, None, "{query}");
            continue;
        };
        let found = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
        let found: bool = found.fetch_one(&store.readers).await.unwrap();
        assert_eq!(Some(found), encrypted, "{query}");
        store.close().await;
    }
}
