//! Pods that end before their attempt does: deleted by hand, out of memory, without their supervisor.

use std::{fs, process::Command};

use k8s_openapi::api::core::v1::ContainerStatus;
use pipekeeper_backend::Backend as _;
use pipekeeper_model::{AttemptOutcome, Holder, Millis, plan::Resources};

use super::scene::{Scene, must, run, says};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_deleted_while_it_runs_leaves_its_attempt_gone() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempt = scene
        .launch(scene.plain(1, "echo before the end; exec sleep 1000"))
        .await;
    scene.log_says(attempt, "before the end").await;
    scene.delete_pod(attempt).await;
    says(&scene.server.gone(attempt).await, &["its pod was deleted"]);
    scene.ran(attempt, 1);
    says(&scene.log(attempt), &["before the end"]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_is_deleted_before_its_ticket_never_runs() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    scene.server.gives_tickets = false;
    let attempt = scene.launch(scene.plain(1, "true")).await;
    let holder = scene.server.checked_in(attempt).await;
    scene.delete_pod(attempt).await;
    says(&scene.server.gone(attempt).await, &["its pod was deleted"]);
    scene.server.answer(attempt, &holder).await;
    scene.close().await;
    scene.ran(attempt, 0);
}

fn memory(limit: &str) -> Resources {
    Resources {
        cpu: None,
        memory: Some(limit.to_owned()),
    }
}

/// What takes more and more memory.
const GROW: &str = "x=0123456789abcdef; while true; do x=$x$x; done";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_runs_out_of_memory_fails_and_says_so() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(1, GROW);
    launch.resources = memory("32Mi");
    let attempt = launch.attempt;
    let record = scene.record_of(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed, "{record:#?}");
    says(&record.reason.unwrap(), &["out of memory", "32 MiB"]);
    says(&scene.log(attempt), &["out of memory"]);
    scene.ran(attempt, 1);
    scene.close().await;
}

/// Where the kernel ends whole containers, the runner goes too: then only the cluster knows why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_runs_out_of_memory_fails_its_step_and_says_so() {
    let Some(mut scene) = Scene::here(|_| {}).await else {
        return;
    };
    let text = format!("({GROW}) || echo survived; exec sleep 1000");
    let mut launch = scene.plain(1, &text);
    launch.resources = memory("32Mi");
    let attempt = scene.launch(launch).await;
    let holder = scene.server.checked_in(attempt).await;
    scene.log_says(attempt, "survived").await;
    run(Command::new("kill").args(["-9", &runner_of(&holder)]));
    let record = scene.server.finished(attempt).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed, "{record:#?}");
    says(&record.reason.unwrap(), &["out of memory", "busybox:1", "32Mi"]);
    scene.ran(attempt, 1);
    scene.close().await;
}

/// The process of the first step's runner on this machine, by its pod.
fn runner_of(holder: &Holder) -> String {
    let is_it = |id: &str| {
        let groups = fs::read_to_string(format!("/proc/{id}/cgroup")).unwrap_or_default();
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        groups.contains(&holder.0) && command.ends_with(b"agent\0step\x000\0")
    };
    process(is_it)
}

/// The first process of this machine that is so.
fn process(is: impl Fn(&str) -> bool) -> String {
    let processes = fs::read_dir("/proc").unwrap();
    let mut ids = processes.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    ids.find(|id| is(id)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_supervisor_is_killed_ends_with_it() {
    let Some(mut scene) = Scene::here(|_| {}).await else {
        return;
    };
    let text = "echo it is there; (trap '' TERM; sleep 1000) & sleep 1000";
    let attempt = scene.launch(scene.plain(1, text)).await;
    let holder = scene.server.checked_in(attempt).await;
    scene.log_says(attempt, "it is there").await;
    run(Command::new("kill").args(["-9", &supervisor_of(&holder)]));
    let reason = scene.server.gone(attempt).await;
    says(&reason, &["supervisor", "137"]);
    says(&scene.log(attempt), &["it is there"]);
    scene.ran(attempt, 1);
    scene.close().await;
}

/// What the supervisor had put out, but nobody had read, is taken from the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_killed_supervisor_is_recovered() {
    let Some(mut scene) = Scene::here(|_| {}).await else {
        return;
    };
    let text = "printf 'first\\n\\377\\nsecond\\n'; while [ ! -e go ]; do sleep 0.1; done";
    let attempt = scene.launch(scene.plain(1, text)).await;
    let holder = scene.server.checked_in(attempt).await;
    scene.log_says(attempt, "second").await;
    // As if the server had died before it had read these lines.
    let path = scene.world.log(attempt);
    let log = fs::read(&path).unwrap();
    scene.restart();
    fs::write(&path, b"user code starts\n").unwrap();
    run(Command::new("kill").args(["-9", &supervisor_of(&holder)]));
    must(scene.server.backend.observe(attempt).await);
    says(&scene.server.gone(attempt).await, &["supervisor"]);
    let recovered = fs::read(&path).unwrap();
    let marker = String::from_utf8_lossy(&recovered).into_owned();
    says(&marker, &["user code starts\npipekeeper: ", "recovered", "first"]);
    assert!(
        recovered.ends_with(&log[b"user code starts\n".len()..]),
        "{marker}"
    );
    scene.ran(attempt, 1);
    scene.close().await;
}

/// The process of a supervisor on this machine, by its pod.
fn supervisor_of(holder: &Holder) -> String {
    let mark = format!("PIPE_HOLDER={}", holder.0);
    let is_it = |id: &str| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
            && command.ends_with(b"supervise\0")
    };
    process(is_it)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_before_the_pod_can_be_reached_ends_it() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, "true")).await;
    must(
        scene
            .server
            .backend
            .stop(attempt, pipekeeper_model::Millis(0))
            .await,
    );
    says(&scene.server.gone(attempt).await, &["stopped before it started"]);
    scene.close().await;
    scene.ran(attempt, 0);
}

/// It has ended only once its pod is gone, whatever its supervisor says or does not say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_does_not_stop_is_removed_with_its_pod() {
    let Some(mut scene) = Scene::here(|_| {}).await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, "exec sleep 1000")).await;
    let holder = scene.server.checked_in(attempt).await;
    scene.log_says(attempt, "starts").await;
    run(Command::new("kill").args(["-STOP", &supervisor_of(&holder)]));
    must(scene.server.backend.stop(attempt, Millis(0)).await);
    let reason = scene.server.gone(attempt).await;
    says(&reason, &["it was stopped, and its supervisor did not answer"]);
    let running = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some())
    };
    let pod = scene
        .pod(attempt)
        .await
        .and_then(|pod| pod.status?.container_statuses);
    assert!(!pod.unwrap_or_default().iter().any(running));
    scene.ran(attempt, 1);
    scene.close().await;
}
