//! What attempts can do in containers.

use std::{collections::BTreeMap, io::Read, time::Instant};

use pipekeeper_backend::{
    LaunchScript, LaunchService, LaunchStep, SecretValue, SourceInput, Ticket, Tier, VolumeAccess,
    VolumeMount,
    suite::{Session, World, attempt},
};
use pipekeeper_model::{
    AttemptOutcome, Name,
    plan::{Artifact, SecretTarget},
};

use crate::{
    on_each_engine,
    world::{EngineWorld, image},
};

on_each_engine!(
    a_trivial_attempt_is_quick,
    steps_of_two_images_share_the_workspace,
    an_image_without_a_shell_runs_a_command,
    a_service_is_awaited_and_answers_under_its_name,
    files_come_and_go,
    files_of_secrets_are_in_memory,
    volumes_outlive_attempts,
    steps_are_confined,
    what_was_begun_is_gone_on_with,
);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn step(world: &EngineWorld, of_image: &str, text: &str) -> LaunchStep {
    let step = world.launch(attempt(1), text).steps.remove(0);
    LaunchStep {
        image: Some(image(of_image)),
        ..step
    }
}

async fn a_trivial_attempt_is_quick(world: EngineWorld) {
    let mut session = Session::open(&world);
    for node in 1..4 {
        let id = attempt(node);
        let begun = Instant::now();
        session.backend.launch(world.launch(id, "true")).await.unwrap();
        let launched = begun.elapsed();
        let holder = session.checked_in(id).await;
        let checked_in = begun.elapsed();
        session.go(id, &holder).await;
        let record = session.finished(id).await;
        assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
        eprintln!(
            "launched after {launched:.2?}, checked in after {checked_in:.2?}, finished after {:.2?}",
            begun.elapsed()
        );
        session.backend.forget(id).await.unwrap();
    }
}

async fn files_of_secrets_are_in_memory(world: EngineWorld) {
    let mut session = Session::open(&world);
    let id = attempt(1);
    let text = |of_image, user| {
        let place = r#"grep -q " $(dirname $(readlink ~/.netrc)) tmpfs " /proc/mounts"#;
        let text = format!("[ $(id -u) = {user} ]; cat ~/.netrc; {place}; stat -Lc %a ~/.netrc");
        step(&world, of_image, &text)
    };
    let mut launch = world.launch(id, "");
    launch.steps = vec![text("busybox:1", 0), text("nonroot:1", 1000)];
    launch.has_secret_files = true;
    session.backend.launch(launch).await.unwrap();
    let holder = session.checked_in(id).await;
    let secret = SecretValue {
        pointer: None,
        target: Some(SecretTarget::File("~/.netrc".to_owned())),
        value: "password-in-memory".to_owned(),
    };
    let go = Ticket::Go {
        secrets: vec![secret],
    };
    session.backend.answer(id, &holder, go).await.unwrap();
    let record = session.finished(id).await;
    let log = world.log(id);
    assert_eq!(
        record.outcome,
        AttemptOutcome::Succeeded,
        "{:?}\n{log}",
        record.reason
    );
    assert_eq!(log.matches("***").count(), 2, "{log}");
    assert_eq!(log.matches("600").count(), 2, "{log}");
    session.backend.forget(id).await.unwrap();
}

async fn steps_of_two_images_share_the_workspace(world: EngineWorld) {
    let mut launch = world.launch(attempt(1), "");
    launch.steps = vec![
        step(&world, "busybox:1", "id -u; echo one > file; mkdir folder"),
        step(
            &world,
            "nonroot:1",
            "id -u; echo two >> file; touch folder/x; echo $HOME; touch ~/y",
        ),
        step(&world, "busybox:1", "id -u; cat file; ls folder"),
    ];
    let record = world.run(launch).await;
    let log = world.log(attempt(1));
    assert_eq!(
        record.outcome,
        AttemptOutcome::Succeeded,
        "{:?}\n{log}",
        record.reason
    );
    for line in ["1000", "one", "two", "x", "/pipe/home"] {
        assert!(log.lines().any(|found| found == line), "no {line} in\n{log}");
    }
}

async fn an_image_without_a_shell_runs_a_command(world: EngineWorld) {
    let mut launch = world.launch(attempt(1), "");
    launch.steps = vec![
        LaunchStep {
            script: LaunchScript::Command(vec!["/hello".to_owned(), "you".to_owned()]),
            env: BTreeMap::from([("GREETING".to_owned(), "hi".to_owned())]),
            ..step(&world, "noshell:1", "")
        },
        step(&world, "busybox:1", "echo also a shell"),
    ];
    let record = world.run(launch).await;
    let log = world.log(attempt(1));
    assert_eq!(
        record.outcome,
        AttemptOutcome::Succeeded,
        "{:?}\n{log}",
        record.reason
    );
    for line in ["argument: you", "greeting: hi", "also a shell"] {
        assert!(log.contains(line), "no {line} in\n{log}");
    }
}

async fn a_service_is_awaited_and_answers_under_its_name(world: EngineWorld) {
    let mut launch = world.launch(
        attempt(1),
        "wget -q -O - http://web:8081/; wget -q -O - http://localhost:8080/",
    );
    let service = |of_image: &str, called: &str, ready: Option<&str>| LaunchService {
        name: name(called),
        image: image(of_image),
        env: BTreeMap::new(),
        ready: ready.map(str::to_owned),
    };
    launch.services = vec![
        service(
            "user-service:1",
            "web",
            Some("wget -q -O - http://localhost:8081/"),
        ),
        service("root-service:1", "other", Some("wget -q -O - http://other:8080/")),
    ];
    let record = world.run(launch).await;
    let log = world.log(attempt(1));
    assert_eq!(
        record.outcome,
        AttemptOutcome::Succeeded,
        "{:?}\n{log}",
        record.reason
    );
    assert!(log.contains("service on port 8081"), "{log}");
    assert!(log.contains("service on port 8080"), "{log}");
}

async fn files_come_and_go(world: EngineWorld) {
    let source = world.folder().join("source");
    std::fs::create_dir_all(&source).unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(source.join("big"), &bytes).unwrap();
    let mut launch = world.launch(attempt(1), "cp big out; echo done >> out");
    launch.source = SourceInput::Folder(source);
    launch.artifacts = BTreeMap::from([(
        name("result"),
        Artifact {
            paths: vec!["out".to_owned()],
            always: false,
        },
    )]);
    let record = world.run(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
    let artifact = record.artifacts.first().unwrap();
    let path = pipekeeper_backend::artifact_path(&world.artifacts(), &artifact.digest);
    assert!(path.metadata().unwrap().len() > 1000, "{}", path.display());
    let mut magic = [0; 4];
    std::fs::File::open(path).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(magic, [0x28, 0xb5, 0x2f, 0xfd], "it is an archive");
}

async fn volumes_outlive_attempts(world: EngineWorld) {
    let run = async |node: u32, tier: Tier| {
        let text = "cat ~/.kept/file 2>/dev/null || echo nothing; echo something > ~/.kept/file";
        let mut launch = world.launch(attempt(node), text);
        launch.placement.tier = tier;
        launch.volumes = vec![VolumeMount {
            cache: name("kept"),
            volume: name("fast"),
            paths: vec!["~/.kept".to_owned()],
            access: VolumeAccess::Many,
        }];
        let record = world.run(launch).await;
        let log = world.log(attempt(node));
        assert_eq!(
            record.outcome,
            AttemptOutcome::Succeeded,
            "{:?}\n{log}",
            record.reason
        );
        log
    };
    assert!(run(1, Tier::Branches).await.contains("nothing"));
    assert!(run(2, Tier::Branches).await.contains("something"));
    assert!(run(3, Tier::Protected).await.contains("nothing"));
    // They stay until their owner removes them.
    let docker = world.docker();
    let volumes = docker
        .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
        .await
        .unwrap();
    let instance = Some(&world.options.instance);
    let kept: Vec<String> = (volumes.volumes.unwrap_or_default().into_iter())
        .filter(|volume| {
            volume.labels.get("pipekeeper.io/instance") == instance
                && volume.labels.contains_key("pipekeeper.io/cache")
        })
        .map(|volume| volume.name)
        .collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let options = || {
        bollard::query_parameters::RemoveVolumeOptionsBuilder::default()
            .force(true)
            .build()
    };
    let session = Session::open(&world);
    for node in 1..4 {
        // As the outbox does: a busy engine lets go of a container later.
        let mut tries = 0;
        while let Err(error) = session.backend.forget(attempt(node)).await {
            tries += 1;
            assert!(tries < 3, "{error}");
        }
    }
    for volume in kept {
        docker.remove_volume(&volume, Some(options())).await.unwrap();
    }
}

async fn steps_are_confined(world: EngineWorld) {
    let text = "id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls -d /var/run/docker.sock || echo no socket; touch file ~/file";
    let mut log_of = Vec::new();
    for (node, tier) in [(1, Tier::Branches), (2, Tier::Forks)] {
        let mut launch = world.launch(attempt(node), text);
        launch.placement.tier = tier;
        let record = world.run(launch).await;
        let log = world.log(attempt(node));
        assert_eq!(
            record.outcome,
            AttemptOutcome::Succeeded,
            "{:?}\n{log}",
            record.reason
        );
        log_of.push(log);
    }
    // CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID and SETUID, and no other.
    for (log, user, capabilities) in [
        (&log_of[0], "0", "00000000000000eb"),
        (&log_of[1], "65532", "0000000000000000"),
    ] {
        assert!(log.lines().any(|line| line == user), "{log}");
        assert!(log.contains(&format!("CapEff:\t{capabilities}")), "{log}");
        assert!(log.contains("NoNewPrivs:\t1"), "{log}");
        assert!(log.contains("no socket"), "{log}");
    }
}

/// A server that ends in the middle of making containers leaves what the next one goes on with.
async fn what_was_begun_is_gone_on_with(world: EngineWorld) {
    let first = Session::open(&world);
    first
        .backend
        .launch(world.launch(attempt(1), "echo went on"))
        .await
        .unwrap();
    drop(first);
    let mut second = Session::open(&world);
    second.backend.observe(attempt(1)).await.unwrap();
    let holder = second.checked_in(attempt(1)).await;
    second.go(attempt(1), &holder).await;
    let record = second.finished(attempt(1)).await;
    assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
    assert!(world.log(attempt(1)).contains("went on"));
}
