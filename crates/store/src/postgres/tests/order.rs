//! Readers page by numbers: whatever the writers do, nothing appears behind a reader's back.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use super::{PostgresStore, TestDatabase, commit, delivery};
use crate::{DeliveryId, Store as _};

const SERVERS: u64 = 3;
const WRITERS: u64 = 8;
const EACH: u64 = 25;

/// What the writers of one server do: each has runs of its own, so they do not wait for each other's rows.
async fn write(store: &PostgresStore, server: u64) {
    let writers = (0..WRITERS).map(|writer| async move {
        let writer = server * WRITERS + writer;
        for number in 0..EACH {
            let run = 1 + writer * EACH + number;
            store.commit(commit(run, 1, 1)).await.unwrap();
            store
                .accept_delivery(delivery(&format!("{run}"), 10))
                .await
                .unwrap();
        }
    });
    join_all(writers).await;
}

/// Reads on after the last that it saw, until all was written and nothing more comes.
async fn follow(store: &PostgresStore, written: &AtomicBool) -> (u64, u64) {
    let (mut effect, mut delivery) = (None, None);
    let (mut effects, mut deliveries) = (0, 0);
    loop {
        let is_last = written.load(Ordering::Acquire);
        let page = store.effects(effect, 1_000).await.unwrap();
        effects += u64::try_from(page.len()).unwrap();
        effect = page.last().map(|last| last.sequence).or(effect);
        let page = store.pending_deliveries(delivery, 1_000).await.unwrap();
        deliveries += u64::try_from(page.len()).unwrap();
        delivery = page.last().map(|last| last.id).or(delivery);
        if is_last {
            return (effects, deliveries);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_that_goes_on_misses_nothing_of_several_servers() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let stores = join_all((0..SERVERS).map(|_| database.store())).await;
    let written = AtomicBool::new(false);
    let writing = async {
        join_all((0..).zip(&stores).map(|(server, store)| write(store, server))).await;
        written.store(true, Ordering::Release);
    };
    let reader = database.store().await;
    let all = SERVERS * WRITERS * EACH;
    for run in 1..=all {
        let mut made = commit(run, 0, 1);
        made.effects.clear();
        reader.commit(made).await.unwrap();
    }
    let ((), seen) = tokio::join!(writing, follow(&reader, &written));
    assert_eq!(seen, (all, all));
    assert_eq!(
        reader
            .delivery(DeliveryId(1))
            .await
            .unwrap()
            .map(|first| first.id),
        Some(DeliveryId(1))
    );
    for store in stores {
        store.close().await;
    }
    reader.close().await;
}
