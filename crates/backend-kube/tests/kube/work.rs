//! What pods do: images over one workspace, outputs, artifacts, caches, secrets, services, logs, profiles.

use std::{collections::BTreeMap, fs, path::PathBuf};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use pipekeeper_backend::{
    Backend as _, CacheMount, InputArtifact, Launch, LaunchError, LaunchScript, LaunchService, SecretValue,
    Tier, VolumeAccess, VolumeMount,
};
use pipekeeper_backend_kube::{Volume, VolumeSource};
use pipekeeper_model::{
    AttemptOutcome, Digest, Millis, Name,
    plan::{Artifact, SecretTarget},
};

use super::{
    scene::{Scene, command, eventually, files_below, must, says, step, succeeded},
    world::image,
};

pub(crate) fn name(text: &str) -> Name {
    must(text.parse())
}

pub(crate) fn service(of: &str, of_image: &str, ready: Option<&str>) -> LaunchService {
    LaunchService {
        name: name(of),
        image: image(of_image),
        env: BTreeMap::new(),
        ready: ready.map(str::to_owned),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_different_users_share_the_workspace() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(1, "");
    let root = "echo user code starts; id -u; echo one > file; mkdir -m 700 folder; echo x > folder/x; echo $HOME > ~/home";
    let user = "id -u; echo two >> file; echo y > folder/y; cat ~/home; touch ~/.config";
    let again = "cat file; ls folder; stat -c %u file; echo three > roots";
    launch.steps = vec![
        step(None, command(root)),
        step(Some(image("nonroot:1")), command(user)),
        step(None, command(again)),
        step(
            Some(image("nonroot:1")),
            command("echo four >> roots; tail -n 1 roots"),
        ),
    ];
    let attempt = launch.attempt;
    let record = scene.record_of(launch).await;
    succeeded(&record);
    let expected = "user code starts\n0\n1000\n/pipe/home\none\ntwo\nx\ny\n1000\nfour\n";
    assert_eq!(scene.log(attempt), expected);
    assert_eq!(record.steps.len(), 4);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_shell_runs_a_command() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(1, "");
    let hello = ["/hello", "one", "two words"].map(str::to_owned).to_vec();
    launch.steps = vec![
        step(Some(image("noshell:1")), LaunchScript::Command(hello)),
        step(
            Some(image("noshell:1")),
            LaunchScript::Command(vec!["/hello".to_owned()]),
        ),
    ];
    launch.steps[0]
        .env
        .insert("GREETING".to_owned(), "good morning".to_owned());
    launch.steps[1].env.insert("CODE".to_owned(), "7".to_owned());
    let attempt = launch.attempt;
    let record = scene.record_of(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed);
    assert_eq!(record.reason.as_deref(), Some("exit code 7"));
    let expected = "argument: one\nargument: two words\ngreeting: good morning\ngreeting: \n";
    assert_eq!(scene.log(attempt), expected);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_fails_its_step() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(1, "");
    launch.steps = vec![step(
        Some(image("noshell:1")),
        LaunchScript::Command(vec!["/no-such".to_owned()]),
    )];
    let record = scene.record_of(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed);
    says(
        &record.reason.unwrap(),
        &["cannot start `/no-such`", "No such file"],
    );
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_summary_and_artifacts_arrive_and_are_used() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut maker = scene.shell(
        1,
        "echo version=1.2 >> $PIPE_OUTPUT\necho '# fine' > $PIPE_SUMMARY\n\
         mkdir -p out/sub && echo made > out/sub/file && head -c 3000000 /dev/urandom > out/big\n\
         echo digest=$(sha256sum < out/big | cut -c1-64) >> $PIPE_OUTPUT",
    );
    let kept = Artifact {
        paths: vec!["out/**".to_owned()],
        always: false,
    };
    maker.artifacts.insert(name("site"), kept);
    let record = scene.record_of(maker).await;
    succeeded(&record);
    assert_eq!(record.outputs["version"].text(), Some("1.2"));
    assert_eq!(record.summary.as_deref(), Some("# fine\n"));
    let [artifact] = record.artifacts.as_slice() else {
        panic!("{record:#?}")
    };
    let mut user = scene.plain(2, "cat got/out/sub/file; sha256sum < got/out/big | cut -c1-64");
    user.inputs.push(InputArtifact {
        digest: artifact.digest.clone(),
        into: "got".to_owned(),
    });
    let attempt = user.attempt;
    let used = scene.record_of(user).await;
    succeeded(&used);
    let digest = record.outputs["digest"].text().unwrap();
    assert_eq!(scene.log(attempt), format!("user code starts\nmade\n{digest}\n"));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_of_nothing_fails_the_attempt() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.shell(1, "true");
    let kept = Artifact {
        paths: vec!["no-such/**".to_owned()],
        always: false,
    };
    launch.artifacts.insert(name("site"), kept);
    let record = scene.record_of(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed);
    says(&record.reason.unwrap(), &["artifact `site`", "no file matches"]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn caches_are_saved_and_restored() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let folder = scene
        .world
        .log(scene.plain(1, "").attempt)
        .with_extension("caches");
    let with_cache = |mut launch: Launch, key: &str, fallback: &str| {
        let exact: PathBuf = folder.join(key);
        launch.caches.push(CacheMount {
            name: name("deps"),
            paths: vec!["deps".to_owned(), "~/.deps".to_owned()],
            exact: exact.clone(),
            fallbacks: vec![folder.join(fallback)],
            save_to: Some(exact),
        });
        launch
    };
    let text =
        "cat deps/a ~/.deps/b || echo empty; mkdir -p deps ~/.deps; echo $1 >> deps/a; echo $1 >> ~/.deps/b";
    let text_of = |word: &str| text.replace("$1", word);
    let first = with_cache(scene.plain(1, &text_of("first")), "key-1", "none");
    succeeded(&scene.record_of(first).await);
    assert!(folder.join("key-1").is_file());
    let second = with_cache(scene.plain(2, &text_of("second")), "key-2", "key-1");
    let attempt = second.attempt;
    succeeded(&scene.record_of(second).await);
    says(&scene.log(attempt), &["first\nfirst\n"]);
    assert!(folder.join("key-2").is_file());
    let third = with_cache(scene.plain(3, &text_of("third")), "key-2", "none");
    let attempt = third.attempt;
    succeeded(&scene.record_of(third).await);
    says(&scene.log(attempt), &["first\nsecond\nfirst\nsecond\n"]);
    scene.close().await;
}

/// The values are where they were sent and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_reach_their_step_and_nothing_else() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let value = "c4n4ry-s3cret-value";
    let secret = |target| SecretValue {
        pointer: None,
        target: Some(target),
        value: value.to_owned(),
    };
    scene.server.secrets = vec![
        secret(SecretTarget::Env("TOKEN".to_owned())),
        secret(SecretTarget::File("~/.netrc".to_owned())),
    ];
    let text = format!(
        "echo $TOKEN; cat ~/.netrc; echo; echo $TOKEN | cut -c1-8; [ $TOKEN = {part}cret-value ]; \
         grep -q \" $(dirname $(readlink ~/.netrc)) tmpfs \" /proc/mounts; stat -Lc %a ~/.netrc; \
         echo token=$TOKEN >> $PIPE_OUTPUT; echo $TOKEN > $PIPE_SUMMARY; sleep 2",
        part = "c4n4ry-s3",
    );
    // The text itself must not hold it either.
    let text = text.replace("c4n4ry-s3cret-value", "$(printf c4n4ry-; echo s3cret-value)");
    let mut launch = scene.plain(1, &text);
    launch.has_secret_files = true;
    let attempt = scene.launch(launch).await;
    scene.log_says(attempt, "600").await;
    let pods: Api<Pod> = scene.api();
    let seen = pods.list(&ListParams::default()).await.unwrap();
    let seen = serde_json::to_string(&seen.items).unwrap();
    let pod_name = scene.pod_name(attempt);
    let kubelets = eventually("the log of the cluster", async || {
        let log = pods.logs(&pod_name, &agent_log()).await.ok()?;
        log.contains("600").then_some(log)
    })
    .await;
    let record = scene.server.finished(attempt).await;
    succeeded(&record);
    assert_eq!(scene.log(attempt), "user code starts\n***\n***\nc4n4ry-s\n600\n");
    for (place, text) in [("pod", &seen), ("log of the cluster", &kubelets)] {
        assert!(!text.contains(value), "it is in the {place}");
    }
    says(&kubelets, &["***"]);
    let told = serde_json::to_string(&record).unwrap();
    assert!(!told.contains(value), "{told}");
    for file in files_below(scene.world.log(attempt).parent().unwrap()) {
        let bytes = fs::read(&file).unwrap();
        let is_there = bytes
            .windows(value.len())
            .any(|window| window == value.as_bytes());
        assert!(!is_there, "it is in {}", file.display());
    }
    scene.ran(attempt, 1);
    scene.close().await;
}

fn agent_log() -> kube::api::LogParams {
    kube::api::LogParams {
        container: Some("agent".to_owned()),
        ..kube::api::LogParams::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_beyond_its_time_is_ended_with_all_it_started() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(1, "(trap '' TERM; sleep 1000) & exec sleep 1000");
    launch.steps[0].timeout = Some(Millis::seconds(1));
    launch.grace = Millis::seconds(1);
    let attempt = launch.attempt;
    let record = scene.record_of(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::TimedOut);
    says(&record.reason.unwrap(), &["its time was over during `step 1`"]);
    scene.ran(attempt, 1);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_start_when_their_services_are_ready() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let get = "wget -q -O- http://web:8080; wget -q -O- http://127.0.0.1:8081";
    let mut launch = scene.plain(1, get);
    launch.services = vec![
        service("web", "root-service:1", Some("wget -q -O- http://127.0.0.1:8080")),
        service(
            "other",
            "user-service:1",
            Some("wget -q -O- http://127.0.0.1:8081"),
        ),
    ];
    let attempt = launch.attempt;
    succeeded(&scene.record_of(launch).await);
    assert_eq!(
        scene.log(attempt),
        "user code starts\nservice on port 8080\nservice on port 8081\n"
    );
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_finds_what_it_may_know_and_nothing_of_the_cluster() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let text = "touch ~/file /tmp/file file; pwd; echo $OWN $ALL $PIPE_WORKSPACE $PIPE_OUTPUT; \
                env | grep -c KUBERNETES_ || true; ls /var/run/secrets 2>/dev/null | wc -l; \
                ls /pipe; touch /pipe/tools/x 2>/dev/null || echo read-only; grep CapEff /proc/self/status";
    let mut launch = scene.plain(1, text);
    launch.env.insert("ALL".to_owned(), "all".to_owned());
    launch.steps[0].env.insert("OWN".to_owned(), "own".to_owned());
    launch.steps[0].working_dir = None;
    let attempt = launch.attempt;
    succeeded(&scene.record_of(launch).await);
    // CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID.
    let expected = "user code starts\n/workspace\nown all /workspace /pipe/out/output\n0\n0\nhome\nout\ntools\nread-only\nCapEff:\t00000000000000eb\n";
    assert_eq!(scene.log(attempt), expected);
    scene.close().await;
}

/// More than a node keeps of a container's log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_log_arrives_byte_for_byte() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let text = "head -c 37500000 /dev/urandom | base64 > big; cat big; \
                echo digest=$( (echo user code starts; cat big) | sha256sum | cut -c1-64) >> $PIPE_OUTPUT";
    let attempt = scene.plain(1, text).attempt;
    let launch = scene.plain(1, text);
    let record = scene.record_of(launch).await;
    succeeded(&record);
    let log = fs::read(scene.world.log(attempt)).unwrap();
    assert!(log.len() > 50_000_000);
    assert_eq!(record.log_bytes, u64::try_from(log.len()).unwrap());
    assert_eq!(
        record.outputs["digest"].text(),
        Some(Digest::of(&log).to_hex().as_str())
    );
    scene.close().await;
}

/// What is trusted least has no root and no capability, and can work all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restricted_pods_work_without_root() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let text = "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; echo x > file; touch ~/file; \
                echo kept=yes >> $PIPE_OUTPUT; chown 0 file 2>/dev/null || echo refused";
    let mut launch = scene.plain(1, text);
    launch.placement.tier = Tier::Forks;
    launch.steps.push(step(
        Some(image("nonroot:1")),
        command("cat file; id -u; echo y >> file"),
    ));
    let attempt = launch.attempt;
    let record = scene.record_of(launch).await;
    succeeded(&record);
    let expected = "user code starts\n65532\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nrefused\nx\n65532\n";
    assert_eq!(scene.log(attempt), expected);
    assert_eq!(record.outputs["kept"].text(), Some("yes"));
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_wants_root_is_named_where_there_is_none() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(1, "true");
    launch.placement.tier = Tier::Forks;
    launch.services = vec![service(
        "web",
        "root-service:1",
        Some("wget -q -O- http://127.0.0.1:8080"),
    )];
    let attempt = scene.launch(launch).await;
    let reason = scene.server.hopeless(attempt).await;
    says(&reason, &["the service `web` ended with code 1", "without root"]);
    scene.close().await;
    scene.ran(attempt, 0);
}

/// A folder of the server becomes the workspace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_is_there_for_every_image() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("src")).unwrap();
    fs::write(source.path().join("src/a"), "text of a\n").unwrap();
    let mut launch = scene.plain(1, "cat src/a; echo b > src/b");
    launch.source = pipekeeper_backend::SourceInput::Folder(source.path().to_owned());
    launch.steps.push(step(
        Some(image("nonroot:1")),
        command("cat src/b; echo c > src/a; cat src/a"),
    ));
    let attempt = launch.attempt;
    succeeded(&scene.record_of(launch).await);
    assert_eq!(scene.log(attempt), "user code starts\ntext of a\nb\nc\n");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_keeps_what_a_user_wrote_for_the_next_attempt() {
    let volume = tempfile::tempdir().unwrap();
    let folder = volume.path().join("shared");
    let with_volume = |world: &mut super::world::KubeWorld| {
        let source = VolumeSource::HostPath(folder.display().to_string());
        let nodes = BTreeMap::new();
        world.options.volumes.insert(name("m2"), Volume { source, nodes });
    };
    let Some(mut scene) = Scene::with(with_volume).await else {
        return;
    };
    let mount = VolumeMount {
        cache: name("maven"),
        volume: name("m2"),
        paths: vec!["~/.m2/repository".to_owned(), "target".to_owned()],
        access: VolumeAccess::Many,
    };
    for (node, text, said) in [
        (
            1,
            "id -u; echo kept > ~/.m2/repository/file; echo built > target/out; touch ~/own",
            "1000\n",
        ),
        (
            2,
            "cat ~/.m2/repository/file target/out; ls ~/own 2>/dev/null || echo gone",
            "kept\nbuilt\ngone\n",
        ),
    ] {
        let mut launch = scene.plain(node, "");
        launch.steps = vec![step(Some(image("nonroot:1")), command(text))];
        launch.volumes = vec![mount.clone()];
        let attempt = launch.attempt;
        succeeded(&scene.record_of(launch).await);
        assert_eq!(scene.log(attempt), said);
    }
    let of_project = folder.join("suite/protected/maven");
    assert_eq!(fs::read_to_string(of_project.join("0/file")).unwrap(), "kept\n");
    scene.close().await;
}

/// One at a time, also past a restart of the server, and others of another volume meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_one_action_at_a_time_may_have_is_waited_for() {
    let volume = tempfile::tempdir().unwrap();
    let with_volumes = |world: &mut super::world::KubeWorld| {
        for one in ["m2", "npm"] {
            let source = VolumeSource::HostPath(volume.path().join(one).display().to_string());
            let nodes = BTreeMap::new();
            world.options.volumes.insert(name(one), Volume { source, nodes });
        }
    };
    let Some(mut scene) = Scene::with(with_volumes).await else {
        return;
    };
    let alone = |scene: &Scene, node, volume: &str, text: &str| {
        let mut launch = scene.plain(node, text);
        launch.volumes = vec![VolumeMount {
            cache: name("deps"),
            volume: name(volume),
            paths: vec!["deps".to_owned()],
            access: VolumeAccess::One,
        }];
        launch
    };
    let first = alone(&scene, 1, "m2", "until [ -e deps/go ]; do sleep 0.1; done");
    let first = scene.launch(first).await;
    scene.server.runs(first).await;
    let second = alone(&scene, 2, "m2", "echo mine");
    for restarts in [false, true] {
        if restarts {
            scene.restart();
        }
        let refused = scene.server.backend.launch(second.clone()).await;
        let Err(LaunchError::Occupied { reason, .. }) = refused else {
            panic!("both have it: {refused:?}")
        };
        says(&reason, &["`m2`", "in use by `57/case`", "`access: one`"]);
    }
    scene.server.waits(second.attempt, &["`m2`", "in use"]).await;
    let other = alone(&scene, 3, "npm", "true");
    succeeded(&scene.record_of(other).await);
    let go = volume.path().join("m2/suite/protected/deps/0/go");
    fs::write(go, "").unwrap();
    must(scene.server.backend.observe(first).await);
    succeeded(&scene.server.finished(first).await);
    eventually("the volume", async || {
        scene.server.backend.launch(second.clone()).await.ok()
    })
    .await;
    succeeded(&scene.server.finished(second.attempt).await);
    for attempt in [first, second.attempt] {
        scene.ran(attempt, 1);
    }
    scene.close().await;
}
