//! An engine that goes away and comes back.

use std::{path::Path, process::Command};

use pipekeeper_backend::suite::{Session, attempt};

use crate::world::{Engine, EngineWorld};

/// Tells an engine of `scripts/dev-docker` something, and waits until it is done.
fn engine(word: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/dev-docker");
    let status = Command::new(script)
        .args([word, "docker-second"])
        .status()
        .unwrap();
    assert!(status.success(), "{word}: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_restarts_ends_its_attempts() {
    let Some(world) = EngineWorld::new(Engine::DockerSecond) else {
        return;
    };
    // One that ends in order stops its containers, one that is killed finds them when it starts.
    for (node, word) in [(1, "stop"), (2, "kill")] {
        let mut session = Session::open(&world);
        let id = attempt(node);
        session
            .backend
            .launch(world.launch(id, "echo before; sleep 1000"))
            .await
            .unwrap();
        session.run(id).await;
        tokio::task::block_in_place(|| engine(word));
        tokio::task::block_in_place(|| engine("start"));
        let ended = session.ended(id).await;
        eprintln!("{word}: {ended:?}");
        session.backend.forget(id).await.unwrap();
    }
}
