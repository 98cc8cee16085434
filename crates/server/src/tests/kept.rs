//! What is no longer kept says so.

use pipekeeper_backend::dummy::Play;
use pipekeeper_model::{ArtifactResult, Digest, Millis, RunId, Timestamp};
use pipekeeper_store::{Estate, Estates, Gone, GoneWhy, Left, Loss, Part};
use serde_json::Value;

use super::{
    harness::TestServer,
    plans::{request, work},
};
use crate::Limits;

async fn give_up(server: &TestServer, run: RunId, parts: &[Part]) {
    let left = Left::default();
    server
        .store
        .keep_estates(vec![Estate { run, left }])
        .await
        .unwrap();
    let gone = Gone {
        at: Timestamp(1),
        why: GoneWhy::Age {
            after: Millis::days(14),
        },
    };
    let losses = parts.iter().map(|part| Loss {
        run,
        part: *part,
        gone,
    });
    server.store.give_up(losses.collect()).await.unwrap();
}

async fn server() -> (TestServer, RunId) {
    let artifact = ArtifactResult {
        name: "web".parse().unwrap(),
        digest: Digest::of(b"archive"),
        bytes: 7,
        files: 1,
    };
    let play = Play {
        artifacts: vec![artifact],
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), move |_| play.clone()).await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "succeeded").await;
    server.write_log(run, 0, b"one\n");
    (server, run)
}

async fn problem(server: &TestServer, path: &str) -> (u16, String) {
    let response = server.get(path).await;
    let status = response.status().as_u16();
    let problem: Value = response.json().await.unwrap();
    (status, problem["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn logs_that_are_gone_are_neither_empty_nor_unknown() {
    let (server, run) = server().await;
    let log = format!("/api/v1/runs/{run}/nodes/build/log");
    assert_eq!(server.get(&log).await.status(), 200);
    give_up(&server, run, &[Part::Logs]).await;
    let expected = (410, "the log was removed after 14d".to_owned());
    assert_eq!(problem(&server, &log).await, expected);
    let view = server.json(&format!("/api/v1/runs/{run}")).await;
    assert_eq!(view["logs_gone"], "removed after 14d");
    assert!(view.get("artifacts_gone").is_none(), "{view}");
    let whole = server.get(&format!("/runs/{run}/nodes/build")).await;
    assert_eq!(whole.status(), 410);
    assert!(
        whole
            .text()
            .await
            .unwrap()
            .contains("the log was removed after 14d")
    );
    let page = server.text(&format!("/runs/{run}")).await;
    assert!(page.contains("The log was removed after 14d"), "{page}");
    assert!(page.contains("artifacts/web\" download"), "{page}");
}

#[tokio::test]
async fn artifacts_that_are_gone_say_so() {
    let (server, run) = server().await;
    let path = format!("/api/v1/runs/{run}/nodes/build/artifacts/web");
    let lost = (410, "the artifact was removed".to_owned());
    assert_eq!(problem(&server, &path).await, lost, "whoever took its file away");
    give_up(&server, run, &[Part::Artifacts]).await;
    let expected = (410, "the artifact was removed after 14d".to_owned());
    assert_eq!(problem(&server, &path).await, expected);
    let page = server.text(&format!("/runs/{run}")).await;
    assert!(page.contains("They were removed after 14d"), "{page}");
    assert!(!page.contains("artifacts/web"), "{page}");
    assert!(page.contains("Log of attempt 1"), "its log is kept: {page}");
}
