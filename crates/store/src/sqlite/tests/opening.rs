//! Opening: one server to a file, durable settings, statements that use their indexes.

use std::{collections::BTreeSet, time::Duration};

use pipekeeper_model::RunId;
use sqlx::{Executor as _, QueryBuilder, Row as _, Sqlite};

use super::{execute, raw};
use crate::{
    OpenError, RunFilter, SqliteStore, Store as _,
    sqlite::{open, read},
};

#[tokio::test]
async fn a_second_server_is_told_who_has_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    let wanted = format!(
        "open the database `{}`: another server (process {}) has it open",
        path.display(),
        std::process::id()
    );
    assert_eq!(refused.to_string(), wanted);
    store.close().await;
    let next = SqliteStore::open(&path).await.unwrap();
    next.check().await.unwrap();
    next.close().await;
}

#[tokio::test]
async fn closing_empties_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store
        .accept_delivery(super::delivery("x", 100_000))
        .await
        .unwrap();
    store.close().await;
    let log = folder.path().join("pipe.db-wal");
    assert!(log.metadata().map_or(0, |log| log.len()) == 0);
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = SqliteStore::open(folder.path().join("none/pipe.db"))
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Lock { .. }), "{error}");
}

#[tokio::test]
async fn something_else_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    std::fs::write(&path, "a letter, quite long enough to be looked at ".repeat(200)).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_a_newer_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    SqliteStore::open(&path).await.unwrap().close().await;
    execute(
        &path,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'later', 1, x'00', 0)",
    )
    .await
    .unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { step: 9999, .. }), "{error}");
}

#[tokio::test]
async fn the_writer_is_durable_and_readers_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let options = open::writer_options(&path, Duration::from_secs(5));
    let mut writer = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for (pragma, value) in [
        ("PRAGMA synchronous", 2),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA busy_timeout", 5_000),
    ] {
        let set: i64 = writer.fetch_one(pragma).await.unwrap().try_get(0).unwrap();
        assert_eq!(set, value, "{pragma}");
    }
    let mode: String = writer
        .fetch_one("PRAGMA journal_mode")
        .await
        .unwrap()
        .try_get(0)
        .unwrap();
    assert_eq!(mode, "wal");
    let refused = store.readers.execute("DELETE FROM deliveries").await.unwrap_err();
    assert!(refused.to_string().contains("readonly"), "{refused}");
    store.close().await;
}

async fn plan(query: &mut QueryBuilder<Sqlite>, connection: &mut sqlx::SqliteConnection) -> String {
    let text = query.sql().as_str().to_owned();
    let explained = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")));
    let steps = explained.fetch_all(connection).await.unwrap();
    let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
    steps.join("; ")
}

#[tokio::test]
async fn lists_of_runs_use_their_indexes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    SqliteStore::open(&path).await.unwrap().close().await;
    let mut connection = raw(&path).await;
    let all = RunFilter::default;
    let projects = Some(BTreeSet::from(["mall".parse().unwrap()]));
    let pipeline = Some("web".parse().unwrap());
    let group = Some("g".to_owned());
    let sha = Some("a".repeat(40).parse().unwrap());
    let cases = [
        (
            RunFilter {
                before: Some(RunId(9)),
                ..all()
            },
            "PRIMARY KEY",
        ),
        (
            RunFilter {
                projects: projects.clone(),
                ..all()
            },
            "runs_by_project",
        ),
        (
            RunFilter {
                projects: projects.clone(),
                pipeline,
                ..all()
            },
            "runs_by_pipeline",
        ),
        (RunFilter { sha, ..all() }, "runs_by_sha"),
        (
            RunFilter {
                group: group.clone(),
                ..all()
            },
            "runs_by_group",
        ),
        (
            RunFilter {
                active: true,
                ..all()
            },
            "runs_active ",
        ),
        (
            RunFilter {
                active: true,
                projects,
                ..all()
            },
            "runs_active ",
        ),
        (
            RunFilter {
                active: true,
                group,
                ..all()
            },
            "runs_active_by_group",
        ),
    ];
    for (filter, index) in cases {
        let plan = plan(&mut read::runs_query(&filter, 50), &mut connection).await;
        assert!(plan.contains(index), "{filter:?}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
    }
    let mut pending =
        QueryBuilder::new("SELECT id FROM deliveries WHERE outcome IS NULL AND id > 5 ORDER BY id LIMIT 5");
    assert!(
        plan(&mut pending, &mut connection)
            .await
            .contains("deliveries_pending")
    );
}
