//! What a backend promises whose attempts outlive the server.

use pipekeeper_model::{AttemptOutcome, Millis};

use super::{Act, Session, World, attempt, session::must};

/// A new server finds a running attempt, with the holder it had, and can end it.
pub async fn running_attempts_are_adopted(world: &impl World) {
    let mut first = Session::open(world);
    first.launch(world, attempt(1), Act::Hang).await;
    let holder = first.run(attempt(1)).await;
    drop(first);
    let mut second = Session::open(world);
    assert_eq!(must(second.backend.list().await), [attempt(1)]);
    must(second.backend.observe(attempt(1)).await);
    assert_eq!(second.checked_in(attempt(1)).await, holder);
    second.go(attempt(1), &holder).await;
    must(second.backend.stop(attempt(1), Millis::seconds(5)).await);
    assert_eq!(
        second.finished(attempt(1)).await.outcome,
        AttemptOutcome::Cancelled
    );
    assert!(world.starts(attempt(1)) <= 1);
}

/// A new server finds an attempt that waits for its ticket, and its launch adopts it.
pub async fn waiting_attempts_are_adopted(world: &impl World) {
    let mut first = Session::open(world);
    first.launch(world, attempt(1), Act::Succeed).await;
    let holder = first.checked_in(attempt(1)).await;
    drop(first);
    let mut second = Session::open(world);
    second.launch(world, attempt(1), Act::Succeed).await;
    assert_eq!(second.checked_in(attempt(1)).await, holder);
    second.go(attempt(1), &holder).await;
    assert_eq!(
        second.finished(attempt(1)).await.outcome,
        AttemptOutcome::Succeeded
    );
    assert_eq!(world.starts(attempt(1)), 1);
}

/// A record is there for the next server, and the one after it.
pub async fn records_outlive_the_server(world: &impl World) {
    let mut first = Session::open(world);
    first.launch(world, attempt(1), Act::Fail(3)).await;
    let holder = first.checked_in(attempt(1)).await;
    first.go(attempt(1), &holder).await;
    let record = first.finished(attempt(1)).await;
    drop(first);
    for _ in 0..2 {
        let mut next = Session::open(world);
        must(next.backend.observe(attempt(1)).await);
        assert_eq!(next.finished(attempt(1)).await, record);
        next.launch(world, attempt(1), Act::Fail(3)).await;
        assert_eq!(next.finished(attempt(1)).await, record);
    }
    assert_eq!(world.starts(attempt(1)), 1);
}

/// A stop is remembered by the next server.
pub async fn voids_outlive_the_server(world: &impl World) {
    let mut first = Session::open(world);
    must(first.backend.stop(attempt(1), Millis(0)).await);
    first.gone(attempt(1)).await;
    drop(first);
    let mut second = Session::open(world);
    second.launch(world, attempt(1), Act::Succeed).await;
    second.gone(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 0);
}

/// Two servers on one state: both may launch and give tickets, it runs once, and both learn how it ended.
pub async fn two_servers_run_it_once(world: &impl World) {
    let (mut old, mut new) = (Session::open(world), Session::open(world));
    tokio::join!(
        old.launch(world, attempt(1), Act::Hang),
        new.launch(world, attempt(1), Act::Hang)
    );
    let holder = old.checked_in(attempt(1)).await;
    must(new.backend.observe(attempt(1)).await);
    assert_eq!(new.checked_in(attempt(1)).await, holder);
    old.go(attempt(1), &holder).await;
    new.run(attempt(1)).await;
    must(new.backend.stop(attempt(1), Millis::seconds(5)).await);
    assert_eq!(new.finished(attempt(1)).await.outcome, AttemptOutcome::Cancelled);
    assert_eq!(old.finished(attempt(1)).await.outcome, AttemptOutcome::Cancelled);
    assert!(world.starts(attempt(1)) <= 1);
}
