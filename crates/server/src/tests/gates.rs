//! Who decides at gates, by what the records of people say then and later.

use pipekeeper_model::plan::Body;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    plans::{gate, request, work},
    roles::{add, grant, login},
};

/// What somebody hears who says this at a path.
async fn says(server: &TestServer, token: &str, path: &str, body: &Value) -> (u16, String) {
    let request = server.request(Method::POST, path).bearer_auth(token);
    let answer = request.json(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let told: Value = answer.json().await.unwrap();
    (status, told["detail"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_rule_asks_those_who_have_a_role_but_not_who_started_the_run() {
    let server = TestServer::start().await;
    let mut ok = gate("ok", &[], "Ship?");
    if let Body::Approve(rule) = &mut ok.body {
        rule.by = vec!["role:ops".parse().unwrap()];
    }
    // Whoever runs this is called `dev`.
    let run = server
        .run(request("s", "main", vec![ok, work("ship", &[0])]))
        .await;
    let told = server.until_state(run, 0, "awaiting approval").await;
    let open = &told["nodes"][0]["gate"];
    assert_eq!(
        (&open["by"], &open["not_by"]),
        (&json!(["role:ops"]), &json!("dev"))
    );
    let body = json!({ "subject": open["subject"] });
    for (name, role) in [
        ("dev", "ops"),
        ("ann", "developer"),
        ("olga", "ops"),
        ("root", "admin"),
    ] {
        add(&server, name, grant(role, "")).await;
    }
    let path = format!("/api/v1/runs/{run}/nodes/ok");
    let (approve, reject) = (format!("{path}/approve"), format!("{path}/reject"));
    let dev = login(&server, "dev").await;
    let (status, why) = says(&server, &dev, &approve, &body).await;
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("you asked for this run"), "{why}");
    let ann = login(&server, "ann").await;
    let (status, why) = says(&server, &ann, &approve, &body).await;
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("role:ops") && why.contains("developer"), "{why}");
    let bypass = json!({ "subject": open["subject"], "bypass": true, "comment": "it burns" });
    assert_eq!(says(&server, &ann, &approve, &bypass).await.0, 403);
    let olga = login(&server, "olga").await;
    assert_eq!(
        says(&server, &olga, &reject, &body).await.0,
        422,
        "it says no reason"
    );
    assert_eq!(says(&server, &olga, &approve, &body).await.0, 200);
}

#[tokio::test]
async fn an_admin_bypasses_a_gate_and_everybody_sees_it() {
    let server = TestServer::start().await;
    let nodes = vec![gate("ok", &[], "Ship?"), work("ship", &[0])];
    let run = server.run(request("s", "main", nodes)).await;
    let told = server.until_state(run, 0, "awaiting approval").await;
    let body =
        json!({ "subject": told["nodes"][0]["gate"]["subject"], "bypass": true, "comment": "it burns" });
    let path = format!("/api/v1/runs/{run}/nodes/ok/approve");
    assert_eq!(server.post(&path, &body).await.status(), 200);
    let told = server.until(run, |run| run["phase"] == "finished").await;
    let gate = &told["nodes"][0];
    assert_eq!(
        (&gate["state"], &gate["outcome"]),
        (&json!("bypassed"), &json!("succeeded"))
    );
    assert_eq!(gate["bypassed"]["comment"], "it burns");
}

#[tokio::test]
async fn the_servers_own_token_and_tokens_that_only_look_approve_for_nobody() {
    let server = TestServer::start().await;
    let nodes = vec![gate("ok", &[], "Ship?"), work("ship", &[0])];
    let run = server.run(request("s", "main", nodes)).await;
    let told = server.until_state(run, 0, "awaiting approval").await;
    let body = json!({ "subject": told["nodes"][0]["gate"]["subject"] });
    let path = format!("/api/v1/runs/{run}/nodes/ok/approve");
    add(&server, "ann", grant("developer", "")).await;
    let (status, why) = says(&server, &server.token, &path, &body).await;
    assert_eq!(status, 403, "{why}");
    let ann = login(&server, "ann").await;
    let draw = json!({ "label": "a dashboard", "days": 1, "role": "viewer" });
    let drawn = server.request(Method::POST, "/api/v1/tokens").bearer_auth(&ann);
    let drawn: Value = drawn.json(&draw).send().await.unwrap().json().await.unwrap();
    let (status, why) = says(&server, drawn["token"].as_str().unwrap(), &path, &body).await;
    assert_eq!(status, 403, "{why}");
    assert_eq!(says(&server, &ann, &path, &body).await.0, 200);
}
