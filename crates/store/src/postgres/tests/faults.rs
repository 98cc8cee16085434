//! Faults from outside: connections that are cut, transactions that met others, one operation that fails.

use futures_util::future::join_all;
use pipekeeper_model::{Name, RunId, Timestamp};

use super::{TestDatabase, commit, delivery};
use crate::{Accepted, CommitError, Refusal, Store as _, StoreError};

#[tokio::test]
async fn a_cut_of_all_connections_is_not_noticed_by_who_comes_next() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    for run in 1..=5 {
        store.commit(commit(run, 0, 2)).await.unwrap();
        let reads = join_all((0..8).map(|_| store.load(RunId(run)))).await;
        assert!(reads.iter().all(Result::is_ok));
        database.cut_all().await;
        let reads = join_all((0..8).map(|_| store.load(RunId(run)))).await;
        assert!(reads.into_iter().all(|read| read.unwrap().is_some()));
        store.check().await.unwrap();
        database.cut_all().await;
    }
    store.close().await;
}

#[tokio::test]
async fn a_cut_while_many_write_loses_nothing_that_was_acknowledged() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    let writers = join_all((0..16).map(|writer| {
        let store = &store;
        async move {
            let mut stored = Vec::new();
            for number in 0..60 {
                let forge_id = format!("{writer}-{number}");
                match store.accept_delivery(delivery(&forge_id, 1_000)).await {
                    Ok(Accepted::New(id) | Accepted::Duplicate(id)) => stored.push((id, forge_id)),
                    Err(StoreError::Unavailable { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            stored
        }
    }));
    let cuts = async {
        for _ in 0..10 {
            database.cut_all().await;
        }
    };
    let (stored, ()) = tokio::join!(writers, cuts);
    let stored = stored.concat();
    assert!(stored.len() > 100, "{} were stored", stored.len());
    for (id, forge_id) in stored {
        let found = store.delivery(id).await.unwrap();
        assert_eq!(found.map(|found| found.received.forge_id), Some(forge_id));
    }
    store.check().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn who_meets_another_transaction_tries_again() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    for code in ["40001", "40P01"] {
        // Every twentieth event fails; a sequence counts those that were rolled back, too.
        let sql = format!(
            "DROP SEQUENCE IF EXISTS tries; CREATE SEQUENCE tries; \
             CREATE OR REPLACE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF nextval('tries') % 20 = 0 THEN RAISE EXCEPTION 'met another' USING ERRCODE = '{code}'; END IF; \
             RETURN NEW; END $$; \
             CREATE OR REPLACE TRIGGER meet BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION meet()"
        );
        database.execute(&sql).await.unwrap();
        let first = store.last_run().await.unwrap();
        let commits = (1..=60).map(|number| store.commit(commit(first + number, 0, 2)));
        for answer in join_all(commits).await {
            assert_eq!(answer, Ok(()));
        }
    }
    assert_eq!(database.count("SELECT count(*) FROM events").await, 240);
    assert_eq!(store.effects(None, 999).await.unwrap().len(), 120);
    store.close().await;
}

#[tokio::test]
async fn one_failing_operation_does_not_fail_its_neighbours() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    database
        .execute(
            "CREATE TRIGGER spoil BEFORE INSERT ON refusals FOR EACH ROW WHEN (NEW.reason = 'bad') \
             EXECUTE FUNCTION refuse('spoilt')",
        )
        .await
        .unwrap();
    let project: Name = "mall".parse().unwrap();
    let refusal = |number: i64| Refusal {
        project: project.clone(),
        at: Timestamp(number),
        reason: if number == 4 { "bad" } else { "good" }.to_owned(),
    };
    let noted = join_all((0..9).map(|number| store.note_refusal(refusal(number))));
    let committed = join_all((1..=9).map(|run| store.commit(commit(run, 0, 2))));
    let deliveries = (0..40).map(|number| store.accept_delivery(delivery(&number.to_string(), 10)));
    let (noted, committed, accepted) = tokio::join!(noted, committed, join_all(deliveries));
    let failed: Vec<_> = (0..).zip(&noted).filter(|(_, result)| result.is_err()).collect();
    let spoilt = Err(StoreError::Unavailable {
        reason: "spoilt".to_owned(),
    });
    assert_eq!(failed, [(4, &spoilt)]);
    assert_eq!(store.refusals(&project).await.unwrap().len(), 8);
    assert!(committed.iter().all(Result::is_ok));
    assert!(
        accepted
            .iter()
            .all(|answer| matches!(answer, Ok(Accepted::New(_))))
    );
    let both = tokio::join!(store.commit(commit(1, 0, 1)), store.commit(commit(10, 0, 1)));
    assert_eq!(both, (Err(CommitError::Conflict { run: 1, expected: 0 }), Ok(())));
    store.close().await;
}
