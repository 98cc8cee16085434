//! How long an attempt takes beside its shell; prints, and asserts nothing about time.

#![cfg(test)]

mod common;

use std::{process::Command, time::Instant};

use common::LocalWorld;
use pipekeeper_backend::suite::{Act, Session, World, attempt};
use pipekeeper_model::AttemptOutcome;

const ATTEMPTS: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_chain_of_trivial_attempts() {
    let world = LocalWorld::new();
    let mut session = Session::open(&world);
    let (mut ours, mut shells) = (Vec::new(), Vec::new());
    for node in 0..ATTEMPTS {
        let begun = Instant::now();
        session.launch(&world, attempt(node), Act::Succeed).await;
        let holder = session.checked_in(attempt(node)).await;
        let checked_in = begun.elapsed();
        session.go(attempt(node), &holder).await;
        let record = session.finished(attempt(node)).await;
        ours.push((begun.elapsed(), checked_in));
        assert_eq!(record.outcome, AttemptOutcome::Succeeded);
        assert_eq!(world.starts(attempt(node)), 1);
        let begun = Instant::now();
        assert!(
            Command::new("sh")
                .args(["-c", "true"])
                .status()
                .unwrap()
                .success()
        );
        shells.push(begun.elapsed());
    }
    ours.sort_unstable();
    shells.sort_unstable();
    let middle = ours.len() / 2;
    println!(
        "attempt {:?}, of it until check-in about {:?}; bare shell {:?}",
        ours[middle].0, ours[middle].1, shells[middle]
    );
}
