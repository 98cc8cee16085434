//! One server to a database: a second one is refused, and one that lost the database writes nothing.

use super::{TestDatabase, delivery};
use crate::{ConnectError, PostgresStore, Store as _, StoreError};

#[tokio::test]
async fn a_second_server_is_refused_until_the_first_has_gone() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let first = PostgresStore::open_alone(&database.url()).await.unwrap();
    let refused = PostgresStore::open_alone(&database.url()).await.unwrap_err();
    assert!(matches!(refused, ConnectError::InUse { .. }), "{refused}");
    // Tools that are no server may look at it.
    database.store().await.close().await;
    first.accept_delivery(delivery("1", 1)).await.unwrap();
    first.close().await;
    let second = PostgresStore::open_alone(&database.url()).await.unwrap();
    second.accept_delivery(delivery("2", 1)).await.unwrap();
    second.close().await;
}

#[tokio::test]
async fn a_server_that_lost_its_session_goes_on_only_if_nobody_else_has_the_database() {
    let Some(database) = TestDatabase::make().await else {
        return;
    };
    let first = PostgresStore::open_alone(&database.url()).await.unwrap();
    first.accept_delivery(delivery("1", 1)).await.unwrap();
    database.cut_all().await;
    // The connections of the pool broke as well; what says that it failed was not written.
    let mut tries = 0;
    while first.accept_delivery(delivery("2", 1)).await.is_err() {
        tries += 1;
        assert!(tries < 20, "it does not come back");
    }
    database.cut_all().await;
    let second = PostgresStore::open_alone(&database.url()).await.unwrap();
    for _ in 0..8 {
        let refused = first.accept_delivery(delivery("3", 1)).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable { .. })),
            "{refused:?}"
        );
    }
    second.accept_delivery(delivery("4", 1)).await.unwrap();
    assert_eq!(database.count("SELECT count(*) FROM deliveries").await, 3);
    second.close().await;
    // The database is free again, but what the first knows of it is old.
    first.accept_delivery(delivery("5", 1)).await.unwrap_err();
    first.close().await;
}
