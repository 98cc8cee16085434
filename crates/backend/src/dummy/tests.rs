use std::path::Path;

use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::suite::{attempt, launch_of};

fn dummy(text: &str) -> (DummyBackend, UnboundedReceiver<Observation>, Launch) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (
        DummyBackend::new(sender),
        receiver,
        launch_of(attempt(1), text, Path::new("/nonexistent/log")),
    )
}

fn next(observations: &mut UnboundedReceiver<Observation>) -> What {
    observations.try_recv().unwrap().what
}

async fn go(backend: &DummyBackend) {
    backend
        .answer(
            attempt(1),
            &holder_of(attempt(1)),
            Ticket::Go { secrets: Vec::new() },
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn an_attempt_ends_after_its_observations() {
    let (backend, mut seen, launch) = dummy("after 2\nfail 7\noutput a=b");
    backend.launch(launch).await.unwrap();
    assert!(matches!(next(&mut seen), What::CheckedIn { .. }));
    go(&backend).await;
    for _ in 0..2 {
        assert!(matches!(next(&mut seen), What::CheckedIn { .. }));
        assert!(matches!(next(&mut seen), What::StepStarted { step: 0 }));
        backend.observe(attempt(1)).await.unwrap();
    }
    let What::Finished { record, .. } = next(&mut seen) else {
        panic!("not finished")
    };
    assert_eq!(
        (record.outcome, record.steps[0].code),
        (AttemptOutcome::Failed, Some(7))
    );
    assert!(record.outputs.is_empty());
    assert!(seen.try_recv().is_err());
}

#[tokio::test]
async fn it_can_be_silent_vanish_repeat_and_refuse() {
    let (backend, mut seen, launch) = dummy("never-check-in");
    backend.launch(launch).await.unwrap();
    assert!(seen.try_recv().is_err());

    let (backend, mut seen, launch) = dummy("vanish\ntwice");
    backend.launch(launch).await.unwrap();
    assert_eq!(next(&mut seen), next(&mut seen));
    go(&backend).await;
    assert!(matches!(next(&mut seen), What::Gone { .. }));
    assert!(matches!(next(&mut seen), What::Gone { .. }));

    let (backend, _seen, launch) = dummy("refuse");
    assert!(matches!(
        backend.launch(launch).await,
        Err(LaunchError::Terminal { .. })
    ));
}

#[tokio::test]
async fn outputs_and_log_are_those_of_the_text() {
    let (backend, mut seen, mut launch) = dummy("output a=b=c\nprint hello");
    let temp = tempfile::tempdir().unwrap();
    launch.log = temp.path().join("logs/log");
    backend.launch(launch).await.unwrap();
    next(&mut seen);
    go(&backend).await;
    let What::Finished { record, .. } = next(&mut seen) else {
        panic!("not finished")
    };
    assert_eq!(record.outputs["a"].text(), Some("b=c"));
    assert_eq!(
        (record.outcome, record.reason.as_ref()),
        (AttemptOutcome::Succeeded, None)
    );
    assert_eq!(std::fs::read(temp.path().join("logs/log")).unwrap(), b"hello\n");
    assert_eq!(record.log_bytes, 6);
    assert_eq!(backend.starts(attempt(1)), 1);
    assert_eq!(backend.launched(attempt(1)).unwrap().attempt, attempt(1));
}
