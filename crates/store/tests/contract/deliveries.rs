//! Deliveries: stored once, settled once, listed.

use pipekeeper_model::{RunId, Timestamp};
use pipekeeper_store::{
    Accepted, CommitError, DeliveryId, DeliveryOutcome, DeliverySettlement, NewDelivery, Refusal, Store,
};

use crate::{
    TestResult,
    data::{accept, commit, delivery, ignored, moved, name, nth_event},
};

pub(crate) async fn one_is_stored_once_per_project_and_forge_id(store: &impl Store) -> TestResult {
    let first = store.accept_delivery(delivery("x")?).await?;
    let Accepted::New(id) = first else {
        return Err("the first is new".into());
    };
    let mut copy = delivery("x")?;
    copy.body = b"other bytes".to_vec();
    assert_eq!(store.accept_delivery(copy).await?, Accepted::Duplicate(id));
    assert_eq!(
        store.delivery(id).await?.map(|stored| stored.received),
        Some(delivery("x")?)
    );

    let elsewhere = NewDelivery {
        project: name("shop")?,
        ..delivery("x")?
    };
    assert!(matches!(store.accept_delivery(elsewhere).await?, Accepted::New(other) if other > id));
    Ok(())
}

pub(crate) async fn bodies_come_back_byte_for_byte(store: &impl Store) -> TestResult {
    for (forge_id, body) in [
        ("empty", Vec::new()),
        ("binary", (0..=255).collect()),
        ("big", vec![b'x'; 3 << 20]),
    ] {
        let mut received = delivery(forge_id)?;
        received.body = body;
        let Accepted::New(id) = store.accept_delivery(received.clone()).await? else {
            return Err("it is new".into());
        };
        let stored = store.delivery(id).await?.ok_or("it is stored")?;
        assert_eq!(stored.received, received);
        assert_eq!(stored.outcome, None);
    }
    Ok(())
}

pub(crate) async fn the_first_settlement_stands(store: &impl Store) -> TestResult {
    let id = accept(store, "x").await?;
    store.settle_delivery(ignored(id, None)).await?;
    let later = DeliverySettlement {
        delivery: id,
        outcome: DeliveryOutcome::Errored {
            reason: "too late".to_owned(),
        },
        moved: Some(moved('a', 'b')?),
    };
    store.settle_delivery(later).await?;
    let stored = store.delivery(id).await?.ok_or("it is stored")?;
    assert_eq!(stored.outcome, Some(ignored(id, None).outcome));
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, None);
    Ok(())
}

pub(crate) async fn settling_an_unknown_one_changes_nothing(store: &impl Store) -> TestResult {
    store
        .settle_delivery(ignored(DeliveryId(99), Some(moved('a', 'b')?)))
        .await?;
    assert_eq!(store.delivery(DeliveryId(99)).await?, None);
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, None);
    Ok(())
}

pub(crate) async fn every_outcome_round_trips(store: &impl Store) -> TestResult {
    let outcomes = [
        DeliveryOutcome::Ran {
            runs: vec![RunId(1), RunId(u64::MAX)],
            notes: vec!["`docs`: no path matches".to_owned()],
        },
        DeliveryOutcome::Ignored {
            reason: "unknown event".to_owned(),
        },
        DeliveryOutcome::DuplicateOf {
            delivery: DeliveryId(1),
        },
        DeliveryOutcome::Errored {
            reason: "no such commit".to_owned(),
        },
    ];
    for (number, outcome) in outcomes.into_iter().enumerate() {
        let id = accept(store, &number.to_string()).await?;
        let settlement = DeliverySettlement {
            delivery: id,
            outcome: outcome.clone(),
            moved: None,
        };
        store.settle_delivery(settlement).await?;
        let stored = store.delivery(id).await?.ok_or("it is stored")?;
        assert_eq!(stored.outcome, Some(outcome));
    }
    Ok(())
}

pub(crate) async fn pending_ones_come_oldest_first_without_bodies(store: &impl Store) -> TestResult {
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(accept(store, &number.to_string()).await?);
    }
    let settled = ids.remove(1);
    store.settle_delivery(ignored(settled, None)).await?;

    let first = store.pending_deliveries(None, 2).await?;
    let last = first.last().map(|delivery| delivery.id);
    let rest = store.pending_deliveries(last, 10).await?;
    assert_eq!(first.len(), 2);
    let seen: Vec<_> = first.iter().chain(&rest).map(|delivery| delivery.id).collect();
    assert_eq!(seen, ids);
    let bodiless = NewDelivery {
        body: Vec::new(),
        ..delivery("0")?
    };
    assert_eq!(first.first().map(|found| found.received.clone()), Some(bodiless));
    Ok(())
}

pub(crate) async fn lists_come_newest_first_without_bodies(store: &impl Store) -> TestResult {
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(accept(store, &number.to_string()).await?);
    }
    let elsewhere = NewDelivery {
        project: name("shop")?,
        ..delivery("other")?
    };
    store.accept_delivery(elsewhere).await?;
    ids.reverse();

    let project = name("mall")?;
    let page = store.deliveries(Some(&project), None, 3).await?;
    let next = store
        .deliveries(Some(&project), page.last().map(|delivery| delivery.id), 3)
        .await?;
    let seen: Vec<_> = page.iter().chain(&next).map(|delivery| delivery.id).collect();
    assert_eq!(seen, ids);
    assert!(page.iter().all(|delivery| delivery.received.body.is_empty()));
    let all = store.deliveries(None, None, 10).await?;
    assert_eq!(all.len(), 5);
    assert_eq!(
        all.first().map(|delivery| delivery.received.project.as_str()),
        Some("shop")
    );
    Ok(())
}

pub(crate) async fn a_reopened_one_waits_again(store: &impl Store) -> TestResult {
    let id = accept(store, "x").await?;
    assert!(!store.reopen_delivery(id).await?, "it waits already");
    assert!(!store.reopen_delivery(DeliveryId(99)).await?, "there is none");
    for _ in 0..2 {
        store.settle_delivery(ignored(id, None)).await?;
        assert!(store.pending_deliveries(None, 10).await?.is_empty());
        assert!(store.reopen_delivery(id).await?);
        let pending = store.pending_deliveries(None, 10).await?;
        assert_eq!(
            pending.iter().map(|delivery| delivery.id).collect::<Vec<_>>(),
            [id]
        );
    }
    Ok(())
}

pub(crate) async fn a_commit_settles_its_delivery(store: &impl Store) -> TestResult {
    let id = accept(store, "x").await?;
    let outcome = DeliveryOutcome::Ran {
        runs: vec![RunId(1)],
        notes: Vec::new(),
    };
    let mut creation = commit(1, 0, vec![nth_event(1)])?;
    creation.delivery = Some(DeliverySettlement {
        delivery: id,
        outcome: outcome.clone(),
        moved: Some(moved('a', 'b')?),
    });
    store.commit(creation).await?;
    let stored = store.delivery(id).await?.ok_or("it is stored")?;
    assert_eq!(stored.outcome, Some(outcome));
    assert!(store.pending_deliveries(None, 10).await?.is_empty());
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, Some(id));
    Ok(())
}

pub(crate) async fn a_settled_one_makes_no_second_run(store: &impl Store) -> TestResult {
    let id = accept(store, "x").await?;
    store.settle_delivery(ignored(id, None)).await?;
    for unsettleable in [id, DeliveryId(99)] {
        let mut creation = commit(1, 0, vec![nth_event(1)])?;
        creation.delivery = Some(ignored(unsettleable, Some(moved('a', 'b')?)));
        let delivery = unsettleable.0;
        assert_eq!(
            store.commit(creation).await,
            Err(CommitError::NotPending { delivery })
        );
    }
    assert!(store.load(RunId(1)).await?.is_none());
    assert_eq!(store.last_run().await?, 0);
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, None);
    Ok(())
}

pub(crate) async fn one_that_makes_two_runs_makes_both_or_none(store: &impl Store) -> TestResult {
    store.commit(commit(2, 0, vec![nth_event(1)])?).await?;
    let id = accept(store, "x").await?;
    let both = |first, second| -> Result<_, Box<dyn std::error::Error>> {
        let mut last = commit(second, 0, vec![nth_event(1)])?;
        last.delivery = Some(ignored(id, None));
        Ok(vec![commit(first, 0, vec![nth_event(1)])?, last])
    };
    let refused = store.commit_all(both(3, 2)?).await;
    assert_eq!(refused, Err(CommitError::Conflict { run: 2, expected: 0 }));
    assert!(store.load(RunId(3)).await?.is_none());
    assert_eq!(store.pending_deliveries(None, 10).await?.len(), 1);

    store.commit_all(both(3, 4)?).await?;
    assert!(store.load(RunId(3)).await?.is_some());
    assert!(store.load(RunId(4)).await?.is_some());
    assert!(store.pending_deliveries(None, 10).await?.is_empty());
    let again = store.commit_all(both(5, 6)?).await;
    assert_eq!(again, Err(CommitError::NotPending { delivery: id.0 }));
    assert_eq!(store.last_run().await?, 4);
    Ok(())
}

pub(crate) async fn the_newest_refusals_are_kept(store: &impl Store) -> TestResult {
    let refusal = |project: &str, number: i64| -> Result<_, Box<dyn std::error::Error>> {
        Ok(Refusal {
            project: name(project)?,
            at: Timestamp(number),
            reason: format!("bad signature {number}"),
        })
    };
    store.note_refusal(refusal("shop", 1)?).await?;
    for number in 0..25 {
        store.note_refusal(refusal("mall", number)?).await?;
    }
    let kept = store.refusals(&name("mall")?).await?;
    let expected: Result<Vec<_>, _> = (5..25).rev().map(|number| refusal("mall", number)).collect();
    assert_eq!(kept, expected?);
    assert_eq!(store.refusals(&name("shop")?).await?, [refusal("shop", 1)?]);
    assert!(store.refusals(&name("none")?).await?.is_empty());
    Ok(())
}
