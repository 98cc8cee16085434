//! Backups made while a server writes, put back, and the whole of it copied to Postgres.

#[path = "common/postgres.rs"]
mod database;

use std::{error::Error, fs};

use database::TestDatabase;
use futures_util::future::try_join_all;
use pipekeeper_engine::{AdoptedNode, Effect, Event, Fact};
use pipekeeper_model::{Actor, AttemptId, Digest, GitRef, Name, NodeId, Outcome, RunId, Timestamp};
use pipekeeper_store::{
    Accepted, AuditEntry, AuditFilter, BackupError, Change, Commit, CopyError, DeliveryId, DeliveryOutcome,
    DeliverySettlement, Expected, NewDelivery, NewRecord, PostgresStore, PostgresUrl, RecordKind, RefMove,
    Refusal, Registry, RunFilter, RunSummary, SqliteStore, Store, StoredRun, back_up_sqlite, copy,
    restore_sqlite,
};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

type Fallible<T> = Result<T, Box<dyn Error>>;

const RUNS: u64 = 40;

/// A text that tries whoever copies it.
const NASTY: &str = "\0 \u{1a} \"quoted\" 'single' é \u{1F680}";

/// A delivery with a run, and whatever else a store keeps, all of it with awkward texts.
async fn write(store: &SqliteStore, run: u64) -> Fallible<()> {
    let received = NewDelivery {
        project: "mall".parse()?,
        forge_id: format!("{run} {NASTY}"),
        event: "push".to_owned(),
        received_at: Timestamp(i64::MIN),
        body: (0..=255)
            .cycle()
            .take(if run == 1 { 5 << 20 } else { 300 })
            .collect(),
    };
    let (Accepted::New(delivery) | Accepted::Duplicate(delivery)) = store.accept_delivery(received).await?;
    store.commit(creation(run, delivery)?).await?;
    let result = AdoptedNode {
        attempt: attempt(run),
        outputs: [("text".to_owned(), NASTY.into())].into(),
        artifacts: Vec::new(),
    };
    store.remember(Digest::of(&run.to_be_bytes()), result).await?;
    let refusal = Refusal {
        project: "mall".parse()?,
        at: Timestamp(3),
        reason: NASTY.to_owned(),
    };
    store.note_refusal(refusal).await?;
    let (change, entry) = record(run)?;
    store.change(vec![change], vec![entry]).await?;
    Ok(())
}

fn attempt(run: u64) -> AttemptId {
    AttemptId {
        run: RunId(run),
        node: NodeId(0),
        number: 1,
    }
}

/// A run with three events and one effect that waits; every second one has ended.
fn creation(run: u64, delivery: DeliveryId) -> Fallible<Commit> {
    let id = RunId(run);
    let event = Event {
        at: Timestamp(1),
        actor: Actor::user(NASTY),
        fact: Fact::NodeReadied { node: NodeId(0) },
    };
    let moved = RefMove {
        project: "mall".parse()?,
        git_ref: GitRef::Branch(NASTY.to_owned()),
        before: None,
        after: Some("a".repeat(40).parse()?),
    };
    Ok(Commit {
        summary: RunSummary {
            id,
            project: "mall".parse()?,
            pipeline: "web".parse()?,
            event: "push".to_owned(),
            git_ref: Some(moved.git_ref.clone()),
            sha: moved.after.clone(),
            subject: NASTY.to_owned(),
            actor: Actor::user(NASTY),
            created_at: Timestamp(1),
            finished_at: run.is_multiple_of(2).then_some(Timestamp(2)),
            outcome: run.is_multiple_of(2).then_some(Outcome::Failed),
            phase: "running".to_owned(),
            needs_person: run.is_multiple_of(3),
            group: None,
            next_deadline: Some(Timestamp(i64::MAX)),
        },
        expected: 0,
        events: vec![event.clone(), event.clone(), event],
        snapshot: None,
        effects: vec![Effect::LaunchAttempt {
            attempt: attempt(run),
        }],
        settled: Vec::new(),
        delivery: Some(DeliverySettlement {
            delivery,
            outcome: DeliveryOutcome::Ran {
                runs: vec![id],
                notes: vec![NASTY.to_owned()],
            },
            moved: Some(moved),
        }),
    })
}

/// A record, and what the audit log says of it.
fn record(run: u64) -> Fallible<(Change, AuditEntry)> {
    let change = Change {
        kind: RecordKind::Document,
        name: format!("environment/{run}"),
        expected: Expected::Absent,
        to: Some(NewRecord {
            owner: "environment".to_owned(),
            body: format!("{NASTY:?}"),
            expires: None,
        }),
        author: Actor::user(NASTY),
        at: Timestamp(4),
    };
    let entry = AuditEntry {
        at: Timestamp(4),
        actor: Actor::user(NASTY),
        from: None,
        verb: "document.apply".to_owned(),
        subject: format!("document/{}", change.name),
        project: Some("mall".parse()?),
        before: None,
        after: Some("{}".to_owned()),
        reason: Some(NASTY.to_owned()),
    };
    Ok((change, entry))
}

/// Everything that a store shows, one line for each thing.
async fn everything(store: &(impl Store + Registry)) -> Fallible<Vec<String>> {
    let project: Name = "mall".parse()?;
    let mut all = Vec::new();
    for summary in store.runs(&RunFilter::default(), u32::MAX).await? {
        let StoredRun { tail, version, .. } = store.load(summary.id).await?.ok_or("a listed run")?;
        let kept = store.recall(&Digest::of(&summary.id.0.to_be_bytes())).await?;
        all.push(format!("{summary:?} {version} {tail:?} {kept:?}"));
    }
    for delivery in store.deliveries(None, None, u32::MAX).await? {
        all.push(format!("{:?}", store.delivery(delivery.id).await?));
    }
    let refusals = store.refusals(&project).await?;
    all.extend(refusals.iter().map(|refusal| format!("{refusal:?}")));
    let effects = store.effects(None, u32::MAX).await?;
    all.extend(effects.iter().map(|effect| format!("{effect:?}")));
    for record in store.records(RecordKind::Document, None).await? {
        let versions = store.versions(RecordKind::Document, &record.name).await?;
        all.push(format!("{record:?} {versions:?}"));
    }
    let audit = store.audit(&AuditFilter::default(), u32::MAX).await?;
    all.extend(audit.iter().map(|entry| format!("{entry:?}")));
    Ok(all)
}

#[tokio::test]
async fn a_backup_is_whole_while_a_server_writes() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let (database, backup) = (folder.path().join("pipe.db"), folder.path().join("backup.db"));
    let store = SqliteStore::open(&database).await?;
    for run in 1..=3 {
        write(&store, run).await?;
    }
    let writing = try_join_all((4..=RUNS).map(|run| write(&store, run)));
    let backing_up = async { Ok(back_up_sqlite(&database, &backup).await?) };
    tokio::try_join!(writing, backing_up)?;
    let again = back_up_sqlite(&database, &backup).await;
    assert!(matches!(again, Err(BackupError::Exists { .. })), "{again:?}");

    let restored = folder.path().join("restored.db");
    restore_sqlite(&backup, &restored).await?;
    let copy = SqliteStore::open(&restored).await?;
    let runs = copy.runs(&RunFilter::default(), u32::MAX).await?;
    assert!(runs.len() >= 3, "{runs:?}");
    let effects = copy.effects(None, u32::MAX).await?;
    for run in runs.iter().map(|run| run.id) {
        let (stored, original) = (copy.load(run).await?, store.load(run).await?);
        let tail = |stored: Option<StoredRun>| stored.map(|stored| stored.tail);
        assert_eq!(tail(stored), tail(original));
        assert!(effects.iter().any(|effect| effect.run == run));
    }
    let quiet = folder.path().join("quiet.db");
    back_up_sqlite(&database, &quiet).await?;
    let again = folder.path().join("again.db");
    restore_sqlite(&quiet, &again).await?;
    let whole = SqliteStore::open(&again).await?;
    assert_eq!(everything(&whole).await?, everything(&store).await?);
    whole.close().await;
    let taken = restore_sqlite(&backup, &restored).await;
    assert!(matches!(taken, Err(BackupError::Exists { .. })), "{taken:?}");
    copy.close().await;
    store.close().await;
    let mut left: Vec<_> = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    left.retain(|name| name.contains(".part"));
    assert_eq!(left, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_leaves_nothing() -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    let (backup, place) = (folder.path().join("backup.db"), folder.path().join("pipe.db"));
    fs::write(
        &backup,
        "a letter, quite long enough to be looked at ".repeat(200),
    )?;
    let refused = restore_sqlite(&backup, &place).await;
    assert!(
        matches!(
            refused,
            Err(BackupError::Database { .. } | BackupError::Damaged { .. })
        ),
        "{refused:?}"
    );
    fs::write(&backup, "")?;
    let refused = restore_sqlite(&backup, &place).await;
    assert!(matches!(refused, Err(BackupError::Damaged { .. })), "{refused:?}");
    let refused = restore_sqlite(&folder.path().join("none"), &place).await;
    assert!(matches!(refused, Err(BackupError::File { .. })), "{refused:?}");
    assert_eq!(fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

#[tokio::test]
async fn postgres_takes_all_of_it_once() -> Fallible<()> {
    let Some(database) = TestDatabase::make().await else {
        return Ok(());
    };
    let url: PostgresUrl = database.address().parse()?;
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("pipe.db")).await?;
    for run in 1..=RUNS {
        write(&store, run).await?;
    }
    let last = store.effects(None, u32::MAX).await?.pop().ok_or("effects wait")?;
    store.settle_effects(vec![last.effect.key()]).await?;
    let before = everything(&store).await?;

    let mut told = Vec::new();
    copy(&store, &url, |progress| told.push(progress)).await?;
    assert!(
        told.iter()
            .any(|one| one.table == "events" && one.rows == 3 * RUNS && one.of == 3 * RUNS),
        "{told:?}"
    );
    let copied = PostgresStore::open(&url).await?;
    assert_eq!(everything(&copied).await?, before);

    // It goes on where the old one was: no number comes twice, and what is settled is guarded again.
    write_on(&copied, last.sequence).await?;
    let again = copy(&store, &url, |_| {}).await;
    assert!(
        matches!(
            again,
            Err(CopyError::NotEmpty {
                table: "deliveries",
                ..
            })
        ),
        "{again:?}"
    );
    copied.close().await;
    store.close().await;
    Ok(())
}

async fn write_on(store: &PostgresStore, last_effect: u64) -> Fallible<()> {
    let run = store.summary(RunId(1)).await?.ok_or("a run")?;
    let received = NewDelivery {
        project: "mall".parse()?,
        forge_id: "new".to_owned(),
        event: "push".to_owned(),
        received_at: Timestamp(9),
        body: Vec::new(),
    };
    assert_eq!(
        store.accept_delivery(received).await?,
        Accepted::New(DeliveryId(RUNS + 1))
    );
    let mut commit = Commit {
        summary: run,
        expected: 3,
        events: Vec::new(),
        snapshot: None,
        effects: vec![Effect::AwaitTurn { run: RunId(1) }],
        settled: Vec::new(),
        delivery: None,
    };
    store.commit(commit.clone()).await?;
    let newest = store.effects(None, u32::MAX).await?.pop().ok_or("effects wait")?;
    assert!(newest.sequence > last_effect, "{newest:?}");
    commit.summary.id = RunId(2);
    assert!(
        store.commit(commit).await.is_err(),
        "a finished run stays finished"
    );
    Ok(())
}

#[tokio::test]
async fn every_table_is_copied() -> Fallible<()> {
    let Some(database) = TestDatabase::make().await else {
        return Ok(());
    };
    let url: PostgresUrl = database.address().parse()?;
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("pipe.db")).await?;
    let mut told = Vec::new();
    copy(&store, &url, |progress| told.push(progress.table)).await?;
    store.close().await;
    told.sort_unstable();
    told.dedup();
    let options: PgConnectOptions = database.address().parse()?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables \
         WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations' ORDER BY table_name",
    )
    .fetch_all(&mut options.connect().await?)
    .await?;
    assert_eq!(told, tables);
    Ok(())
}
