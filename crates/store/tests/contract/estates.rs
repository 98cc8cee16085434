//! What ended runs left, and how it goes.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_engine::AdoptedNode;
use pipekeeper_model::{AttemptId, Bytes, Digest, Millis, NodeId, Outcome, RunId, Timestamp};
use pipekeeper_store::{
    AuditEntry, Change, DeliveryId, Estate, Estates, Expected, Gone, GoneWhy, Left, LeftFile, Loss,
    NewRecord, Part, RecordKind, Registry, RunFilter, Store, StoredEstate,
};

use crate::{
    TestResult,
    data::{accept, commit, delivery, finish, ignored, launch, moved, name, nth_event},
};

const AGED: Gone = Gone {
    at: Timestamp(7),
    why: GoneWhy::Age { after: Millis(1_000) },
};
const CROWDED: Gone = Gone {
    at: Timestamp(8),
    why: GoneWhy::Room { most: Bytes(9) },
};

async fn ended(store: &impl Store, run: u64) -> TestResult {
    store.commit(commit(run, 0, vec![nth_event(1)])?).await?;
    Ok(store.commit(finish(run, 1, Outcome::Succeeded)?).await?)
}

fn estate(run: u64) -> Estate {
    Estate {
        run: RunId(run),
        left: Left {
            log_bytes: run,
            files: vec![LeftFile {
                digest: Digest::of(b"web"),
                bytes: u64::MAX,
            }],
            adopts: BTreeSet::from([RunId(run - 1)]),
            promoted: true,
        },
    }
}

fn loss(run: u64, part: Part, gone: Gone) -> Loss {
    Loss {
        run: RunId(run),
        part,
        gone,
    }
}

pub(crate) async fn only_what_ended_leaves_one(store: &(impl Store + Estates)) -> TestResult {
    ended(store, 1).await?;
    store.commit(commit(2, 0, vec![nth_event(1)])?).await?;
    ended(store, 3).await?;
    assert_eq!(store.unfinished().await?, [RunId(2)]);
    assert_eq!(store.without_estate(None, 9).await?, [RunId(1), RunId(3)]);
    assert_eq!(store.without_estate(None, 1).await?, [RunId(1)]);
    assert_eq!(store.without_estate(Some(RunId(1)), 9).await?, [RunId(3)]);
    store.keep_estates(vec![estate(1), estate(2), estate(9)]).await?;
    assert_eq!(store.without_estate(None, 9).await?, [RunId(3)]);
    let kept = store.estate(RunId(1)).await?.ok_or("it is kept")?;
    assert_eq!(kept.left, estate(1).left);
    assert_eq!((kept.logs_gone, kept.artifacts_gone), (None, None));
    assert_eq!(Some(kept.run), store.summary(RunId(1)).await?);
    assert_eq!(store.estate(RunId(2)).await?, None, "it has not ended");
    let mut other = estate(1);
    other.left.log_bytes = 99;
    store.keep_estates(vec![other, estate(3)]).await?;
    let all = store.estates(None, 9).await?;
    let found: Vec<_> = all.iter().map(|one| (one.run.id.0, one.left.log_bytes)).collect();
    assert_eq!(
        found,
        [(3, 3), (1, 1)],
        "the newest first, and the first word stands"
    );
    assert_eq!(store.estates(Some(RunId(3)), 9).await?.len(), 1);
    assert_eq!(store.estates(None, 1).await?.len(), 1);
    store.quarantine(RunId(2), "it is broken".to_owned()).await?;
    assert_eq!(store.unfinished().await?, [RunId(2)], "it may still name files");
    Ok(())
}

pub(crate) async fn parts_go_once_and_successes_with_them(store: &(impl Store + Estates)) -> TestResult {
    for run in 1..=2 {
        ended(store, run).await?;
        let attempt = AttemptId {
            run: RunId(run),
            node: NodeId(0),
            number: 1,
        };
        let result = AdoptedNode {
            attempt,
            outputs: BTreeMap::new(),
            artifacts: Vec::new(),
        };
        store.remember(Digest::of(&[u8::try_from(run)?]), result).await?;
    }
    store.keep_estates(vec![estate(1), estate(2)]).await?;
    store.give_up(vec![loss(1, Part::Logs, AGED)]).await?;
    assert!(
        store.recall(&Digest::of(&[1])).await?.is_some(),
        "its artifacts are kept"
    );
    store
        .give_up(vec![
            loss(1, Part::Logs, CROWDED),
            loss(1, Part::Artifacts, CROWDED),
            loss(7, Part::Logs, AGED),
        ])
        .await?;
    let kept = store.estate(RunId(1)).await?.ok_or("it is kept")?;
    assert_eq!((kept.logs_gone, kept.artifacts_gone), (Some(AGED), Some(CROWDED)));
    assert_eq!(store.recall(&Digest::of(&[1])).await?, None);
    assert!(store.recall(&Digest::of(&[2])).await?.is_some());
    Ok(())
}

pub(crate) async fn ended_runs_go_whole(store: &(impl Store + Estates + Registry)) -> TestResult {
    ended(store, 1).await?;
    store.commit(commit(2, 0, vec![nth_event(1)])?).await?;
    let mut waits = finish(3, 0, Outcome::Failed)?;
    waits.effects = vec![launch(3, 0)];
    store.commit(waits).await?;
    ended(store, 4).await?;
    store.keep_estates(vec![estate(1), estate(4)]).await?;
    let audit = AuditEntry {
        at: Timestamp(1),
        actor: pipekeeper_model::Actor::System,
        from: None,
        verb: "run.cancel".to_owned(),
        subject: "run/1".to_owned(),
        project: Some(name("mall")?),
        before: None,
        after: None,
        reason: None,
    };
    store.change(Vec::new(), vec![audit]).await?;
    let all = (1..=5).map(RunId).collect::<Vec<_>>();
    assert_eq!(
        store.remove_runs(all.clone()).await?,
        1,
        "one runs, of one an effect waits, and the last is counted from"
    );
    assert!(store.load(RunId(1)).await?.is_none());
    assert!(store.events(RunId(1), 0, 9).await?.is_empty());
    assert_eq!(store.estate(RunId(1)).await?, None);
    assert_eq!(store.runs(&RunFilter::default(), 9).await?.len(), 3);
    assert_eq!(store.last_run().await?, 4);
    assert_eq!(
        store.audit(&Default::default(), 9).await?.len(),
        1,
        "the audit log stays"
    );
    assert_eq!(store.remove_runs(all).await?, 0);
    Ok(())
}

pub(crate) async fn what_somebody_keeps_stays_whoever_has_judged_it(
    store: &(impl Store + Estates + Registry),
) -> TestResult {
    for run in 1..=3 {
        ended(store, run).await?;
    }
    store.keep_estates(vec![estate(1), estate(2)]).await?;
    let keep = |to: Option<NewRecord>| Change {
        kind: RecordKind::KeptRun,
        name: "1".to_owned(),
        expected: Expected::Any,
        to,
        author: pipekeeper_model::Actor::System,
        at: Timestamp(1),
    };
    let record = NewRecord {
        owner: "mall".to_owned(),
        body: "null".to_owned(),
        expires: None,
    };
    store.change(vec![keep(Some(record))], Vec::new()).await?;
    let losses = || [1, 2].map(|run| loss(run, Part::Logs, AGED)).to_vec();
    store.give_up(losses()).await?;
    let gone = |estate: Option<StoredEstate>| estate.and_then(|estate| estate.logs_gone);
    assert_eq!(gone(store.estate(RunId(1)).await?), None);
    assert_eq!(gone(store.estate(RunId(2)).await?), Some(AGED));
    assert_eq!(store.remove_runs(vec![RunId(1), RunId(2)]).await?, 1);
    assert!(store.load(RunId(1)).await?.is_some());
    store.change(vec![keep(None)], Vec::new()).await?;
    store.give_up(losses()).await?;
    assert_eq!(gone(store.estate(RunId(1)).await?), Some(AGED));
    assert_eq!(store.remove_runs(vec![RunId(1)]).await?, 1);
    Ok(())
}

pub(crate) async fn old_deliveries_go_but_the_ledger_stays_true(
    store: &(impl Store + Estates),
) -> TestResult {
    let first = accept(store, "1").await?;
    let second = accept(store, "2").await?;
    let waiting = accept(store, "3").await?;
    let mut late = delivery("4")?;
    late.received_at = Timestamp(late.received_at.0 + 10);
    store.accept_delivery(late.clone()).await?;
    store
        .settle_delivery(ignored(first, Some(moved('.', 'a')?)))
        .await?;
    store
        .settle_delivery(ignored(second, Some(moved('a', 'b')?)))
        .await?;
    store.settle_delivery(ignored(DeliveryId(4), None)).await?;
    let mall = name("mall")?;
    assert_eq!(
        store
            .remove_deliveries(&name("other")?, late.received_at, 9)
            .await?,
        0
    );
    assert_eq!(store.remove_deliveries(&mall, late.received_at, 9).await?, 1);
    assert!(store.delivery(first).await?.is_none());
    assert_eq!(store.find_move(&moved('.', 'a')?).await?, None);
    assert_eq!(
        store.find_move(&moved('a', 'b')?).await?,
        Some(second),
        "where the ref is stays known"
    );
    assert!(store.delivery(waiting).await?.is_some(), "it is not settled");
    assert!(store.delivery(DeliveryId(4)).await?.is_some(), "it is not old");
    Ok(())
}
