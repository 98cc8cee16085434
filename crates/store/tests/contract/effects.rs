//! Effects: kept in order until they are settled.

use pipekeeper_engine::Effect;
use pipekeeper_model::{Outcome, RunId};
use pipekeeper_store::{RunFilter, Store, StoredEffect};

use crate::{
    TestResult,
    data::{commit, finish, launch, nth_event},
};

fn bodies(effects: &[StoredEffect]) -> Vec<Effect> {
    effects.iter().map(|stored| stored.effect.clone()).collect()
}

pub(crate) async fn they_come_in_order_after_a_cursor(store: &impl Store) -> TestResult {
    store.commit(commit(1, 0, vec![nth_event(1)])?).await?;
    let mut first = commit(2, 0, vec![nth_event(1)])?;
    first.effects = (1..=12).rev().map(|node| launch(2, node)).collect();
    let mut wanted = first.effects.clone();
    store.commit(first).await?;
    let mut second = finish(1, 1, Outcome::Failed)?;
    second.effects = vec![Effect::Notify {
        run: RunId(1),
        outcome: Outcome::Failed,
    }];
    wanted.extend(second.effects.clone());
    store.commit(second).await?;

    let page = store.effects(None, 5).await?;
    let rest = store
        .effects(page.last().map(|effect| effect.sequence), 100)
        .await?;
    assert_eq!(page.len(), 5);
    let all = [page, rest].concat();
    assert_eq!(bodies(&all), wanted);
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    assert_eq!(all.last().map(|effect| effect.run), Some(RunId(1)));
    Ok(())
}

pub(crate) async fn one_key_waits_once(store: &impl Store) -> TestResult {
    let mut creation = commit(1, 0, vec![nth_event(1)])?;
    creation.effects = vec![launch(1, 1), launch(1, 2), launch(1, 1)];
    store.commit(creation).await?;
    let mut again = commit(1, 1, vec![nth_event(2)])?;
    again.effects = vec![launch(1, 1), launch(1, 3)];
    store.commit(again).await?;
    let waiting = store.effects(None, 10).await?;
    assert_eq!(bodies(&waiting), [launch(1, 1), launch(1, 2), launch(1, 3)]);
    Ok(())
}

pub(crate) async fn a_settled_key_may_come_again_in_the_same_commit(store: &impl Store) -> TestResult {
    let mut creation = commit(1, 0, vec![nth_event(1)])?;
    creation.effects = vec![launch(1, 1), launch(1, 2)];
    store.commit(creation).await?;
    let last = store
        .effects(None, 10)
        .await?
        .last()
        .map(|effect| effect.sequence);
    let mut again = commit(1, 1, vec![nth_event(2)])?;
    again.settled = vec![launch(1, 1).key(), launch(9, 9).key()];
    again.effects = vec![launch(1, 1)];
    store.commit(again).await?;
    assert_eq!(
        bodies(&store.effects(None, 10).await?),
        [launch(1, 2), launch(1, 1)]
    );
    assert_eq!(
        bodies(&store.effects(last, 10).await?),
        [launch(1, 1)],
        "it has a new number"
    );
    Ok(())
}

pub(crate) async fn they_are_settled_without_their_run(store: &impl Store) -> TestResult {
    let mut creation = commit(1, 0, vec![nth_event(1)])?;
    creation.effects = vec![launch(1, 1), launch(1, 2), launch(1, 3)];
    store.commit(creation).await?;
    let keys = vec![launch(1, 1).key(), launch(1, 3).key(), launch(9, 9).key()];
    store.settle_effects(keys.clone()).await?;
    store.settle_effects(keys).await?;
    store.settle_effects(Vec::new()).await?;
    assert_eq!(bodies(&store.effects(None, 10).await?), [launch(1, 2)]);
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(stored.version, 1);
    Ok(())
}

pub(crate) async fn quarantine_hides_them(store: &impl Store) -> TestResult {
    for run in [1, 2] {
        let mut creation = commit(run, 0, vec![nth_event(1)])?;
        creation.effects = vec![launch(run, 1)];
        store.commit(creation).await?;
    }
    store
        .quarantine(RunId(1), "the engine panicked".to_owned())
        .await?;
    store.quarantine(RunId(1), "again".to_owned()).await?;
    assert_eq!(bodies(&store.effects(None, 10).await?), [launch(2, 1)]);
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(stored.quarantined.as_deref(), Some("the engine panicked"));
    let other = store.load(RunId(2)).await?.ok_or("it is stored")?;
    assert_eq!(other.quarantined, None);
    let active = RunFilter {
        active: true,
        ..RunFilter::default()
    };
    let ids: Vec<RunId> = store.runs(&active, 10).await?.iter().map(|run| run.id).collect();
    assert_eq!(ids, [RunId(2)], "a run that was set aside stands in nobody's way");
    assert_eq!(
        store.runs(&RunFilter::default(), 10).await?.len(),
        2,
        "and is still listed"
    );
    Ok(())
}
