//! Runs: optimistic commits, snapshots, terminal states, lists.

use std::collections::BTreeSet;

use pipekeeper_engine::{Fact, Run, Snapshot};
use pipekeeper_model::{Actor, GitRef, NodeId, Outcome, RunId, Timestamp};
use pipekeeper_store::{Commit, CommitError, RunFilter, RunSummary, Store};

use crate::{
    TestResult,
    data::{commit, event, finish, finished, launch, name, nth_event, sha, summary},
};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

pub(crate) async fn a_run_is_created_and_goes_on(store: &impl Store) -> TestResult {
    assert_eq!(store.last_run().await?, 0);
    store
        .commit(commit(7, 0, vec![nth_event(1), nth_event(2)])?)
        .await?;
    store.commit(commit(7, 2, vec![nth_event(3)])?).await?;
    let mut quiet = commit(7, 3, Vec::new())?;
    quiet.summary.needs_person = true;
    store.commit(quiet).await?;

    let stored = store.load(RunId(7)).await?.ok_or("it is stored")?;
    assert_eq!(stored.version, 3);
    assert_eq!(stored.tail, [nth_event(1), nth_event(2), nth_event(3)]);
    assert_eq!(stored.snapshot, None);
    assert_eq!(stored.quarantined, None);
    let shown = store.summary(RunId(7)).await?.ok_or("it is stored")?;
    assert_eq!(
        shown,
        RunSummary {
            needs_person: true,
            ..summary(7)?
        }
    );
    assert_eq!(store.last_run().await?, 7);
    Ok(())
}

pub(crate) async fn a_run_is_created_once(store: &impl Store) -> TestResult {
    store.commit(commit(1, 0, vec![nth_event(1)])?).await?;
    let mut again = commit(1, 0, vec![nth_event(2)])?;
    again.effects = vec![launch(1, 1)];
    let conflict = Err(CommitError::Conflict { run: 1, expected: 0 });
    assert_eq!(store.commit(again).await, conflict);
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(stored.tail, [nth_event(1)]);
    assert!(store.effects(None, 10).await?.is_empty());
    Ok(())
}

pub(crate) async fn a_new_run_comes_after_all_others(store: &impl Store) -> TestResult {
    store.commit(commit(5, 0, vec![nth_event(1)])?).await?;
    let late = store.commit(commit(4, 0, vec![nth_event(1)])?).await;
    assert_eq!(late, Err(CommitError::Conflict { run: 4, expected: 0 }));
    assert!(store.load(RunId(4)).await?.is_none());
    store.commit(commit(7, 0, vec![nth_event(1)])?).await?;
    Ok(())
}

pub(crate) async fn active_runs_are_listed_with_their_versions(store: &impl Store) -> TestResult {
    for run in 1..=3 {
        store.commit(commit(run, 0, vec![nth_event(1)])?).await?;
    }
    store
        .commit(commit(3, 1, vec![nth_event(2), nth_event(3)])?)
        .await?;
    assert_eq!(
        store.active().await?,
        [(RunId(1), 1), (RunId(2), 1), (RunId(3), 3)]
    );
    store.commit(finish(1, 1, Outcome::Failed)?).await?;
    store.quarantine(RunId(2), "it cannot be read".to_owned()).await?;
    assert_eq!(store.active().await?, [(RunId(3), 3)]);
    Ok(())
}

pub(crate) async fn an_unknown_run_cannot_go_on(store: &impl Store) -> TestResult {
    let conflict = Err(CommitError::Conflict { run: 1, expected: 3 });
    assert_eq!(store.commit(commit(1, 3, vec![nth_event(1)])?).await, conflict);
    assert!(store.load(RunId(1)).await?.is_none());
    Ok(())
}

pub(crate) async fn a_stale_commit_changes_nothing(store: &impl Store) -> TestResult {
    store
        .commit(commit(1, 0, vec![nth_event(1), nth_event(2)])?)
        .await?;
    let before = store.summary(RunId(1)).await?;
    for expected in [1, 3] {
        let mut stale = commit(1, expected, vec![nth_event(9)])?;
        stale.effects = vec![launch(1, 1)];
        stale.snapshot = Some(Snapshot::from(&Run::new(RunId(1))));
        stale.summary.phase = "stopping".to_owned();
        let conflict = Err(CommitError::Conflict { run: 1, expected });
        assert_eq!(store.commit(stale).await, conflict);
    }
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(
        (stored.version, stored.tail),
        (2, vec![nth_event(1), nth_event(2)])
    );
    assert_eq!(stored.snapshot, None);
    assert_eq!(store.summary(RunId(1)).await?, before);
    assert!(store.effects(None, 10).await?.is_empty());
    Ok(())
}

pub(crate) async fn events_come_in_order_and_in_pages(store: &impl Store) -> TestResult {
    let events: Vec<_> = (1..=30).map(nth_event).collect();
    store.commit(commit(1, 0, events.clone())?).await?;
    store.commit(commit(1, 30, vec![nth_event(31)])?).await?;
    let numbered: Vec<_> = (1_u64..).zip((1..=31).map(nth_event)).collect();
    let first = store.events(RunId(1), 0, 20).await?;
    let rest = store.events(RunId(1), 20, 20).await?;
    assert_eq!((first.len(), rest.len()), (20, 11));
    assert_eq!([first, rest].concat(), numbered);
    assert!(store.events(RunId(1), 31, 20).await?.is_empty());
    assert!(store.events(RunId(1), u64::MAX, 20).await?.is_empty());
    Ok(())
}

pub(crate) async fn texts_survive_unchanged(store: &impl Store) -> TestResult {
    let nasty = "\0 \u{1b}[31m \"quoted\" \\ 'single'; DROP TABLE runs; -- \u{1F680} \u{202e} é\r\n\u{7f}";
    let rejected = event(Fact::GateRejected {
        node: NodeId(u32::MAX),
        comment: Some(nasty.to_owned()),
        person: None,
    });
    let mut creation = commit(1, 0, vec![rejected.clone(), nth_event(1)])?;
    creation.summary.subject = nasty.to_owned();
    creation.summary.group = Some(nasty.to_owned());
    creation.summary.actor = Actor::user(nasty);
    creation.summary.git_ref = Some(GitRef::Tag(nasty.to_owned()));
    creation.summary.created_at = Timestamp(i64::MIN);
    let expected = creation.summary.clone();
    store.commit(creation).await?;
    assert_eq!(store.summary(RunId(1)).await?, Some(expected));
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(stored.tail, [rejected, nth_event(1)]);
    Ok(())
}

pub(crate) async fn a_snapshot_cuts_the_tail(store: &impl Store) -> TestResult {
    let snapshot = Snapshot::from(&Run::new(RunId(1)));
    let mut creation = commit(1, 0, vec![nth_event(1), nth_event(2)])?;
    creation.snapshot = Some(snapshot.clone());
    store.commit(creation).await?;
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!((stored.version, stored.tail.len()), (2, 0));
    assert_eq!(stored.snapshot.as_ref(), Some(&snapshot));

    store.commit(commit(1, 2, vec![nth_event(3)])?).await?;
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!((stored.version, stored.tail), (3, vec![nth_event(3)]));
    assert_eq!(stored.snapshot, Some(snapshot));
    assert_eq!(
        store.events(RunId(1), 0, 10).await?.len(),
        3,
        "no event is forgotten"
    );
    Ok(())
}

pub(crate) async fn a_newer_snapshot_replaces_the_older(store: &impl Store) -> TestResult {
    // The ids tell the snapshots apart.
    for version in 0..3 {
        let mut step = commit(1, version, vec![nth_event(1)])?;
        step.snapshot = Some(Snapshot::from(&Run::new(RunId(version))));
        store.commit(step).await?;
    }
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(stored.snapshot, Some(Snapshot::from(&Run::new(RunId(2)))));
    assert_eq!((stored.version, stored.tail.len()), (3, 0));
    Ok(())
}

pub(crate) async fn a_finished_run_stays_finished(store: &impl Store) -> TestResult {
    store.commit(commit(1, 0, vec![nth_event(1)])?).await?;
    let mut end = finish(1, 1, Outcome::Failed)?;
    end.effects = vec![launch(1, 1)];
    store.commit(end).await?;
    let before = store.summary(RunId(1)).await?;

    let reopened = commit(1, 2, Vec::new())?;
    let other_end = Commit {
        events: Vec::new(),
        ..finish(1, 2, Outcome::Succeeded)?
    };
    let more = Commit {
        events: vec![nth_event(2)],
        ..finish(1, 2, Outcome::Failed)?
    };
    for refused in [reopened, other_end, more, finish(1, 2, Outcome::Failed)?] {
        assert_eq!(store.commit(refused).await, Err(CommitError::Finished { run: 1 }));
    }
    assert_eq!(store.summary(RunId(1)).await?, before);

    // What its end asked for may still be settled beside it.
    let mut settled = finish(1, 2, Outcome::Failed)?;
    settled.events.clear();
    settled.settled = vec![launch(1, 1).key()];
    store.commit(settled).await?;
    assert!(store.effects(None, 10).await?.is_empty());
    let stored = store.load(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(stored.tail, [nth_event(1), finished(Outcome::Failed)]);
    Ok(())
}

pub(crate) async fn a_run_may_be_created_finished(store: &impl Store) -> TestResult {
    let mut skipped = finish(1, 0, Outcome::Skipped)?;
    skipped.events.insert(0, nth_event(1));
    store.commit(skipped).await?;
    let shown = store.summary(RunId(1)).await?.ok_or("it is stored")?;
    assert_eq!(shown.outcome, Some(Outcome::Skipped));
    assert_eq!(store.events(RunId(1), 0, 10).await?.len(), 2);
    Ok(())
}

pub(crate) async fn what_a_run_is_does_not_change(store: &impl Store) -> TestResult {
    store.commit(commit(1, 0, vec![nth_event(1)])?).await?;
    let mut other = finish(1, 1, Outcome::Lost)?;
    other.summary.project = name("shop")?;
    other.summary.pipeline = name("docs")?;
    other.summary.event = "tag".to_owned();
    other.summary.git_ref = None;
    other.summary.sha = None;
    other.summary.subject = String::new();
    other.summary.actor = Actor::System;
    other.summary.created_at = Timestamp(0);
    other.summary.group = Some("g".to_owned());
    store.commit(other).await?;
    let expected = finish(1, 1, Outcome::Lost)?.summary;
    assert_eq!(store.summary(RunId(1)).await?, Some(expected));
    Ok(())
}

pub(crate) async fn a_list_of_commits_names_each_run_once(store: &impl Store) -> TestResult {
    let twice = vec![
        commit(1, 0, vec![nth_event(1)])?,
        commit(1, 1, vec![nth_event(2)])?,
    ];
    let conflict = Err(CommitError::Conflict { run: 1, expected: 1 });
    assert_eq!(store.commit_all(twice).await, conflict);
    assert!(store.load(RunId(1)).await?.is_none());
    store.commit_all(Vec::new()).await?;
    Ok(())
}

pub(crate) async fn a_refused_commit_takes_the_others_with_it(store: &impl Store) -> TestResult {
    store.commit(finish(1, 0, Outcome::Succeeded)?).await?;
    let mut first = commit(2, 0, vec![nth_event(1)])?;
    first.effects = vec![launch(2, 1)];
    let refused = vec![first, commit(1, 1, vec![nth_event(2)])?];
    assert_eq!(
        store.commit_all(refused).await,
        Err(CommitError::Finished { run: 1 })
    );
    assert!(store.load(RunId(2)).await?.is_none());
    assert!(store.effects(None, 10).await?.is_empty());
    Ok(())
}

async fn ids(store: &impl Store, filter: RunFilter) -> Fallible<Vec<u64>> {
    let found = store.runs(&filter, 100).await?;
    Ok(found.into_iter().map(|summary| summary.id.0).collect())
}

/// Six runs of two projects, pipelines, commits and groups; the first two have ended.
async fn commit_six(store: &impl Store) -> TestResult {
    for id in 1..=6 {
        let mut creation = match id {
            1 | 2 => finish(id, 0, Outcome::Succeeded)?,
            _ => commit(id, 0, vec![nth_event(1)])?,
        };
        let summary = &mut creation.summary;
        summary.project = name(if id % 2 == 0 { "mall" } else { "shop" })?;
        summary.pipeline = name(if id > 3 { "web" } else { "docs" })?;
        summary.sha = if id == 5 {
            None
        } else {
            Some(sha(if id < 3 { 'a' } else { 'b' })?)
        };
        summary.group = (id > 1).then(|| if id < 5 { "one" } else { "two" }.to_owned());
        store.commit(creation).await?;
    }
    Ok(())
}

pub(crate) async fn lists_are_filtered(store: &impl Store) -> TestResult {
    commit_six(store).await?;
    let all = RunFilter::default;
    let mall = BTreeSet::from([name("mall")?]);
    let group = Some("one".to_owned());
    assert_eq!(ids(store, all()).await?, [6, 5, 4, 3, 2, 1]);
    assert_eq!(
        ids(
            store,
            RunFilter {
                projects: Some(mall.clone()),
                ..all()
            }
        )
        .await?,
        [6, 4, 2]
    );
    assert_eq!(
        ids(
            store,
            RunFilter {
                pipeline: Some(name("web")?),
                ..all()
            }
        )
        .await?,
        [6, 5, 4]
    );
    assert_eq!(
        ids(
            store,
            RunFilter {
                sha: Some(sha('a')?),
                ..all()
            }
        )
        .await?,
        [2, 1]
    );
    assert_eq!(
        ids(
            store,
            RunFilter {
                group: group.clone(),
                ..all()
            }
        )
        .await?,
        [4, 3, 2]
    );
    assert_eq!(
        ids(
            store,
            RunFilter {
                active: true,
                ..all()
            }
        )
        .await?,
        [6, 5, 4, 3]
    );
    let narrow = RunFilter {
        projects: Some(mall.clone()),
        pipeline: Some(name("web")?),
        sha: Some(sha('b')?),
        active: true,
        group,
        before: Some(RunId(6)),
    };
    assert_eq!(ids(store, narrow).await?, [4]);
    Ok(())
}

pub(crate) async fn lists_may_be_of_several_projects(store: &impl Store) -> TestResult {
    commit_six(store).await?;
    let [mall, shop] = [name("mall")?, name("shop")?];
    for (projects, shown) in [(vec![mall, shop], 6), (vec![], 0)] {
        let filter = RunFilter {
            projects: Some(BTreeSet::from_iter(projects)),
            ..RunFilter::default()
        };
        assert_eq!(ids(store, filter).await?.len(), shown);
    }
    Ok(())
}

pub(crate) async fn lists_are_paged(store: &impl Store) -> TestResult {
    for id in 1..=5 {
        store.commit(commit(id, 0, vec![nth_event(1)])?).await?;
    }
    let mut filter = RunFilter::default();
    let mut seen = Vec::new();
    loop {
        let page = store.runs(&filter, 2).await?;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.iter().map(|summary| summary.id.0));
    }
    assert_eq!(seen, [5, 4, 3, 2, 1]);
    Ok(())
}

pub(crate) async fn unknown_things_are_none(store: &impl Store) -> TestResult {
    for unknown in [0, 1, u64::MAX] {
        assert!(store.load(RunId(unknown)).await?.is_none());
        assert!(store.summary(RunId(unknown)).await?.is_none());
        assert!(store.events(RunId(unknown), 0, 10).await?.is_empty());
        assert!(
            store
                .delivery(pipekeeper_store::DeliveryId(unknown))
                .await?
                .is_none()
        );
        store.quarantine(RunId(unknown), "none".to_owned()).await?;
    }
    store.check().await?;
    Ok(())
}
