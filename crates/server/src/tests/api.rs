use std::collections::BTreeMap;

use pipekeeper_backend::dummy::{Ending, Play};
use pipekeeper_model::{ArtifactResult, Bytes, Digest, OutputValue, RunId};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::{TestServer, first_attempt},
    plans::{gate, manual, request, reusing, work},
};
use crate::Limits;

#[tokio::test]
async fn a_run_is_told_whole() {
    let play = |node| Play {
        log: "hello\n".to_owned(),
        outputs: BTreeMap::from([("covered".to_owned(), "87.5".into())]),
        ending: if node == 1 {
            Ending::Fail { code: 3 }
        } else {
            Ending::Succeed
        },
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), play).await;
    let nodes = vec![
        work("build", &[]),
        work("test[db=sqlite]", &[0]),
        work("ship", &[1]),
    ];
    let run = server.run(request("Sell more", "main", nodes)).await;
    let told = server.until(run, |run| run["phase"] == "finished").await;
    assert_eq!(told["outcome"], "failed");
    assert_eq!(told["ref"], json!({"kind": "branch", "name": "main"}));
    let [build, test, ship] = [0, 1, 2].map(|at| &told["nodes"][at]);
    assert_eq!(build["outputs"], json!({"covered": "87.5"}));
    assert_eq!(build["attempts"], json!([{"number": 1, "log_bytes": 6}]));
    assert_eq!(test["why"], "failed: exit code 3");
    assert_eq!(
        (&ship["state"], &ship["needs"]),
        (&json!("skipped"), &json!(["test[db=sqlite]"]))
    );

    let list = server.json("/api/v1/runs?project=mall&pipeline=web").await;
    assert_eq!(list["runs"][0]["id"], run.0);
    assert_eq!(list["runs"][0]["outcome"], "failed");
    assert_eq!(server.json("/api/v1/runs?active=true").await["runs"], json!([]));

    let events = server.json(&format!("/api/v1/runs/{run}/events?limit=2")).await;
    assert_eq!(events["events"][0]["type"], "run_created");
    assert_eq!(events["next"], 2);
    let why = server
        .json(&format!("/api/v1/runs/{run}/why?node=test%5Bdb%3Dsqlite%5D"))
        .await;
    assert_eq!(why["nodes"][0]["why"], "failed: exit code 3");
}

#[tokio::test]
async fn lists_are_paged_by_cursor() {
    let server = TestServer::start().await;
    for subject in ["one", "two", "three"] {
        server
            .run(request(subject, "main", vec![work("build", &[])]))
            .await;
    }
    let first = server.json("/api/v1/runs?limit=2").await;
    assert_eq!(first["runs"][0]["subject"], "three");
    let rest = server
        .json(&format!("/api/v1/runs?limit=2&before={}", first["next"]))
        .await;
    assert_eq!(rest["runs"][0]["subject"], "one");
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn logs_come_in_ranges_of_bytes() {
    let play = |_| Play {
        log: "0123456789".to_owned(),
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), play).await;
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "succeeded").await;
    let log = format!("/api/v1/runs/{run}/nodes/build/log");
    assert_eq!(server.text(&log).await, "0123456789");
    assert_eq!(server.text(&format!("{log}?offset=4")).await, "456789");
    assert_eq!(server.text(&format!("{log}?offset=4&limit=3")).await, "456");
    assert_eq!(server.text(&format!("{log}?offset=99")).await, "");
    assert_eq!(server.text(&format!("{log}?offset={}", u64::MAX)).await, "");
    let response = server.get(&log).await;
    assert_eq!(response.headers()["x-log-size"], "10");
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    assert!(
        response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .contains("sandbox")
    );
    assert_eq!(server.get(&format!("{log}?attempt=2")).await.status(), 404);
    assert_eq!(
        server
            .get(&format!("/api/v1/runs/{run}/nodes/..%2Fx/log"))
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn artifacts_are_saved_not_shown() {
    let digest = Digest::of(b"archive");
    let artifact = ArtifactResult {
        name: "web".parse().unwrap(),
        digest: digest.clone(),
        bytes: 7,
        files: 1,
    };
    let play = move |_| Play {
        artifacts: vec![artifact.clone()],
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), play).await;
    let path = server.layout.artifact(&digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, b"archive").unwrap();
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until_state(run, 0, "succeeded").await;
    let response = server
        .get(&format!("/api/v1/runs/{run}/nodes/build/artifacts/web"))
        .await;
    let headers = response.headers();
    assert_eq!(
        headers["content-disposition"],
        "attachment; filename=\"web.tar.zst\""
    );
    assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
    assert_eq!(response.bytes().await.unwrap(), "archive");
    let missing = server
        .get(&format!("/api/v1/runs/{run}/nodes/build/artifacts/other"))
        .await;
    assert_eq!(missing.status(), 404);
}

#[tokio::test]
async fn a_gate_takes_the_decision_on_what_was_seen() {
    let server = TestServer::start().await;
    let nodes = vec![gate("ship-it", &[], "Ship?"), work("ship", &[0])];
    let run = server.run(request("s", "main", nodes)).await;
    let told = server.until_state(run, 0, "awaiting approval").await;
    let subject = told["nodes"][0]["gate"]["subject"].clone();
    let approve = format!("/api/v1/runs/{run}/nodes/ship-it/approve");
    let stale = server
        .post(&approve, &json!({"subject": Digest::of(b"other")}))
        .await;
    assert_eq!(stale.status(), 409);
    let done = server
        .post(&approve, &json!({"subject": subject, "comment": "fine"}))
        .await;
    assert_eq!(done.status(), 200);
    let told = server.until(run, |run| run["phase"] == "finished").await;
    assert_eq!(told["outcome"], "succeeded");
    let late = server.post(&approve, &json!({"subject": subject})).await;
    assert_eq!(late.status(), 409);
}

#[tokio::test]
async fn runs_are_started_pressed_cancelled_and_retried() {
    let server = TestServer::start().await;
    let wish = json!({"project": "mall", "pipeline": "web"});
    let started = server.post("/api/v1/runs", &wish).await;
    assert_eq!(started.status(), 201);
    let unknown = server
        .post("/api/v1/runs", &json!({"project": "x", "pipeline": "web"}))
        .await;
    assert_eq!(unknown.status(), 404);

    let run = server
        .run(request("s", "main", vec![manual(work("build", &[]))]))
        .await;
    server.until_state(run, 0, "awaiting start").await;
    let press = format!("/api/v1/runs/{run}/nodes/build/start");
    assert_eq!(server.post(&press, &json!({})).await.status(), 200);
    server.until(run, |run| run["outcome"] == "succeeded").await;

    let run = server
        .run(request("s", "main", vec![gate("wait", &[], "?")]))
        .await;
    let cancel = format!("/api/v1/runs/{run}/cancel");
    assert_eq!(server.post(&cancel, &Value::Null).await.status(), 200);
    server.until(run, |run| run["outcome"] == "cancelled").await;
    assert_eq!(server.post(&cancel, &Value::Null).await.status(), 409);
    let retried = server
        .post(&format!("/api/v1/runs/{run}/retry"), &json!({"which": "failed"}))
        .await;
    assert_eq!(retried.status(), 201);
    let retried: Value = retried.json().await.unwrap();
    assert_ne!(retried["run"], run.0);
}

#[tokio::test]
async fn a_run_is_not_done_again_past_newer_rules_of_its_environments() {
    let server = TestServer::start().await;
    let mut old = request("old", "main", vec![work("build", &[])]);
    let rule = pipekeeper_model::plan::EnvironmentRule::default();
    old.plan.environments.insert("changing".parse().unwrap(), rule);
    let run = server.run(old).await;
    server.until(run, |run| run["outcome"] == "succeeded").await;
    let path = format!("/api/v1/runs/{run}/retry");
    let answer = server.post(&path, &json!({"which": "all"})).await;
    assert_eq!(answer.status(), 409);
    let text = answer.text().await.unwrap();
    let why = format!("the rules of `changing` have changed since run {run}; start a new run");
    assert!(text.contains(&why), "{text}");
}

#[tokio::test]
async fn an_earlier_success_stands_in_and_is_named() {
    let server = TestServer::start().await;
    let build = |inputs| {
        let nodes = vec![reusing(inputs, work("build", &[])), work("ship", &[0])];
        request("again", "main", nodes)
    };
    let ended = async |run| server.until(run, |run| run["outcome"] == "succeeded").await;
    let first = server.run(build("src/**")).await;
    let seen = ended(first).await;
    assert_eq!(seen["nodes"][0]["adopted_from"], Value::Null);
    let second = server.run(build("src/**")).await;
    let seen = ended(second).await;
    assert_eq!(seen["nodes"][0]["adopted_from"], first.0);
    assert_eq!(seen["nodes"][1]["adopted_from"], Value::Null);
    let page = server.text(&format!("/runs/{second}?node=build")).await;
    let link = format!("Reused from <a href=\"/runs/{first}\">run {first}</a>");
    assert!(page.contains(&link), "{page}");
    let history = server.text(&format!("/runs/{second}/history")).await;
    assert!(history.contains("reused from run 1"), "{history}");
    let other = server.run(build("lib/**")).await;
    assert_eq!(ended(other).await["nodes"][0]["adopted_from"], Value::Null);

    let retry = async |body| {
        let path = format!("/api/v1/runs/{second}/retry");
        let answer: Value = server.post(&path, &body).await.json().await.unwrap();
        let run = RunId(answer["run"].as_u64().unwrap());
        ended(run).await["nodes"][0]["adopted_from"].clone()
    };
    assert_eq!(retry(json!({"which": "all"})).await, first.0);
    assert_eq!(retry(json!({"which": "all", "reuse": false})).await, Value::Null);
    let wrong = json!({"which": "all", "reuse": "no"});
    let wrong = server.post(&format!("/api/v1/runs/{second}/retry"), &wrong).await;
    assert_eq!(wrong.status(), 400);
}

#[tokio::test]
async fn problems_have_one_form() {
    let server = TestServer::start().await;
    let asked = [
        (server.get("/api/v1/runs/77").await, 404, "not-found"),
        (server.get("/api/v1/runs/x").await, 404, "not-found"),
        (server.get("/api/v1/runs?project=..").await, 400, "bad-request"),
        (server.get("/api/v1/runs?colour=red").await, 400, "bad-request"),
        (server.get("/api/v1/nowhere").await, 404, "not-found"),
        (
            server
                .request(Method::DELETE, "/api/v1/runs")
                .send()
                .await
                .unwrap(),
            405,
            "method-not-allowed",
        ),
        (
            server
                .post(
                    "/api/v1/runs",
                    &json!({"project": "mall", "pipeline": "web", "x": 1}),
                )
                .await,
            400,
            "bad-request",
        ),
        (
            server
                .post("/api/v1/runs", &json!({"project": "m".repeat(2_000_000)}))
                .await,
            413,
            "too-large",
        ),
    ];
    for (response, status, word) in asked {
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["type"], format!("urn:pipekeeper:problem:{word}"));
        assert_eq!(problem["status"], status);
        for field in ["title", "detail", "hint"] {
            assert!(!problem[field].as_str().unwrap().is_empty(), "{problem}");
        }
    }
    let plain = server
        .request(Method::POST, "/api/v1/runs")
        .bearer_auth(&server.token)
        .body("{}");
    assert_eq!(plain.send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn deliveries_are_listed_shown_and_replayed() {
    use pipekeeper_store::{NewDelivery, Store};
    let server = TestServer::start().await;
    let delivery = NewDelivery {
        project: "mall".parse().unwrap(),
        forge_id: "a".to_owned(),
        event: "push".to_owned(),
        received_at: super::harness::NOW,
        body: b"{\"a\":1}".to_vec(),
    };
    server.store.accept_delivery(delivery).await.unwrap();
    let mut news = server.handle.listen();
    server.handle.delivery_stored();
    while server.json("/api/v1/deliveries").await["deliveries"][0]["outcome"]["what"] != "ignored" {
        news.recv().await.unwrap();
    }
    assert_eq!(server.json("/api/v1/deliveries/1").await["body"], "{\"a\":1}");
    assert_eq!(server.get("/api/v1/deliveries/2").await.status(), 404);
    let replayed = server.post("/api/v1/deliveries/1/replay", &Value::Null).await;
    assert_eq!(replayed.status(), 200);
    assert_eq!(
        server
            .post("/api/v1/deliveries/9/replay", &Value::Null)
            .await
            .status(),
        404
    );
}

#[tokio::test]
async fn the_server_counts_and_says_that_it_is_ready() {
    let server = TestServer::start().await;
    assert_eq!(server.json("/readyz").await["status"], "ready");
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    server.until(run, |run| run["phase"] == "finished").await;
    while !server
        .text("/metrics")
        .await
        .contains(r#"pipe_runs_finished_total{outcome="succeeded"} 1"#)
    {}
    let unknown = first_attempt(run, 9);
    assert!(!server.layout.log(unknown).exists());
}

#[tokio::test]
async fn outputs_of_any_size_are_given_out() {
    let large = vec![b'x'; 100_000];
    let digest = Digest::of(&large);
    let value = OutputValue::File {
        digest: digest.clone(),
        bytes: Bytes(100_000),
    };
    let play = move |_| Play {
        outputs: BTreeMap::from([
            ("notes".to_owned(), value.clone()),
            ("v".to_owned(), "1.2".into()),
        ]),
        ..Play::default()
    };
    let server = TestServer::with(Limits::default(), play).await;
    let path = server.layout.blob(&digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, &large).unwrap();
    let run = server.run(request("s", "main", vec![work("build", &[])])).await;
    let told = server.until_state(run, 0, "succeeded").await;
    let node = &told["nodes"][0];
    assert_eq!(node["outputs"], json!({ "v": "1.2" }));
    assert_eq!(node["large_outputs"]["notes"]["bytes"], 100_000);
    let outputs = format!("/api/v1/runs/{run}/nodes/build/outputs");
    let response = server.get(&format!("{outputs}/notes")).await;
    assert_eq!(response.headers()["content-disposition"], "attachment");
    assert_eq!(
        response.headers()["content-security-policy"],
        "default-src 'none'; sandbox"
    );
    assert_eq!(response.bytes().await.unwrap(), large);
    assert_eq!(server.text(&format!("{outputs}/v")).await, "1.2");
    assert_eq!(server.get(&format!("{outputs}/other")).await.status(), 404);
    let page = server.text(&format!("/runs/{run}")).await;
    assert!(
        page.contains("/nodes/build/outputs/notes\" download=\"notes\">a file, 97 KiB</a>"),
        "{page}"
    );
    std::fs::remove_file(path).unwrap();
    assert_eq!(server.get(&format!("{outputs}/notes")).await.status(), 410);
}
