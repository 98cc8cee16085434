//! Every migration runs on a database that is not empty, and what older ones stored is read in the end.

#[path = "common/postgres.rs"]
mod database;

use std::{error::Error, fs, path::PathBuf};

use database::TestDatabase;
use pipekeeper_model::{Actor, GitRef, Outcome, RunId};
use pipekeeper_store::{DeliveryId, DeliveryOutcome, PostgresStore, RefMove, RunFilter, SqliteStore, Store};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _,
    migrate::{Migration, Migrator},
    postgres::PgConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

type TestResult = Result<(), Box<dyn Error>>;

static SQLITE: Migrator = sqlx::migrate!("../../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The rows to insert right after a migration, in the words of one database where they are not those of both.
fn sample(migration: &Migration, dialect: &str) -> Result<Option<String>, Box<dyn Error>> {
    let number = migration.version;
    let files = [format!("{number:04}.{dialect}.sql"), format!("{number:04}.sql")];
    let files = files.map(|file| PathBuf::from("tests/samples").join(file));
    match files.iter().find(|file| file.exists()) {
        Some(file) => Ok(Some(fs::read_to_string(file)?)),
        None if migration.sql.as_str().contains("CREATE TABLE") => {
            Err(format!("migration {number} has no sample").into())
        }
        None => Ok(None),
    }
}

#[tokio::test]
async fn every_step_keeps_what_is_stored() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pipe.db");
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let mut connection = options.connect().await?;
    for migration in SQLITE.iter() {
        SQLITE
            .run_direct(Some(migration.version), &mut connection, false)
            .await?;
        if let Some(sample) = sample(migration, "sqlite")? {
            connection.execute(AssertSqlSafe(sample)).await?;
        }
    }
    drop(connection);
    check(&SqliteStore::open(&path).await?).await
}

#[tokio::test]
async fn every_step_keeps_what_is_stored_in_postgres() -> TestResult {
    let Some(database) = TestDatabase::make().await else {
        return Ok(());
    };
    let options: PgConnectOptions = database.address().parse()?;
    let mut connection = options.connect().await?;
    for migration in POSTGRES.iter() {
        POSTGRES
            .run_direct(Some(migration.version), &mut connection, false)
            .await?;
        if let Some(sample) = sample(migration, "postgres")? {
            connection.execute(AssertSqlSafe(sample)).await?;
        }
    }
    drop(connection);
    check(&PostgresStore::open(&database.address().parse()?).await?).await
}

/// What the samples say, and that the store can go on from there.
async fn check(store: &impl Store) -> TestResult {
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
    let sqlite = names("sqlite")?;
    assert_eq!(sqlite, names("postgres")?, "both databases take the same steps");
    for migrations in [&SQLITE, &POSTGRES] {
        assert_eq!(
            sqlite.len(),
            migrations.iter().count(),
            "touch a source file of the crate: {sqlite:?}"
        );
        for (number, (name, migration)) in (1_i64..).zip(sqlite.iter().zip(migrations.iter())) {
            assert!(name.starts_with(&format!("{number:04}_")), "{name}");
            assert!(name.ends_with(".sql"), "{name}");
            assert_eq!(migration.version, number);
        }
    }
    Ok(())
}

fn names(dialect: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(format!("../../migrations/{dialect}"))? {
        names.push(entry?.file_name().into_string().map_err(|_| "a name in UTF-8")?);
    }
    names.sort();
    Ok(names)
}
