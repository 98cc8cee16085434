//! Every migration runs on a database that is not empty, and what older ones stored is read in the end.

use std::{error::Error, fs, path::Path};

use pipekeeper_model::{Actor, GitRef, Outcome, RunId};
use pipekeeper_store::{DeliveryId, DeliveryOutcome, RefMove, RunFilter, SqliteStore, Store as _};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

type TestResult = Result<(), Box<dyn Error>>;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

#[tokio::test]
async fn every_step_keeps_what_is_stored() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pipe.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let mut connection = options.connect().await?;
    for migration in MIGRATIONS.iter() {
        MIGRATIONS
            .run_direct(Some(migration.version), &mut connection, false)
            .await?;
        let sample = Path::new("tests/samples").join(format!("{:04}.sql", migration.version));
        if migration.sql.as_str().contains("CREATE TABLE") || sample.exists() {
            connection
                .execute(AssertSqlSafe(fs::read_to_string(&sample)?))
                .await?;
        }
    }
    drop(connection);

    let store = SqliteStore::open(&path).await?;
    let delivery = store.delivery(DeliveryId(1)).await?.ok_or("it is stored")?;
    assert_eq!(delivery.received.body, b"{}");
    let ran = DeliveryOutcome::Ran {
        runs: vec![RunId(1)],
        notes: Vec::new(),
    };
    assert_eq!(delivery.outcome, Some(ran));
    assert_eq!(store.pending_deliveries(None, 9).await?.len(), 1);
    assert_eq!(store.refusals(&"mall".parse()?).await?.len(), 1);
    let created = RefMove {
        project: "mall".parse()?,
        git_ref: GitRef::Branch("main".to_owned()),
        before: None,
        after: Some("a".repeat(40).parse()?),
    };
    assert_eq!(store.find_move(&created).await?, Some(DeliveryId(1)));
    let runs = store.runs(&RunFilter::default(), 9).await?;
    assert_eq!(
        runs.iter().map(|run| run.outcome).collect::<Vec<_>>(),
        [None, Some(Outcome::TimedOut)]
    );
    assert_eq!(
        runs.first().map(|run| run.actor.clone()),
        Some(Actor::user("ann"))
    );
    let stored = store.load(RunId(2)).await?.ok_or("it is stored")?;
    assert_eq!(
        (stored.version, stored.tail.len(), stored.snapshot.is_some()),
        (2, 1, true)
    );
    assert_eq!(store.effects(None, 9).await?.len(), 1);
    let inputs = format!("sha256:{}", "a".repeat(64)).parse()?;
    let kept = store.recall(&inputs).await?.ok_or("it is stored")?;
    assert_eq!(kept.attempt.run, RunId(2));
    store.check().await?;
    store.close().await;
    Ok(())
}

#[test]
fn the_files_are_numbered_without_gaps_and_all_are_embedded() -> TestResult {
    let mut names = Vec::new();
    for entry in fs::read_dir("../../migrations/sqlite")? {
        names.push(entry?.file_name().into_string().map_err(|_| "a name in UTF-8")?);
    }
    names.sort();
    assert_eq!(
        names.len(),
        MIGRATIONS.iter().count(),
        "touch a source file of the crate: {names:?}"
    );
    for (number, (name, migration)) in (1_i64..).zip(names.iter().zip(MIGRATIONS.iter())) {
        assert!(name.starts_with(&format!("{number:04}_")), "{name}");
        assert!(name.ends_with(".sql"), "{name}");
        assert_eq!(migration.version, number);
    }
    Ok(())
}
