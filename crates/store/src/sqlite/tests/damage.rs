//! Rows that cannot be right: the database refuses to write them, and reading one stops nothing else.

use pipekeeper_engine::{Run, Snapshot};
use pipekeeper_model::RunId;

use super::{commit, delivery, execute, finish};
use crate::{
    DeliveryId, DeliveryOutcome, DeliverySettlement, RunFilter, SqliteStore, Store as _, StoreError,
};

#[tokio::test]
async fn the_database_itself_keeps_terminal_states() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    store.accept_delivery(delivery("x", 1)).await.unwrap();
    let settlement = DeliverySettlement {
        delivery: DeliveryId(1),
        outcome: DeliveryOutcome::Ignored {
            reason: "nothing matches".to_owned(),
        },
        moved: None,
    };
    store.settle_delivery(settlement).await.unwrap();
    store.commit(finish(1, 0)).await.unwrap();
    for (sql, reason) in [
        (
            "UPDATE runs SET outcome = 'failed'",
            "a finished run keeps its outcome",
        ),
        (
            "UPDATE runs SET outcome = NULL",
            "a finished run keeps its outcome",
        ),
        (
            "INSERT INTO events (run, sequence, version, body) VALUES (1, 2, 1, '{}')",
            "a finished run takes no events",
        ),
        ("UPDATE events SET body = '{}'", "an event never changes"),
        (
            "UPDATE deliveries SET outcome = '{}'",
            "a settled delivery keeps its outcome",
        ),
        (
            "UPDATE deliveries SET outcome = NULL",
            "a settled delivery keeps its outcome",
        ),
    ] {
        let refused = execute(&path, sql).await.unwrap_err();
        assert!(refused.contains(reason), "{sql}: {refused}");
    }
    assert!(store.reopen_delivery(DeliveryId(1)).await.unwrap());
    store.close().await;
}

#[tokio::test]
async fn an_unreadable_event_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    for run in 1..=3 {
        store.commit(commit(run, 0, 3)).await.unwrap();
    }
    for sql in [
        "DROP TRIGGER events_never_change",
        "UPDATE events SET body = '{\"at\":1}' WHERE run = 1 AND sequence = 2",
        "UPDATE events SET version = 2 WHERE run = 2 AND sequence = 3",
    ] {
        execute(&path, sql).await.unwrap();
    }
    for (run, event) in [(1, "event 2 of run 1"), (2, "event 3 of run 2")] {
        for error in [
            store.load(RunId(run)).await.map(|_| ()).unwrap_err(),
            store.events(RunId(run), 0, 9).await.map(|_| ()).unwrap_err(),
        ] {
            assert!(
                matches!(&error, StoreError::Corrupt { what, .. } if what == event),
                "{error}"
            );
        }
    }
    assert!(store.load(RunId(3)).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn events_stand_in_for_an_unreadable_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let mut creation = commit(1, 0, 3);
    creation.snapshot = Some(Snapshot::from(&Run::new(RunId(1))));
    store.commit(creation).await.unwrap();
    store.commit(commit(1, 3, 1)).await.unwrap();
    execute(&path, "UPDATE snapshots SET body = '[]'").await.unwrap();
    let stored = store.load(RunId(1)).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.tail.len(), stored.snapshot), (4, 4, None));
    store.close().await;
}

#[tokio::test]
async fn an_unreadable_row_is_left_out_of_lists() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe.db");
    let store = SqliteStore::open(&path).await.unwrap();
    for id in 1..=2 {
        store.commit(commit(id, 0, 1)).await.unwrap();
        store.accept_delivery(delivery(&id.to_string(), 1)).await.unwrap();
    }
    execute(
        &path,
        "UPDATE runs SET phase = 'odd', actor = 'nobody' WHERE id = 1",
    )
    .await
    .unwrap();
    execute(&path, "UPDATE deliveries SET project = '../x' WHERE id = 1")
        .await
        .unwrap();
    let runs = store.runs(&RunFilter::default(), 9).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [RunId(2)]);
    let pending = store.pending_deliveries(None, 9).await.unwrap();
    assert_eq!(
        pending.iter().map(|found| found.id).collect::<Vec<_>>(),
        [DeliveryId(2)]
    );
    let error = store.summary(RunId(1)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { what, .. } if what == "run 1"),
        "{error}"
    );
    let error = store.delivery(DeliveryId(1)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { what, .. } if what == "delivery 1"),
        "{error}"
    );
    store.close().await;
}
