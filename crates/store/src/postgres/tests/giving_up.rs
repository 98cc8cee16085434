//! Callers that give up at any point: no connection is left in a transaction, no acknowledged write vanishes, and no place in
//! a pool is lost.

use std::{future::Future, pin::pin, task::Poll};

use futures_util::future::join_all;
use sqlx::{PgPool, Row as _};

use super::{TestDatabase, commit, delivery};
use crate::{
    Accepted, Store as _,
    postgres::pool::{Access, pool},
};

/// Polls a future at most this often, then drops it; what it gave, if it was done by then.
async fn give_up<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

fn up_to(most: u64) -> u64 {
    getrandom::u64().unwrap() % (most + 1)
}

/// Takes every place of a pool at once: each is there, and what was given back is fit for use by then.
async fn take_all(pool: &PgPool) -> Vec<sqlx::pool::PoolConnection<sqlx::Postgres>> {
    let places = pool.options().get_max_connections();
    let taken = join_all((0..places).map(|_| pool.acquire())).await;
    taken.into_iter().map(Result::unwrap).collect()
}

const OPEN: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";

#[tokio::test]
async fn a_begin_that_is_given_up_leaves_no_transaction() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    database
        .execute("CREATE TABLE written (number BIGINT NOT NULL)")
        .await
        .unwrap();
    let pool = pool(database.url().options(), 4, Access::Write);
    let mut acknowledged = 0;
    for number in 0..600_i64 {
        let _given_up = give_up(up_to(8), pool.begin()).await;
        let written = sqlx::query("INSERT INTO written VALUES ($1)")
            .bind(number)
            .execute(&pool)
            .await;
        acknowledged += i64::from(written.is_ok());
    }
    let taken = take_all(&pool).await;
    assert_eq!(taken.len(), 4);
    assert_eq!(database.count(OPEN).await, 0, "connections are in a transaction");
    drop(taken);
    assert_eq!(acknowledged, 600);
    assert_eq!(database.count("SELECT count(*) FROM written").await, 600);
    pool.close().await;
}

#[tokio::test]
async fn callers_of_the_store_give_up_at_any_point() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let store = database.store().await;
    let (mut deliveries, mut runs) = (Vec::new(), Vec::new());
    for number in 1..=300_u64 {
        let forge_id = number.to_string();
        if let Some(answer) = give_up(up_to(4), store.accept_delivery(delivery(&forge_id, 100))).await
            && let Accepted::New(id) = answer.unwrap()
        {
            deliveries.push((id, forge_id));
        }
        if let Some(answer) = give_up(up_to(4), store.commit(commit(number, 0, 2))).await {
            answer.unwrap();
            runs.push(pipekeeper_model::RunId(number));
        }
        let _read = give_up(up_to(6), store.effects(None, 10)).await;
        let _read = give_up(up_to(6), store.load(pipekeeper_model::RunId(number))).await;
    }
    store.check().await.unwrap();
    assert!(!deliveries.is_empty() && !runs.is_empty());
    for (id, forge_id) in deliveries {
        assert_eq!(
            store.delivery(id).await.unwrap().unwrap().received.forge_id,
            forge_id
        );
    }
    for run in runs {
        assert_eq!(store.load(run).await.unwrap().unwrap().version, 2);
    }
    let taken = take_all(&store.readers).await;
    assert_eq!(database.count(OPEN).await, 0, "connections are in a transaction");
    drop(taken);
    store.close().await;
}

#[tokio::test]
async fn connections_know_their_limits() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    database
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); \
             END $$",
        )
        .await
        .unwrap();
    let pool = pool(database.url().options(), 1, Access::Write);
    for (setting, wanted) in [
        ("statement_timeout", "30s"),
        ("idle_in_transaction_session_timeout", "5s"),
        ("tcp_keepalives_idle", "30"),
        ("tcp_user_timeout", "30000"),
        ("synchronous_commit", "on"),
    ] {
        let row = sqlx::query("SELECT current_setting($1)").bind(setting);
        let row = row.fetch_one(&pool).await.unwrap();
        assert_eq!(row.get::<String, _>(0), wanted, "{setting}");
    }
    pool.close().await;
}
