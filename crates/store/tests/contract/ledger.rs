//! The ledger of refs: which moves are duplicates.

use pipekeeper_model::GitRef;
use pipekeeper_store::{DeliveryId, RefMove, Store};

use crate::{
    TestResult,
    data::{accept, ignored, moved, name},
};

/// Handles moves in this order; each is its own delivery.
async fn handle<const N: usize>(
    store: &impl Store,
    moves: [(char, char); N],
) -> Result<[DeliveryId; N], Box<dyn std::error::Error>> {
    let mut ids = [DeliveryId(0); N];
    for (number, ((before, after), id)) in moves.into_iter().zip(&mut ids).enumerate() {
        *id = accept(store, &number.to_string()).await?;
        store
            .settle_delivery(ignored(*id, Some(moved(before, after)?)))
            .await?;
    }
    Ok(ids)
}

pub(crate) async fn the_same_move_is_found(store: &impl Store) -> TestResult {
    let [made, pushed, deleted] = handle(store, [('.', 'a'), ('a', 'b'), ('b', '.')]).await?;
    assert_eq!(store.find_move(&moved('b', '.')?).await?, Some(deleted));
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, Some(pushed));
    assert_eq!(store.find_move(&moved('a', 'c')?).await?, None);
    assert_ne!(made, pushed);
    Ok(())
}

pub(crate) async fn other_projects_refs_and_kinds_are_other_moves(store: &impl Store) -> TestResult {
    handle(store, [('a', 'b')]).await?;
    let others = [
        RefMove {
            project: name("shop")?,
            ..moved('a', 'b')?
        },
        RefMove {
            git_ref: GitRef::Branch("other".to_owned()),
            ..moved('a', 'b')?
        },
        RefMove {
            git_ref: GitRef::Tag("main".to_owned()),
            ..moved('a', 'b')?
        },
    ];
    for other in others {
        assert_eq!(store.find_move(&other).await?, None, "{other:?}");
    }
    Ok(())
}

pub(crate) async fn a_force_push_back_and_forth_is_no_duplicate(store: &impl Store) -> TestResult {
    let [_, back] = handle(store, [('a', 'b'), ('b', 'a')]).await?;
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, None);
    assert_eq!(store.find_move(&moved('b', 'a')?).await?, Some(back));

    let forth = accept(store, "forth").await?;
    store
        .settle_delivery(ignored(forth, Some(moved('a', 'b')?)))
        .await?;
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, Some(forth));
    assert_eq!(store.find_move(&moved('b', 'a')?).await?, None);
    Ok(())
}

pub(crate) async fn a_late_copy_of_an_old_push_is_a_duplicate(store: &impl Store) -> TestResult {
    let [first, ..] = handle(store, [('a', 'b'), ('b', 'c'), ('c', 'd')]).await?;
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, Some(first));
    Ok(())
}

pub(crate) async fn an_older_push_that_was_never_seen_is_its_own(store: &impl Store) -> TestResult {
    let [newer] = handle(store, [('b', 'c')]).await?;
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, None);
    let older = accept(store, "older").await?;
    store
        .settle_delivery(ignored(older, Some(moved('a', 'b')?)))
        .await?;
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, Some(older));
    // The older push ends where the newer one began, so a copy of the newer one may now be a push of its own: never lost.
    assert_eq!(store.find_move(&moved('b', 'c')?).await?, None);
    assert_ne!(newer, older);
    Ok(())
}

pub(crate) async fn a_branch_made_anew_after_its_deletion_is_no_duplicate(store: &impl Store) -> TestResult {
    handle(store, [('.', 'a'), ('a', '.')]).await?;
    assert_eq!(store.find_move(&moved('.', 'a')?).await?, None);
    Ok(())
}

pub(crate) async fn a_reopened_delivery_leaves_the_ledger(store: &impl Store) -> TestResult {
    let [only] = handle(store, [('a', 'b')]).await?;
    assert!(store.reopen_delivery(only).await?);
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, None);
    store
        .settle_delivery(ignored(only, Some(moved('a', 'b')?)))
        .await?;
    assert_eq!(store.find_move(&moved('a', 'b')?).await?, Some(only));
    Ok(())
}
