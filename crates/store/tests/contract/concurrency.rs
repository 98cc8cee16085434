//! Many callers at once, callers that give up, and the end.

use futures_util::future::join_all;
use pipekeeper_model::{RunId, Timestamp};
use pipekeeper_store::{Accepted, CommitError, DeliveryId, Refusal, RunFilter, Store, StoreError};

use crate::{
    TestResult,
    data::{commit, delivery, ignored, launch, moved, name, nth_event},
};

pub(crate) async fn of_many_commits_to_one_version_one_wins(store: &impl Store) -> TestResult {
    for version in 0..10 {
        let commits = (0..20).map(|number| commit(1, version, vec![nth_event(number)]));
        let commits: Vec<_> = commits.collect::<Result<_, _>>()?;
        let results = join_all(commits.into_iter().map(|commit| store.commit(commit))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        let conflict = CommitError::Conflict {
            run: 1,
            expected: version,
        };
        assert!(
            results
                .into_iter()
                .filter_map(Result::err)
                .all(|error| error == conflict)
        );
    }
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!((stored.version, stored.tail.len()), (10, 10));
    Ok(())
}

pub(crate) async fn no_accepted_delivery_is_lost(store: &impl Store) -> TestResult {
    let deliveries = (0..1_000).map(|number| delivery(&number.to_string()));
    let deliveries: Vec<_> = deliveries.collect::<Result<_, _>>()?;
    let sent = deliveries.iter().cloned();
    let answers = join_all(sent.map(|delivery| store.accept_delivery(delivery))).await;
    for (answer, sent) in answers.into_iter().zip(&deliveries) {
        let Accepted::New(id) = answer? else {
            return Err("each is new".into());
        };
        let stored = store.delivery(id).await?.ok_or("it is stored")?;
        assert_eq!(stored.received, *sent);
    }
    assert_eq!(store.pending_deliveries(None, 2_000).await?.len(), 1_000);
    Ok(())
}

pub(crate) async fn copies_at_the_same_time_are_stored_once(store: &impl Store) -> TestResult {
    let copies = (0..100).map(|number| delivery(&(number % 10).to_string()));
    let copies: Vec<_> = copies.collect::<Result<_, _>>()?;
    let answers = join_all(copies.into_iter().map(|copy| store.accept_delivery(copy))).await;
    let answers: Vec<_> = answers.into_iter().collect::<Result<_, _>>()?;
    let mut new: Vec<DeliveryId> = Vec::new();
    let mut duplicates: Vec<DeliveryId> = Vec::new();
    for answer in answers {
        match answer {
            Accepted::New(id) => new.push(id),
            Accepted::Duplicate(id) => duplicates.push(id),
        }
    }
    new.sort_unstable();
    duplicates.sort_unstable();
    duplicates.dedup();
    assert_eq!(new.len(), 10);
    assert_eq!(new, duplicates);
    Ok(())
}

pub(crate) async fn a_caller_that_gives_up_leaves_nothing_half_done(store: &impl Store) -> TestResult {
    for run in 1..=50 {
        let mut creation = commit(run, 0, vec![nth_event(1), nth_event(2)])?;
        creation.effects = vec![launch(run, 1)];
        let mut asked = Box::pin(store.commit(creation));
        // Asked once and dropped: it happened, or it did not.
        let _given_up = futures_util::poll!(&mut asked);
        drop(asked);
    }
    // Writes are made in the order in which they were asked for, so this one comes after all of them.
    store.check().await?;
    let runs = store.runs(&RunFilter::default(), 100).await?;
    for summary in &runs {
        let stored = store.load(summary.id).await?.ok_or("it is stored")?;
        assert_eq!((stored.version, stored.tail.len()), (2, 2));
    }
    let effects = store.effects(None, 100).await?;
    assert_eq!(effects.len(), runs.len());
    Ok(())
}

pub(crate) async fn a_closed_store_refuses_everything(store: &impl Store) -> TestResult {
    store.commit(commit(1, 0, vec![nth_event(1)])?).await?;
    store.close().await;
    store.close().await;
    let closed = StoreError::Closed;
    assert_eq!(store.accept_delivery(delivery("x")?).await, Err(closed.clone()));
    assert_eq!(
        store.commit(commit(2, 0, Vec::new())?).await,
        Err(CommitError::Store(closed.clone()))
    );
    assert_eq!(
        store.commit_all(Vec::new()).await,
        Err(CommitError::Store(closed.clone()))
    );
    assert_eq!(
        store.settle_delivery(ignored(DeliveryId(1), None)).await,
        Err(closed.clone())
    );
    assert_eq!(store.reopen_delivery(DeliveryId(1)).await, Err(closed.clone()));
    assert_eq!(store.settle_effects(Vec::new()).await, Err(closed.clone()));
    assert_eq!(
        store.quarantine(RunId(1), String::new()).await,
        Err(closed.clone())
    );
    assert_eq!(store.check().await, Err(closed.clone()));
    let refusal = Refusal {
        project: name("mall")?,
        at: Timestamp(0),
        reason: String::new(),
    };
    assert_eq!(store.note_refusal(refusal).await, Err(closed.clone()));
    assert_eq!(store.load(RunId(1)).await.err(), Some(closed.clone()));
    assert_eq!(store.last_run().await, Err(closed.clone()));
    assert_eq!(store.summary(RunId(1)).await, Err(closed.clone()));
    assert_eq!(store.events(RunId(1), 0, 1).await, Err(closed.clone()));
    assert_eq!(store.effects(None, 1).await, Err(closed.clone()));
    assert_eq!(store.runs(&RunFilter::default(), 1).await, Err(closed.clone()));
    assert_eq!(store.refusals(&name("mall")?).await, Err(closed.clone()));
    assert_eq!(store.find_move(&moved('a', 'b')?).await, Err(closed.clone()));
    assert_eq!(store.delivery(DeliveryId(1)).await, Err(closed.clone()));
    assert_eq!(store.deliveries(None, None, 1).await, Err(closed.clone()));
    assert_eq!(store.pending_deliveries(None, 1).await, Err(closed));
    Ok(())
}
