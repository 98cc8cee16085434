//! A network between server and cluster that breaks while an attempt runs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ContainerStatus;
use pipekeeper_backend::{Backend as _, LaunchError, VolumeAccess, VolumeMount, pod::StreamLimit};
use pipekeeper_backend_kube::{Volume, VolumeSource};

use super::{
    proxy::Proxy,
    scene::{Scene, eventually, says, succeeded},
    work::name,
    world::{KubeWorld, image},
};

/// Puts out a line a hundredth of a second.
fn lines(count: u32) -> String {
    format!("i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); sleep 0.01; done")
}

fn log_of(count: u32) -> String {
    let mut log = "user code starts\n".to_owned();
    for line in 0..count {
        writeln!(log, "line {line}").unwrap();
    }
    log
}

async fn behind_proxy(change: impl FnOnce(&mut KubeWorld)) -> Option<(Proxy, Scene)> {
    let mut scene = Scene::with(change).await?;
    let proxy = Proxy::to(&scene.world.config).await;
    scene.restart_with(proxy.config(&scene.world.config));
    Some((proxy, scene))
}

/// Waits until nothing passes any more, for then only the watch has a connection.
async fn until_quiet(proxy: &Proxy) {
    let mut last = (proxy.traffic(), Instant::now());
    eventually("a quiet network", async || {
        let traffic = proxy.traffic();
        if traffic != last.0 {
            last = (traffic, Instant::now());
        }
        (traffic.1 > 0 && last.1.elapsed() > Duration::from_millis(500)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_again_and_again_lose_nothing() {
    let Some((proxy, mut scene)) = behind_proxy(|_| {}).await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, &lines(1000))).await;
    proxy.cut_every(Duration::from_secs(2));
    succeeded(&scene.server.finished(attempt).await);
    assert_eq!(scene.log(attempt), log_of(1000));
    scene.restart();
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_everything_for_a_while_loses_nothing() {
    let Some((proxy, mut scene)) = behind_proxy(|_| {}).await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, &lines(3500))).await;
    scene.log_says(attempt, "line 100").await;
    proxy.swallow();
    let swallowed = Instant::now();
    eventually("half a minute", async || {
        (swallowed.elapsed() > Duration::from_secs(30)).then_some(())
    })
    .await;
    proxy.heal();
    let healed = Instant::now();
    succeeded(&scene.server.finished(attempt).await);
    assert!(
        healed.elapsed() < Duration::from_secs(60),
        "{:?}",
        healed.elapsed()
    );
    assert_eq!(scene.log(attempt), log_of(3500));
    scene.close().await;
}

/// The watch says nothing, and nobody asks: the server finds out by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_watch_does_not_hide_what_is_wrong() {
    let impatient = |world: &mut KubeWorld| {
        world.options.patience.missing_image = Duration::from_secs(1);
        // While it pauses the cluster does not say what is wrong.
        world.options.patience.pull = Duration::from_secs(1);
    };
    let Some((proxy, mut scene)) = behind_proxy(impatient).await else {
        return;
    };
    until_quiet(&proxy).await;
    proxy.swallow_present();
    let mut launch = scene.plain(1, "true");
    launch.steps[0].image = Some(image("no-such-image:8"));
    let begun = Instant::now();
    let attempt = scene.launch(launch).await;
    says(&scene.server.hopeless(attempt).await, &["no-such-image:8"]);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    scene.close().await;
    scene.ran(attempt, 0);
}

/// Nor does it hide that a running pod is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_does_not_hide_that_a_pod_is_gone() {
    let Some((proxy, mut scene)) = behind_proxy(|_| {}).await else {
        return;
    };
    let attempt = scene.launch(scene.plain(1, "exec sleep 1000")).await;
    scene.log_says(attempt, "starts").await;
    // A kubelet of 1.20 that has not seen its containers run yet ends a deleted pod only a minute later.
    let runs = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    scene.container_is(attempt, "step-0", runs).await;
    proxy.swallow_present();
    scene.delete_pod(attempt).await;
    let deleted = Instant::now();
    says(&scene.server.gone(attempt).await, &["its pod was deleted"]);
    assert!(
        deleted.elapsed() < Duration::from_secs(60),
        "{:?}",
        deleted.elapsed()
    );
    scene.ran(attempt, 1);
    scene.close().await;
}

/// Files on their way into the pod and out of it, on connections that break.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_pass_through_a_network_that_breaks() {
    let Some((proxy, mut scene)) = behind_proxy(|_| {}).await else {
        return;
    };
    let source = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..6_000_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    std::fs::write(source.path().join("noise"), &noise).unwrap();
    let mut launch = scene.plain(1, "sha256sum < noise | cut -c1-64; cp noise copy");
    launch.source = pipekeeper_backend::SourceInput::Folder(source.path().to_owned());
    let kept = pipekeeper_model::plan::Artifact {
        paths: vec!["copy".to_owned()],
        always: false,
    };
    launch.artifacts.insert("copy".parse().unwrap(), kept);
    proxy.cut_every(Duration::from_millis(1500));
    let attempt = scene.launch_stubbornly(launch).await;
    let record = scene.server.finished(attempt).await;
    succeeded(&record);
    let digest = pipekeeper_model::Digest::of(&noise).to_hex();
    assert_eq!(scene.log(attempt), format!("user code starts\n{digest}\n"));
    assert_eq!(record.artifacts.len(), 1);
    scene.restart();
    scene.close().await;
}

/// All connections end at once, many times, while twenty attempts run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_attempts_outlive_cuts() {
    let Some((proxy, mut scene)) = behind_proxy(|_| {}).await else {
        return;
    };
    let mut attempts = Vec::new();
    for node in 0..20 {
        attempts.push(scene.launch(scene.plain(node, &lines(200))).await);
    }
    proxy.cut();
    for attempt in &attempts {
        succeeded(&scene.server.finished(*attempt).await);
        proxy.cut();
        assert_eq!(scene.log(*attempt), log_of(200));
    }
    scene.close().await;
}

/// Steps that wait for each other, and fewer streams than steps: those that are quiet make room, and lose nothing by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_attempts_make_room_for_the_streams_of_others() {
    const ATTEMPTS: u32 = 5;
    let volume = tempfile::tempdir().unwrap();
    let few = |world: &mut KubeWorld| {
        world.streams = StreamLimit {
            most: 2,
            quiet: Duration::from_millis(500),
            turn: Duration::from_secs(3),
            parked: Duration::from_secs(2),
        };
        let source = VolumeSource::HostPath(volume.path().display().to_string());
        let nodes = BTreeMap::new();
        world
            .options
            .volumes
            .insert(name("meeting"), Volume { source, nodes });
    };
    let Some(mut scene) = Scene::with(few).await else {
        return;
    };
    let mut attempts = Vec::new();
    for node in 1..=ATTEMPTS {
        let text = format!(
            "echo here; touch meeting/{node}; until [ $(ls meeting | wc -l) = {ATTEMPTS} ]; do sleep 0.1; done; echo all"
        );
        let mut launch = scene.plain(node, &text);
        launch.volumes = vec![VolumeMount {
            cache: name("meeting"),
            volume: name("meeting"),
            paths: vec!["meeting".to_owned()],
            access: VolumeAccess::Many,
        }];
        attempts.push(scene.launch(launch).await);
    }
    for attempt in attempts {
        succeeded(&scene.server.finished(attempt).await);
        assert_eq!(scene.log(attempt), "user code starts\nhere\nall\n");
    }
    scene.close().await;
}

/// The cluster without encryption, by `kubectl proxy`.
struct PlainCluster {
    process: Child,
    url: String,
}

impl PlainCluster {
    fn start() -> Self {
        let mut process = Command::new("kubectl")
            .args(["proxy", "--port=0", "--disable-filter"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(process.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap();
        Self {
            url: format!("http://{address}"),
            process,
        }
    }
}

impl Drop for PlainCluster {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What an overloaded or broken API server answers says nothing about pods, not even that something is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_answers_with_errors_for_a_while_loses_nothing() {
    let Some(mut scene) = Scene::here(|_| {}).await else {
        return;
    };
    let plain = PlainCluster::start();
    let mut config = scene.world.config.clone();
    config.cluster_url = plain.url.parse().unwrap();
    let proxy = Proxy::to(&config).await;
    scene.restart_with(proxy.config(&config));
    let attempt = scene.launch(scene.plain(1, &lines(1500))).await;
    scene.log_says(attempt, "line 20\n").await;
    let errors = [
        "410 Gone",
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Service Unavailable",
    ];
    let mut others = Vec::new();
    for (node, status) in (2..).zip(errors) {
        proxy.answer(status);
        let answered = Instant::now();
        let other = scene.plain(node, "true");
        let refused = scene.server.backend.launch(other.clone()).await;
        let Err(LaunchError::Transient { reason }) = refused else {
            panic!("{status}: {refused:?}")
        };
        says(&reason, &[status.split_once(' ').unwrap().1]);
        eventually("two seconds of errors", async || {
            (answered.elapsed() > Duration::from_secs(2)).then_some(())
        })
        .await;
        proxy.heal();
        others.push(scene.launch_stubbornly(other).await);
    }
    succeeded(&scene.server.finished(attempt).await);
    assert_eq!(scene.log(attempt), log_of(1500));
    for other in others {
        succeeded(&scene.server.finished(other).await);
        scene.ran(other, 1);
    }
    scene.close().await;
}
