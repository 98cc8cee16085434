//! Pods that are held for people, as the failing step of their attempt left them.

use std::{collections::BTreeMap, time::Duration};

use pipekeeper_backend::{
    Backend as _, EnterOrder, Entered, Launch, LaunchError, SecretValue, TermName, Terminal, What,
    pod::HoldOptions,
};
use pipekeeper_model::{AttemptId, AttemptOutcome, AttemptRecord, Millis, Timestamp};
use tokio::sync::mpsc;

use super::{
    debug::{SIZE, pods, script, talk},
    scene::{Scene, eventually, must, says, step, succeeded},
    starts::one_pod_at_a_time,
    work::{name, service},
    world::KubeWorld,
};

fn holding(failed: Duration, max: usize) -> impl FnOnce(&mut KubeWorld) {
    move |world| world.hold = Some(HoldOptions { failed, max })
}

/// An action whose second step, in a folder and with a variable of its own, leaves something everywhere and fails.
fn failing(scene: &Scene, node: u32) -> Launch {
    let mut launch = scene.shell(node, "mkdir web");
    let text = "echo mine | tee file ~/own > /bin/left; (setsid sleep 1001 &); exit 3";
    let mut second = step(None, script(text));
    second.env = BTreeMap::from([("OWN".to_owned(), "a value".to_owned())]);
    second.working_dir = Some("web".to_owned());
    launch.steps.push(second);
    launch
}

impl Scene {
    /// Runs it to its end, as a controller does; what became of it.
    async fn ended(&mut self, launch: Launch) -> (AttemptId, AttemptRecord) {
        let attempt = self.launch(launch).await;
        let record = self.server.finished(attempt).await;
        must(self.server.backend.forget(attempt).await);
        (attempt, record)
    }

    /// Waits until the pod of an attempt is held.
    async fn held(&mut self, attempt: AttemptId) -> Timestamp {
        let pick = |what: &What| {
            if let What::Held { until } = what {
                *until
            } else {
                None
            }
        };
        self.server.until(attempt, pick).await
    }

    /// Waits until it is held no more.
    async fn let_go(&mut self, attempt: AttemptId) {
        let pick = |what: &What| matches!(what, What::Held { until: None }).then_some(());
        self.server.until(attempt, pick).await;
    }

    async fn enter(&self, attempt: AttemptId) -> Result<Entered, LaunchError> {
        let (told, heard) = mpsc::channel(16);
        let order = EnterOrder {
            attempt,
            project: name("any"),
            cluster: None,
            limit: Millis::minutes(5),
            size: SIZE,
            term: TermName::new("xterm"),
            told,
        };
        // Who hears nothing wants no shell.
        let entered = self.server.backend.enter(order).await;
        drop(heard);
        entered
    }

    async fn entered(&self, attempt: AttemptId) -> Terminal {
        match must(self.enter(attempt).await) {
            Entered::Open(terminal) => terminal,
            other @ (Entered::NotHeld | Entered::NeverHeld) => panic!("`{attempt}`: {other:?}"),
        }
    }

    async fn is_not_held(&self, attempt: AttemptId) {
        let entered = must(self.enter(attempt).await);
        assert!(matches!(entered, Entered::NotHeld), "`{attempt}`: {entered:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_pod_is_as_its_step_left_it() {
    let Some(mut scene) = Scene::with(holding(Duration::from_secs(600), 2)).await else {
        return;
    };
    let mut launch = failing(&scene, 1);
    launch.services = vec![service("web", "user-service:1", None)];
    let (attempt, record) = scene.ended(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed);
    scene.held(attempt).await;
    // No sweep takes it away.
    assert_eq!(must(scene.server.backend.list().await), []);
    let lines = "echo \"<$OWN|$HOME|$PWD|$(cat file ~/own /bin/left | tr '\\n' ,)|$(ps | grep -c 'sleep 100[1]')>\"\n\
                 echo more > /bin/more-left; exit\n";
    let mut terminal = scene.entered(attempt).await;
    let said = talk(&mut terminal, lines, None).await;
    says(&said, &["<a value|/pipe/home|/workspace/web|mine,mine,mine,|0>"]);
    says(&terminal.afterwards, &["its pod is held until"]);
    terminal.end().await;
    // What a person did is there for the next; two at a time would be in each other's way.
    let mut terminal = scene.entered(attempt).await;
    let said = talk(
        &mut terminal,
        "echo \"<$(cat /bin/more-left)>\"\n",
        Some("<more>"),
    )
    .await;
    says(&said, &["<more>"]);
    let refused = scene.enter(attempt).await.unwrap_err();
    says(&refused.to_string(), &["somebody looks into its pod already"]);
    scene.server.backend.release(attempt).await.unwrap_err();
    // The connection breaks.
    drop(terminal);
    assert!(must(scene.server.backend.release(attempt).await));
    scene.let_go(attempt).await;
    scene.is_not_held(attempt).await;
    assert!(!must(scene.server.backend.release(attempt).await));
    eventually("the pod's end", async || (pods(&scene).await == 0).then_some(())).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_pods_have_their_number_and_their_time() {
    let Some(mut scene) = Scene::with(holding(Duration::from_secs(4), 1)).await else {
        return;
    };
    let first = failing(&scene, 1);
    let (first, _) = scene.ended(first).await;
    scene.held(first).await;
    let mut second = failing(&scene, 2);
    second.steps[1].script = script("sleep 1000");
    second.steps[1].timeout = Some(Millis(500));
    let (second, record) = scene.ended(second).await;
    assert_eq!(record.outcome, AttemptOutcome::TimedOut);
    scene.let_go(first).await;
    scene.is_not_held(first).await;
    scene.held(second).await;
    let terminal = scene.entered(second).await;
    let third = failing(&scene, 3);
    let (third, _) = scene.ended(third).await;
    // Nobody is sent away for another's sake.
    scene.is_not_held(third).await;
    eventually("the third pod's end", async || {
        (pods(&scene).await == 1).then_some(())
    })
    .await;
    terminal.end().await;
    scene.let_go(second).await;
    eventually("the pod's end", async || (pods(&scene).await == 0).then_some(())).await;
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_others_must_not_see_is_not_held() {
    let Some(mut scene) = Scene::with(holding(Duration::from_secs(600), 2)).await else {
        return;
    };
    let mut private = failing(&scene, 1);
    private.may_share = false;
    let (private, _) = scene.ended(private).await;
    let fine = scene.plain(2, "true");
    let (fine, _) = scene.ended(fine).await;
    let stopped = scene.launch(scene.plain(3, "echo there; exec sleep 1000")).await;
    scene.log_says(stopped, "there").await;
    must(scene.server.backend.stop(stopped, Millis::seconds(1)).await);
    let record = scene.server.finished(stopped).await;
    assert_eq!(record.outcome, AttemptOutcome::Cancelled);
    must(scene.server.backend.forget(stopped).await);
    // Whatever was said of it: it has one.
    scene.server.secrets = vec![SecretValue {
        pointer: None,
        target: None,
        value: "hunter22".to_owned(),
    }];
    let secret = failing(&scene, 4);
    let (secret, _) = scene.ended(secret).await;
    eventually("the pods' end", async || (pods(&scene).await == 0).then_some(())).await;
    for attempt in [private, fine, stopped, secret] {
        scene.is_not_held(attempt).await;
    }
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_pod_that_somebody_deletes_or_whose_server_dies_is_not_held() {
    let Some(mut scene) = Scene::with(holding(Duration::from_secs(600), 2)).await else {
        return;
    };
    let first = failing(&scene, 1);
    let (first, _) = scene.ended(first).await;
    scene.held(first).await;
    scene.delete_pod(first).await;
    scene.let_go(first).await;
    scene.is_not_held(first).await;
    // It is let go as soon as it has ended; the kubelet takes its object away up to ten seconds later.
    eventually("the first pod's end", async || {
        (pods(&scene).await == 0).then_some(())
    })
    .await;
    let second = failing(&scene, 2);
    let (second, _) = scene.ended(second).await;
    scene.held(second).await;
    scene.restart();
    scene.is_not_held(second).await;
    assert_eq!(must(scene.server.backend.list().await), [second]);
    scene.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_pod_makes_room_for_a_launch() {
    let Some(mut scene) = Scene::with(holding(Duration::from_secs(600), 2)).await else {
        return;
    };
    one_pod_at_a_time(&scene).await;
    let first = failing(&scene, 1);
    let (first, _) = scene.ended(first).await;
    scene.held(first).await;
    let launch = scene.plain(2, "true");
    let refused = scene.server.backend.launch(launch.clone()).await;
    assert!(
        matches!(refused, Err(LaunchError::Occupied { .. })),
        "{refused:?}"
    );
    scene.let_go(first).await;
    let second = scene.launch_stubbornly(launch).await;
    succeeded(&scene.server.finished(second).await);
    scene.close().await;
}
