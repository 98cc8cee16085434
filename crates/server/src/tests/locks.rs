//! Locks in the API: who has them, who waits, and what somebody may not see.

use pipekeeper_backend::dummy::{Ending, Play};
use pipekeeper_model::{
    NodeId,
    plan::{Lock, LockScope, Node},
};
use serde_json::Value;

use super::{
    harness::TestServer,
    plans::{request, work},
    roles::{add, grant, login},
};
use crate::Limits;

fn locked(node: Node) -> Node {
    let lock = Lock {
        name: "db".parse().unwrap(),
        slots: 1,
        newest_first: false,
        yields_at_gate: false,
        scope: LockScope::Server,
    };
    Node {
        locks: vec![lock],
        hold: Some(NodeId(0)),
        ..node
    }
}

#[tokio::test]
async fn locks_say_who_has_them_and_who_waits() {
    let server = TestServer::with(Limits::default(), |_| Play {
        ending: Ending::Hang,
        ..Play::default()
    })
    .await;
    let plan = || request("s", "main", vec![locked(work("build", &[]))]);
    let first = server.run(plan()).await;
    server.until_state(first, 0, "running").await;
    let second = server.run(plan()).await;
    let lock = |answer: &Value| answer["locks"][0].clone();
    let all = lock(&server.json("/api/v1/locks").await);
    assert_eq!((&all["name"], &all["slots"]), (&"db".into(), &1.into()));
    assert_eq!(all["holders"][0]["run"], first.0);
    assert_eq!(all["waiting"][0]["run"], second.0);
    let why = server.json(&format!("/api/v1/runs/{second}/why")).await;
    let why = why["nodes"][0]["why"].as_str().unwrap();
    let who = format!("waits for the lock `db` of the server, held by run {first} (web/build) since ");
    assert!(why.starts_with(&who), "{why}");

    add(&server, "stranger", grant("viewer", "shop")).await;
    let token = login(&server, "stranger").await;
    let seen = server
        .request(reqwest::Method::GET, "/api/v1/locks")
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    let seen: Value = seen.json().await.unwrap();
    assert_eq!(seen["locks"].as_array().unwrap().len(), 0);
}
