//! What attempts cost the cluster's API server.

use std::io::Write as _;

use pipekeeper_backend::suite::{Act, Session, World as _, attempt};
use pipekeeper_model::AttemptOutcome;

use super::world::KubeWorld;

const ATTEMPTS: u32 = 5;

/// DESIGN section 14: at most five answered requests an action, and six streams that were tried too early.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_costs_few_requests() {
    let Some(world) = KubeWorld::new().await else {
        return;
    };
    let (host, backend, observations) = world.open_counted();
    let mut session = Session {
        backend,
        observations,
    };
    for node in 1..=ATTEMPTS {
        session.launch(&world, attempt(node), Act::Succeed).await;
        session.run(attempt(node)).await;
        assert_eq!(
            session.finished(attempt(node)).await.outcome,
            AttemptOutcome::Succeeded
        );
        session.backend.forget(attempt(node)).await.unwrap();
        assert_eq!(world.starts(attempt(node)), 1);
    }
    let (answered, early) = host.calls();
    let each = |count: u64| f64::from(u32::try_from(count).unwrap()) / f64::from(ATTEMPTS);
    let said = format!(
        "{} requests and {} early streams an action",
        each(answered),
        each(early)
    );
    drop(writeln!(std::io::stderr(), "{said}"));
    assert!(each(answered) <= 5.0 && each(early) <= 6.0, "{said}");
}
