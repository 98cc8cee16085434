//! The lease: one holder at a time, whose late writes are refused, and what servers hear of each other.

use std::time::Duration;

use pipekeeper_model::{Millis, RunId};
use tokio::sync::mpsc;

use super::{TestDatabase, commit, delivery};
use crate::{Claim, Claimed, CommitError, Epoch, Hint, Lease as _, PostgresStore, Store as _, StoreError};

/// Longer than any test.
const LONG: Millis = Millis::minutes(10);

async fn claim(store: &PostgresStore, holder: &str, held: Option<u64>, length: Millis) -> Claimed {
    let claim = Claim {
        holder: holder.to_owned(),
        held: held.map(Epoch),
        length,
    };
    store.claim(claim).await.unwrap()
}

fn held_by(holder: &str) -> Claimed {
    let holder = holder.to_owned();
    Claimed::Other { holder }
}

#[tokio::test]
async fn one_server_has_the_lease_until_it_gives_it_up_or_lets_it_run_out() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let (one, two) = (database.store().await, database.store().await);
    assert_eq!(claim(&one, "one", None, LONG).await, Claimed::Held(Epoch(1)));
    assert_eq!(claim(&two, "two", None, LONG).await, held_by("one"));
    assert_eq!(claim(&one, "one", Some(1), LONG).await, Claimed::Held(Epoch(1)));
    // A server that forgot what it had waits like any other.
    assert_eq!(claim(&one, "one", None, LONG).await, held_by("one"));
    one.release(Epoch(1)).await.unwrap();
    assert_eq!(claim(&two, "two", None, LONG).await, Claimed::Held(Epoch(2)));
    // What was given up twice is another's by then.
    one.release(Epoch(1)).await.unwrap();
    assert_eq!(claim(&one, "one", None, LONG).await, held_by("two"));
    assert_eq!(claim(&one, "one", Some(1), LONG).await, held_by("two"));
    // Nothing lasts no time.
    assert_eq!(claim(&one, "one", None, Millis(0)).await, Claimed::Held(Epoch(3)));
    // A clock that was set back keeps nobody out for long.
    database
        .execute("UPDATE records SET changed_at = changed_at + 3600000 WHERE kind = 'lease'")
        .await
        .unwrap();
    assert_eq!(claim(&two, "two", None, LONG).await, Claimed::Held(Epoch(4)));
}

#[tokio::test]
async fn of_servers_that_claim_at_the_same_time_one_gets_the_lease() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    let mut claims = tokio::task::JoinSet::new();
    for number in 0..24 {
        let store = if number % 8 == 0 {
            database.store().await
        } else {
            store.clone()
        };
        claims.spawn(async move { claim(&store, "any", None, LONG).await });
    }
    let answers = claims.join_all().await;
    let winners = answers
        .iter()
        .filter(|answer| **answer == Claimed::Held(Epoch(1)));
    assert_eq!(winners.count(), 1, "{answers:?}");
}

#[tokio::test]
async fn who_lost_the_lease_writes_nothing_more_as_its_holder() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let (one, two) = (database.store().await, database.store().await);
    claim(&one, "one", None, LONG).await;
    let performs = one.fenced(Epoch(1));
    performs.commit(commit(1, 0, 1)).await.unwrap();
    assert_eq!(claim(&two, "two", None, Millis(0)).await, Claimed::Held(Epoch(2)));
    let refused = performs.commit(commit(1, 1, 1)).await.unwrap_err();
    assert_eq!(refused, CommitError::Store(StoreError::Fenced));
    assert_eq!(performs.settle_effects(Vec::new()).await, Err(StoreError::Fenced));
    let quarantined = performs.quarantine(RunId(1), "no".to_owned()).await;
    assert_eq!(quarantined, Err(StoreError::Fenced));
    let found = one.stamp(RunId(1)).await.unwrap().unwrap();
    assert_eq!((found.version, found.quarantined), (1, None));
    // What any server may write, it may write too, and it may perform again with a new lease.
    one.commit(commit(1, 1, 1)).await.unwrap();
    assert_eq!(claim(&one, "one", None, Millis(0)).await, Claimed::Held(Epoch(3)));
    one.fenced(Epoch(3)).commit(commit(1, 2, 1)).await.unwrap();
    let late = two.fenced(Epoch(2)).commit(commit(1, 3, 1)).await;
    assert_eq!(late.unwrap_err(), CommitError::Store(StoreError::Fenced));
}

#[tokio::test]
async fn writes_of_old_and_new_holders_that_race_follow_the_order_of_the_claims() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let (one, two) = (database.store().await, database.store().await);
    claim(&one, "one", None, LONG).await;
    let performs = one.fenced(Epoch(1));
    let writing = tokio::spawn(async move {
        let mut version = 0;
        loop {
            match performs.commit(commit(1, version, 1)).await {
                Ok(()) => version += 1,
                Err(error) => return (version, error),
            }
        }
    });
    while one
        .stamp(RunId(1))
        .await
        .unwrap()
        .is_none_or(|stamp| stamp.version < 20)
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(claim(&two, "two", None, Millis(0)).await, Claimed::Held(Epoch(2)));
    let taken_over = two.stamp(RunId(1)).await.unwrap().unwrap().version;
    let (written, error) = writing.await.unwrap();
    assert_eq!(error, CommitError::Store(StoreError::Fenced));
    assert_eq!(
        written, taken_over,
        "the new holder saw everything that the old one wrote"
    );
}

/// The next hint that says something.
async fn heard(hints: &mut mpsc::Receiver<Hint>) -> Hint {
    loop {
        let hint = tokio::time::timeout(Duration::from_secs(20), hints.recv()).await;
        match hint.unwrap().unwrap() {
            Hint::Missed => {}
            hint @ (Hint::Run { .. } | Hint::Delivery) => return hint,
        }
    }
}

#[tokio::test]
async fn a_server_hears_what_others_store_and_not_what_it_stores_itself() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let (one, two) = (database.store().await, database.store().await);
    let mut hints = one.hints();
    // It listens from its first look at everything on.
    assert_eq!(hints.recv().await, Some(Hint::Missed));
    one.commit(commit(1, 0, 1)).await.unwrap();
    two.commit(commit(2, 0, 3)).await.unwrap();
    let run = Hint::Run {
        run: RunId(2),
        version: 3,
        added: 3,
    };
    assert_eq!(heard(&mut hints).await, run);
    two.accept_delivery(delivery("1", 1)).await.unwrap();
    assert_eq!(heard(&mut hints).await, Hint::Delivery);
    // After a broken connection it looks at everything, and hears again.
    while hints.try_recv().is_ok() {}
    database.cut_all().await;
    assert_eq!(hints.recv().await, Some(Hint::Missed));
    let mut version = 3;
    let again = loop {
        // The connections of the writer's pool broke as well; what says that it failed was not written.
        if two.commit(commit(2, version, 1)).await.is_ok() {
            version += 1;
        }
        if let Ok(Some(Hint::Run { run, .. })) =
            tokio::time::timeout(Duration::from_millis(50), hints.recv()).await
        {
            break run;
        }
        assert!(version < 400, "it hears nothing any more");
    };
    assert_eq!(again, RunId(2));
}
