//! Kept successes: one for each digest of inputs.

use std::{collections::BTreeMap, error::Error};

use pipekeeper_engine::AdoptedNode;
use pipekeeper_model::{ArtifactResult, AttemptId, Digest, NodeId, RunId};
use pipekeeper_store::Store;

use crate::{
    TestResult,
    data::{commit, name, nth_event},
};

async fn result(store: &impl Store, run: u64) -> Result<AdoptedNode, Box<dyn Error>> {
    if store.load(RunId(run)).await?.is_none() {
        store.commit(commit(run, 0, vec![nth_event(1)])?).await?;
    }
    Ok(AdoptedNode {
        attempt: AttemptId {
            run: RunId(run),
            node: NodeId(3),
            number: 2,
        },
        outputs: BTreeMap::new(),
        artifacts: Vec::new(),
    })
}

pub(crate) async fn each_digest_of_inputs_has_its_own(store: &impl Store) -> TestResult {
    let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
    let (first, second) = (result(store, 1).await?, result(store, 2).await?);
    store.remember(one.clone(), first.clone()).await?;
    assert_eq!(store.recall(&other).await?, None);
    store.remember(other.clone(), second.clone()).await?;
    assert_eq!(store.recall(&one).await?, Some(first));
    assert_eq!(store.recall(&other).await?, Some(second));
    Ok(())
}

pub(crate) async fn the_newest_run_stands(store: &impl Store) -> TestResult {
    let inputs = Digest::of(b"inputs");
    let (first, second) = (result(store, 1).await?, result(store, 2).await?);
    store.remember(inputs.clone(), first.clone()).await?;
    store.remember(inputs.clone(), second.clone()).await?;
    store.remember(inputs.clone(), first).await?;
    assert_eq!(store.recall(&inputs).await?, Some(second.clone()));
    store.remember(inputs.clone(), second.clone()).await?;
    assert_eq!(
        store.recall(&inputs).await?,
        Some(second),
        "the same again changes nothing"
    );
    Ok(())
}

pub(crate) async fn all_of_it_comes_back(store: &impl Store) -> TestResult {
    let mut kept = result(store, 1).await?;
    let awkward = "quotes \" ' and \u{0} and \u{1f980}\nlines".to_owned();
    kept.outputs.insert("text".to_owned(), awkward.into());
    kept.artifacts.push(ArtifactResult {
        name: name("web")?,
        digest: Digest::of(b"archive"),
        bytes: u64::MAX,
        files: 3,
    });
    store.remember(Digest::of(b"inputs"), kept.clone()).await?;
    assert_eq!(store.recall(&Digest::of(b"inputs")).await?, Some(kept));
    Ok(())
}
