//! Servers that die at every moment of an attempt's life, and what their successors make of it.

use pipekeeper_backend::{Backend as _, Launch, suite::attempt};
use pipekeeper_model::{AttemptId, plan::Artifact};

use super::scene::{Scene, must, succeeded};

/// What runs for a while and puts out all the time.
const WORK: &str = "i=0; while [ $i -lt 150 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; echo end";

fn log_of_work() -> String {
    let lines: String = (0..150).map(|line| format!("line {line}\n")).collect();
    format!("user code starts\n{lines}end\n")
}

/// After a restart a controller asks about every attempt that has not ended.
async fn succeeds_after_restart(scene: &mut Scene, attempt: AttemptId) {
    scene.restart();
    must(scene.server.backend.observe(attempt).await);
    succeeded(&scene.server.finished(attempt).await);
    assert_eq!(scene.log(attempt), log_of_work());
    scene.ran(attempt, 1);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_after_it_made_the_pod() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, WORK)).await;
    succeeds_after_restart(&mut scene, attempt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_after_the_check_in() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    scene.server.gives_tickets = false;
    let attempt = scene.launch(scene.plain(1, WORK)).await;
    scene.server.checked_in(attempt).await;
    succeeds_after_restart(&mut scene, attempt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_after_the_ticket() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, WORK)).await;
    scene.server.checked_in(attempt).await;
    succeeds_after_restart(&mut scene, attempt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_while_the_log_comes() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, WORK)).await;
    scene.log_says(attempt, "line 50").await;
    succeeds_after_restart(&mut scene, attempt).await;
}

fn with_artifact(mut launch: Launch) -> Launch {
    let kept = Artifact {
        paths: vec!["big".to_owned()],
        always: false,
    };
    launch.artifacts.insert("big".parse().unwrap(), kept);
    launch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_before_it_fetched_the_record() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let text = format!("head -c 8000000 /dev/urandom > big; {WORK}");
    let attempt = scene.launch(with_artifact(scene.plain(1, &text))).await;
    scene.log_says(attempt, "line 140").await;
    // From here on nobody reads.
    let mut nowhere = scene.world.config.clone();
    nowhere.cluster_url = "https://127.0.0.1:9".parse().unwrap();
    scene.restart_with(nowhere);
    let ended = |status: &k8s_openapi::api::core::v1::ContainerStatus| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.terminated.is_some())
    };
    scene.container_is(attempt, "step-0", ended).await;
    scene.restart();
    must(scene.server.backend.observe(attempt).await);
    let record = scene.server.finished(attempt).await;
    succeeded(&record);
    assert!(record.artifacts[0].bytes > 7_000_000, "{record:#?}");
    assert_eq!(scene.log(attempt), log_of_work());
    scene.ran(attempt, 1);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_while_it_fetches_what_was_made() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let text = format!("head -c 40000000 /dev/urandom > big; {WORK}");
    let attempt = scene.launch(with_artifact(scene.plain(1, &text))).await;
    scene.log_says(attempt, "end\n").await;
    let is_under_way = |name: &str| name.starts_with("big.tar.zst.");
    super::scene::eventually("a file on its way", async || {
        let files = super::scene::files_below(scene.world.log(attempt).parent().unwrap());
        let names = files.iter().filter_map(|file| file.file_name()?.to_str());
        let mut found = names.filter(|name| is_under_way(name));
        found.next().map(|_| ())
    })
    .await;
    scene.restart();
    must(scene.server.backend.observe(attempt).await);
    let record = scene.server.finished(attempt).await;
    succeeded(&record);
    assert!(record.artifacts[0].bytes > 39_000_000, "{record:#?}");
    scene.ran(attempt, 1);
    scene.close().await;
}

/// Twenty at once, each at another moment of its life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_while_many_attempts_are_on_their_way() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempts: Vec<AttemptId> = (0..20).map(attempt).collect();
    for node in 0..20 {
        scene.launch(scene.plain(node, WORK)).await;
    }
    scene.server.runs(attempts[3]).await;
    scene.restart();
    for node in 0..20 {
        // A launch that is not settled is performed again; the others are asked about.
        if node % 2 == 0 {
            scene.launch(scene.plain(node, WORK)).await;
        } else {
            must(scene.server.backend.observe(attempt(node)).await);
        }
    }
    for attempt in attempts {
        succeeded(&scene.server.finished(attempt).await);
        assert_eq!(scene.log(attempt), log_of_work());
        scene.ran(attempt, 1);
    }
    scene.close().await;
}

/// Nothing is taken for told that the server could not keep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_the_server_is_full_for_a_while() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let launch = scene.plain(1, WORK);
    std::os::unix::fs::symlink("/dev/full", &launch.log).unwrap();
    let log = launch.log.clone();
    let attempt = scene.launch(launch).await;
    scene
        .server
        .waits(attempt, &["cannot keep its log", "disk"])
        .await;
    std::fs::remove_file(log).unwrap();
    succeeded(&scene.server.finished(attempt).await);
    assert_eq!(scene.log(attempt), log_of_work());
    scene.ran(attempt, 1);
    scene.close().await;
}
