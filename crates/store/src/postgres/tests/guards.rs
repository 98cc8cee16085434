//! What the database itself refuses, and rows that cannot be read.

use pipekeeper_engine::{Run, Snapshot};
use pipekeeper_model::RunId;
use sqlx::Executor as _;

use super::{TestDatabase, commit, delivery, finish};
use crate::{DeliveryId, DeliveryOutcome, DeliverySettlement, RunFilter, Store as _, StoreError};

#[tokio::test]
async fn the_database_itself_keeps_terminal_states() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
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
        let refused = database.execute(sql).await.unwrap_err();
        assert!(refused.contains(reason), "{sql}: {refused}");
    }
    assert!(store.reopen_delivery(DeliveryId(1)).await.unwrap());
    store.close().await;
}

#[tokio::test]
async fn readers_cannot_write() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    let refused = store.readers.execute("DELETE FROM deliveries").await.unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    store.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_stops_nothing_else() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    for run in 1..=3 {
        let mut creation = commit(run, 0, 3);
        creation.snapshot = Some(Snapshot::from(&Run::new(RunId(run))));
        store.commit(creation).await.unwrap();
    }
    for sql in [
        "DROP TRIGGER events_never_change ON events",
        "UPDATE events SET body = '{\"at\":1}' WHERE run = 1 AND sequence = 2",
        "UPDATE snapshots SET body = '[]' WHERE run < 3",
        "UPDATE runs SET phase = 'odd', actor = 'nobody' WHERE id = 3",
    ] {
        database.execute(sql).await.unwrap();
    }
    let error = store.load(RunId(1)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { what, .. } if what == "event 2 of run 1"),
        "{error}"
    );
    let stored = store.load(RunId(2)).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.tail.len(), stored.snapshot), (3, 3, None));
    let runs = store.runs(&RunFilter::default(), 9).await.unwrap();
    assert_eq!(
        runs.iter().map(|run| run.id).collect::<Vec<_>>(),
        [RunId(2), RunId(1)]
    );
    let error = store.summary(RunId(3)).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt { what, .. } if what == "run 3"),
        "{error}"
    );
    store.close().await;
}
