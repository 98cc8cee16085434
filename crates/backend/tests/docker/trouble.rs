//! What goes wrong with containers, and what people are told of it.

use std::collections::BTreeMap;

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use pipekeeper_backend::{
    LaunchError, LaunchScript, LaunchService, What,
    suite::{Session, attempt},
};
use pipekeeper_model::AttemptOutcome;

use crate::{
    on_each_engine,
    world::{EngineWorld, image},
};

on_each_engine!(
    an_image_that_is_not_there_is_hopeless,
    a_name_that_is_none_is_hopeless_at_once,
    a_program_that_is_not_there_is_told,
    a_service_that_ends_is_hopeless,
    a_quantity_that_is_none_is_refused,
    a_want_of_memory_is_told,
    a_supervisor_removed_by_hand_is_told,
    a_step_removed_by_hand_is_told,
);

async fn hopeless(session: &mut Session) -> String {
    session
        .until(attempt(1), |what| match what {
            What::Hopeless { reason } => Some(reason.clone()),
            What::Finished { .. } | What::Gone { .. } => panic!("{what:?}"),
            What::Waiting { .. }
            | What::CheckedIn { .. }
            | What::StepStarted { .. }
            | What::LogGrew { .. }
            | What::Silent { .. }
            | What::Held { .. } => None,
        })
        .await
}

async fn an_image_that_is_not_there_is_hopeless(world: EngineWorld) {
    let mut session = Session::open(&world);
    let mut launch = world.launch(attempt(1), "true");
    launch.steps[0].image = Some(image("nope:1"));
    session.backend.launch(launch).await.unwrap();
    let reason = hopeless(&mut session).await;
    assert!(reason.contains("nope:1` is not found"), "{reason}");
}

async fn a_name_that_is_none_is_hopeless_at_once(world: EngineWorld) {
    let mut session = Session::open(&world);
    let mut launch = world.launch(attempt(1), "true");
    launch.steps[0].image = Some("A B:c".to_owned());
    session.backend.launch(launch).await.unwrap();
    let reason = hopeless(&mut session).await;
    assert!(reason.contains("`A B:c` is no image name"), "{reason}");
}

async fn a_program_that_is_not_there_is_told(world: EngineWorld) {
    let mut session = Session::open(&world);
    let mut launch = world.launch(attempt(1), "true");
    // There is no shell in it.
    launch.steps[0].image = Some(image("noshell:1"));
    session.backend.launch(launch).await.unwrap();
    let reason = hopeless(&mut session).await;
    assert!(reason.contains("noshell:1` cannot start"), "{reason}");

    let mut launch = world.launch(attempt(2), "true");
    launch.steps[0].script = LaunchScript::Command(vec!["/nope".to_owned()]);
    let record = world.run(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed, "{:?}", record.reason);
}

async fn a_service_that_ends_is_hopeless(world: EngineWorld) {
    let mut session = Session::open(&world);
    let mut launch = world.launch(attempt(1), "true");
    launch.services = vec![LaunchService {
        name: "db".parse().unwrap(),
        image: image("noshell:1"),
        env: BTreeMap::from([("CODE".to_owned(), "3".to_owned())]),
        ready: None,
    }];
    session.backend.launch(launch).await.unwrap();
    let reason = hopeless(&mut session).await;
    assert_eq!(reason, "the service `db` ended with code 3");
}

async fn a_quantity_that_is_none_is_refused(world: EngineWorld) {
    let session = Session::open(&world);
    let mut launch = world.launch(attempt(1), "true");
    launch.resources.memory = Some("much".to_owned());
    let refused = session.backend.launch(launch).await.unwrap_err();
    assert!(matches!(refused, LaunchError::Terminal { .. }), "{refused:?}");
    assert!(
        refused
            .to_string()
            .contains("`resources.memory: much` is no quantity"),
        "{refused}"
    );
}

async fn a_want_of_memory_is_told(world: EngineWorld) {
    let mut launch = world.launch(attempt(1), "head -c 300000000 /dev/zero | tail");
    launch.resources.memory = Some("32Mi".to_owned());
    launch.resources.cpu = Some("64".to_owned());
    let record = world.run(launch).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed, "{:?}", record.reason);
    let reason = record.reason.unwrap_or_default();
    assert!(reason.contains("out of memory"), "{reason}");
}

async fn remove_by_hand(world: &EngineWorld, role: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).build();
    let name = world.container(attempt(1), role);
    world
        .docker()
        .remove_container(&name, Some(options))
        .await
        .unwrap();
}

async fn a_supervisor_removed_by_hand_is_told(world: EngineWorld) {
    let mut session = Session::open(&world);
    session
        .backend
        .launch(world.launch(attempt(1), "echo before; sleep 1000"))
        .await
        .unwrap();
    session.run(attempt(1)).await;
    // Podman removes no container whose network another uses.
    let docker = world.docker();
    let options = || RemoveContainerOptionsBuilder::default().force(true).build();
    let removed = docker
        .remove_container(&world.container(attempt(1), "agent"), Some(options()))
        .await;
    if removed.is_err() {
        remove_by_hand(&world, "step-0").await;
        remove_by_hand(&world, "agent").await;
        session.ended(attempt(1)).await;
        return;
    }
    let reason = session.gone(attempt(1)).await;
    assert!(
        reason.contains("was removed")
            || reason.contains("was deleted")
            || reason.contains("ended with code"),
        "{reason}"
    );
}

async fn a_step_removed_by_hand_is_told(world: EngineWorld) {
    let mut session = Session::open(&world);
    session
        .backend
        .launch(world.launch(attempt(1), "sleep 1000"))
        .await
        .unwrap();
    session.run(attempt(1)).await;
    remove_by_hand(&world, "step-0").await;
    let record = session.finished(attempt(1)).await;
    assert!(!matches!(record.outcome, AttemptOutcome::Succeeded), "{record:?}");
    let reason = record.reason.unwrap_or_default();
    assert!(reason.contains("its container was removed"), "{reason}");
}
