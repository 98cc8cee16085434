//! Environments: kept as documents, named by role bindings, and gates at which roles bound to them count.

use std::{collections::BTreeMap, sync::Arc};

use pipekeeper_controller::{Environments as _, People as _};
use pipekeeper_engine::{RunRequest, Signature};
use pipekeeper_model::{
    NodeId, RunId,
    plan::{Body, EnvironmentRule, Node, Start},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    plans::{gate, request, work},
    roles::{add, grant, login},
};
use crate::{KeptEnvironments, RegisteredPeople};

async fn apply(server: &TestServer, documents: Value) -> (u16, String) {
    let body = json!({ "documents": documents, "mode": "apply" });
    let answer = server.post("/api/v1/documents/apply", &body).await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// What somebody hears who sends this to a path.
async fn says(server: &TestServer, token: &str, path: &str, body: &Value) -> (u16, String) {
    let request = server.request(Method::POST, path).bearer_auth(token);
    let answer = request.json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Waits until somebody sees the run as wanted.
async fn until(server: &TestServer, token: &str, run: RunId, wanted: impl Fn(&Value) -> bool) {
    let mut news = server.handle.listen();
    loop {
        let request = server.request(Method::GET, &format!("/api/v1/runs/{run}"));
        let seen: Value = request
            .bearer_auth(token)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        if wanted(&seen) {
            return;
        }
        news.recv().await.unwrap();
    }
}

/// Gates for ops: one of the pipeline, and that of `prod` before its only action.
fn gated() -> RunRequest {
    let mut deploy = work("deploy", &[0]);
    if let Body::Work(work) = &mut deploy.body {
        work.environment = Some("prod".parse().unwrap());
    }
    let for_ops = |mut node: Node| {
        if let Body::Approve(rule) = &mut node.body {
            rule.by = vec!["role:ops".parse().unwrap()];
        }
        node
    };
    let nodes = vec![
        work("build", &[]),
        for_ops(gate("approve-prod", &[], "start?")),
        deploy,
        for_ops(gate("own", &[], "Ship?")),
    ];
    let mut request = request("s", "main", nodes);
    let rule = EnvironmentRule {
        gate: Some(NodeId(1)),
        ..EnvironmentRule::default()
    };
    request.plan.environments = BTreeMap::from([("prod".parse().unwrap(), rule)]);
    request
}

#[tokio::test]
async fn a_role_that_is_bound_to_an_environment_counts_at_its_gate_and_nowhere_else() {
    let server = TestServer::start().await;
    let run = server.run(gated()).await;
    let told = server.until_state(run, 1, "awaiting approval").await;
    add(&server, "ann", grant("viewer", "mall")).await;
    let binding = |environment: &str| {
        json!({ "kind": "RoleBinding", "name": "ops", "role": "ops", "users": ["ann"],
                "projects": ["mall"], "environments": [environment] })
    };
    let environments = [
        json!({ "kind": "Environment", "name": "prod" }),
        json!({ "kind": "Environment", "name": "test" }),
    ];
    let (status, said) = apply(
        &server,
        json!([environments[0], environments[1], binding("test")]),
    )
    .await;
    assert_eq!(status, 200, "{said}");
    let ann = login(&server, "ann").await;
    let gate = |node: usize| &told["nodes"][node]["gate"]["environment"];
    assert_eq!((gate(1), gate(3)), (&json!("prod"), &Value::Null));
    let body = |node: usize| json!({ "subject": told["nodes"][node]["gate"]["subject"] });
    let path = |node: &str| format!("/api/v1/runs/{run}/nodes/{node}/approve");
    let (status, why) = says(&server, &ann, &path("approve-prod"), &body(1)).await;
    assert_eq!(status, 403, "{why}");
    assert_eq!(apply(&server, json!([binding("prod")])).await.0, 200);
    let (status, why) = says(&server, &ann, &path("own"), &body(3)).await;
    assert_eq!(status, 403, "{why}");
    assert_eq!(says(&server, &ann, &path("approve-prod"), &body(1)).await.0, 200);
    // They still stand there when the action asks for its ticket.
    until(&server, &ann, run, |run| {
        run["nodes"][2]["outcome"] == "succeeded"
    })
    .await;
}

#[tokio::test]
async fn where_somebody_stands_is_told_for_each_environment() {
    let server = TestServer::start().await;
    add(&server, "ann", grant("viewer", "mall")).await;
    let binding = json!({ "kind": "RoleBinding", "name": "ops", "role": "ops", "users": ["ann"], "environments": ["prod"] });
    let (status, said) = apply(
        &server,
        json!([{ "kind": "Environment", "name": "prod" }, binding]),
    )
    .await;
    assert_eq!(status, 200, "{said}");
    let people = RegisteredPeople::new(Arc::new(server.store.clone()));
    let signed = |environment: Option<&str>| Signature {
        person: "ann".parse().unwrap(),
        environment: environment.map(|name| name.parse().unwrap()),
    };
    let places = [None, Some("prod"), Some("test")].map(signed);
    let (mall, signed) = ("mall".parse().unwrap(), places.clone().into());
    let told = people.standings(&mall, &signed, &[]).await.unwrap();
    let is_ops = places.map(|place| {
        let person = told[&place].person().cloned().unwrap();
        person.roles.iter().any(|role| role.as_str() == "ops")
    });
    assert_eq!(is_ops, [false, true, false]);
}

#[tokio::test]
async fn runs_are_planned_with_what_was_applied_last() {
    let server = TestServer::start().await;
    let kept = KeptEnvironments::new(Arc::new(server.store.clone()));
    let mall = "mall".parse().unwrap();
    assert!(kept.of(&mall).await.unwrap().is_empty());
    for branch in ["main", "live"] {
        let prod = json!({ "kind": "Environment", "name": "prod", "namespace": "${{ project }}-live", "branches": [branch] });
        assert_eq!(apply(&server, json!([prod])).await.0, 200);
        let all = kept.of(&mall).await.unwrap();
        let prod = all.values().next().unwrap();
        assert_eq!(prod.namespace.as_deref(), Some("mall-live"));
        assert!(prod.branches.admit(branch) && !prod.branches.admit("dev"));
    }
}

#[tokio::test]
async fn an_environment_that_its_keys_forbid_is_refused_whoever_sends_it() {
    let server = TestServer::start().await;
    let environment = |key: &str, value: Value| {
        let mut document = json!({ "kind": "Environment", "name": "prod" });
        document[key] = value;
        document
    };
    for (wrong, why) in [
        (
            environment("windows", json!([{ "deny": "Sat", "timezone": "Mars/Olympus" }])),
            "Mars/Olympus",
        ),
        (environment("vars", json!({ "A B": "x" })), "A B"),
        (environment("approvals", json!({ "count": 0 })), "count"),
        (environment("branches", json!(["a[b"])), "a[b"),
    ] {
        let (status, said) = apply(&server, json!([wrong])).await;
        assert_eq!(status, 422, "{said}");
        assert!(said.contains(why), "{why}: {said}");
    }
    let unknown = json!({ "kind": "RoleBinding", "name": "ops", "role": "ops", "users": ["ann"], "environments": ["prod"] });
    let (status, said) = apply(&server, json!([unknown.clone()])).await;
    assert_eq!(status, 422, "{said}");
    assert!(said.contains("there is no Environment `prod`"), "{said}");
    assert_eq!(
        apply(&server, json!([{ "kind": "Environment", "name": "prod" }]))
            .await
            .0,
        200
    );
    assert_eq!(apply(&server, json!([unknown])).await.0, 200);
}

#[tokio::test]
async fn another_person_confirms_a_start() {
    let server = TestServer::start().await;
    let ship = Node {
        start: Start::Confirm { by_other: true },
        ..work("ship", &[])
    };
    let run = server.run(request("s", "main", vec![ship])).await;
    server.until_state(run, 0, "awaiting start").await;
    for name in ["ann", "bob"] {
        add(&server, name, grant("developer", "")).await;
    }
    let (ann, bob) = (login(&server, "ann").await, login(&server, "bob").await);
    let path = format!("/api/v1/runs/{run}/nodes/ship/start");
    assert_eq!(says(&server, &ann, &path, &json!({})).await.0, 200);
    let request = server.request(Method::GET, &format!("/api/v1/runs/{run}"));
    let told: Value = request
        .bearer_auth(&bob)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let start = &told["nodes"][0]["start"];
    assert_eq!(
        (&start["looked_by"], &start["by_other"]),
        (&json!("ann"), &json!(true))
    );
    let confirm = json!({ "confirm": true });
    let (status, why) = says(&server, &ann, &path, &confirm).await;
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("another person"), "{why}");
    let cookie = server.login().await;
    let request = server.request(Method::GET, &format!("/runs/{run}"));
    let page = request
        .header("cookie", cookie)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(page.contains("Another person is to confirm it"), "{page}");
    assert_eq!(says(&server, &server.token, &path, &confirm).await.0, 403);
    assert_eq!(says(&server, &bob, &path, &confirm).await.0, 200);
    until(&server, &bob, run, |run| run["phase"] == "finished").await;
}
