//! Shells for people, in pods that stand where a step began.

use std::{collections::BTreeMap, mem};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use pipekeeper_backend::{
    Backend as _, DebugOrder, Launch, LaunchError, LaunchScript, SecretValue, TermName, Terminal,
    TerminalSize, Tier, Told,
};
use pipekeeper_model::{
    Millis,
    plan::{Artifact, Shell},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::{
    scene::{DEADLINE, Scene, command, eventually, says, step},
    world::image,
};

pub(crate) const SIZE: TerminalSize = TerminalSize {
    columns: 101,
    rows: 33,
};

pub(crate) fn script(text: &str) -> LaunchScript {
    LaunchScript::Shell {
        shell: Shell::Sh,
        text: text.to_owned(),
        line: 1,
    }
}

/// An action whose second step fails, in a folder and with a variable of its own.
fn failing(scene: &Scene) -> Launch {
    let mut launch = scene.shell(0, "mkdir web\necho made > web/file\necho step one was here");
    let mut second = step(None, script("exit 3"));
    second.name = "step 2".to_owned();
    second.env = BTreeMap::from([("OWN".to_owned(), "a value".to_owned())]);
    second.working_dir = Some("web".to_owned());
    launch.steps.push(second);
    let artifact = Artifact {
        paths: vec!["web/**".to_owned()],
        always: true,
    };
    launch.artifacts = BTreeMap::from([("web".parse().unwrap(), artifact)]);
    launch
}

fn order(launch: Launch) -> (DebugOrder, mpsc::Receiver<Told>) {
    let (told, heard) = mpsc::channel(1024);
    let order = DebugOrder {
        launch,
        limit: Millis::minutes(5),
        size: SIZE,
        term: TermName::new("xterm"),
        told,
    };
    (order, heard)
}

/// Types lines, and reads until the shell's end or a text.
pub(crate) async fn talk(terminal: &mut Terminal, lines: &str, until: Option<&str>) -> String {
    terminal.stream.write_all(lines.as_bytes()).await.unwrap();
    terminal.stream.flush().await.unwrap();
    let mut seen = Vec::new();
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            let is_there = until.is_some_and(|until| text.contains(until));
            if is_there || !matches!(terminal.stream.read_buf(&mut seen).await, Ok(1..)) {
                return text;
            }
        }
    };
    timeout(DEADLINE, reading).await.unwrap()
}

fn told_log(heard: &mut mpsc::Receiver<Told>) -> String {
    let mut log = Vec::new();
    while let Ok(told) = heard.try_recv() {
        if let Told::Log(bytes) = told {
            log.extend(bytes);
        }
    }
    String::from_utf8(log).unwrap()
}

pub(crate) async fn pods(scene: &Scene) -> usize {
    let pods = scene.api::<Pod>().list(&ListParams::default()).await.unwrap();
    pods.items.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_stands_where_the_step_began() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    scene.server.secrets = vec![SecretValue {
        pointer: None,
        target: None,
        value: "hunter22".to_owned(),
    }];
    let (order, mut heard) = order(failing(&scene));
    let mut terminal = scene.server.backend.debug(order).await.unwrap();
    says(&told_log(&mut heard), &["step one was here"]);
    // Nobody else knows of it, so no sweep takes it away.
    assert_eq!(scene.server.backend.list().await.unwrap(), []);
    let lines = "echo \"<$OWN|$HOME|$PWD|$TERM|$(cat file)|$(stty size)>\"\n";
    let said = talk(&mut terminal, lines, Some("33 101>")).await;
    says(&said, &["<a value|/pipe/home|/workspace/web|xterm|made|33 101>"]);
    let larger = TerminalSize {
        columns: 120,
        rows: 40,
    };
    terminal.sizes.send(larger).await.unwrap();
    let lines = "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo it is lar\"\"ger\n";
    talk(&mut terminal, lines, Some("it is larger")).await;
    // Ctrl-C is for what runs in the shell, not for the shell.
    let lines = "sh -c 'echo sle\"\"eping; exec sleep 1000'\n";
    talk(&mut terminal, lines, Some("sleeping")).await;
    talk(&mut terminal, "\u{3}", Some("^C")).await;
    talk(&mut terminal, "echo it went\" \"on\n", Some("it went on")).await;
    talk(&mut terminal, "exit\n", None).await;
    terminal.end().await;
    eventually("the pod's end", async || (pods(&scene).await == 0).then_some(())).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_is_its_steps_user_in_its_steps_image() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    for (tier, name, user) in [
        (Tier::Forks, "busybox:1", "65532"),
        (Tier::Protected, "nonroot:1", "1000"),
    ] {
        let mut launch = failing(&scene);
        launch.placement.tier = tier;
        launch.steps[1].image = Some(image(name));
        let (order, _heard) = order(launch);
        let mut terminal = scene.server.backend.debug(order).await.unwrap();
        let lines = "echo new >> file; echo \"<$(id -u)|$(cat file | tr '\\n' ,)|$OWN>\"; exit\n";
        let said = talk(&mut terminal, lines, None).await;
        says(&said, &[&format!("<{user}|made,new,|a value>")]);
        terminal.end().await;
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_shell_is_told() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = scene.plain(0, "true");
    launch.steps = vec![step(Some(image("noshell:1")), command("true"))];
    let (order, _heard) = order(launch);
    let mut terminal = scene.server.backend.debug(order).await.unwrap();
    let said = talk(&mut terminal, "", None).await;
    says(
        &said,
        &["this image has no shell: none of `bash`, `sh`, `ash` is on its PATH"],
    );
    terminal.end().await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_before_that_fails_is_told_and_leaves_nothing() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let mut launch = failing(&scene);
    launch.steps[0].script = script("echo not today\nexit 9");
    let (order, mut heard) = order(launch);
    let refused = scene.server.backend.debug(order).await.unwrap_err();
    says(
        &refused.to_string(),
        &["`step 1`", "failed this time", "exit code 9", "--step"],
    );
    assert!(matches!(refused, LaunchError::Terminal { .. }));
    says(&told_log(&mut heard), &["not today"]);
    eventually("the pod's end", async || (pods(&scene).await == 0).then_some(())).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_person_and_a_lost_one_with_the_next_sweep() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    // The person leaves while the steps before still run.
    let mut slow = failing(&scene);
    slow.steps[0].script = script("sleep 1000");
    let (left, mut heard) = order(slow);
    let backend = scene.server.backend.clone();
    let waiting = tokio::spawn(async move { backend.debug(left).await });
    while !matches!(timeout(DEADLINE, heard.recv()).await.unwrap(), Some(Told::Log(_))) {}
    drop(heard);
    waiting.await.unwrap().unwrap_err();
    eventually("the pod's end", async || (pods(&scene).await == 0).then_some(())).await;
    // The terminal is dropped without a word.
    let (dropped, _heard) = order(failing(&scene));
    drop(scene.server.backend.debug(dropped).await.unwrap());
    eventually("the pod's end", async || (pods(&scene).await == 0).then_some(())).await;
    // The server dies.
    let (lost, _heard) = order(failing(&scene));
    mem::forget(scene.server.backend.debug(lost).await.unwrap());
    scene.restart();
    let known = scene.server.backend.list().await.unwrap();
    assert_eq!(known.len(), 1, "{known:?}");
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_has_its_time() {
    let Some(mut scene) = Scene::new().await else {
        return;
    };
    let (mut short, _heard) = order(failing(&scene));
    short.limit = Millis::seconds(4);
    let mut terminal = scene.server.backend.debug(short).await.unwrap();
    // It ends without a word from anybody, whatever runs in it.
    talk(&mut terminal, "sleep 1000\n", None).await;
    terminal.end().await;
    scene.close().await;
}
