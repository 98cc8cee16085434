//! Documents: compared, applied as a set, removed, with every version; and what role bindings grant.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    plans,
    roles::{add, login},
};

async fn apply(server: &TestServer, documents: Value, mode: &str) -> (u16, Value) {
    let body = json!({ "documents": documents, "mode": mode });
    let answer = server.post("/api/v1/documents/apply", &body).await;
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn binding(name: &str, role: &str, users: &[&str]) -> Value {
    json!({ "kind": "RoleBinding", "name": name, "role": role, "users": users, "projects": ["mall"] })
}

async fn get(server: &TestServer, path: &str) -> Value {
    let request = server.request(Method::GET, path).bearer_auth(&server.token);
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_set_is_compared_applied_and_kept_in_versions() {
    let server = TestServer::start().await;
    let first = json!([binding("team", "developer", &["ann"])]);
    let (status, compared) = apply(&server, first.clone(), "compare").await;
    assert_eq!((status, &compared["steps"][0]["what"]), (200, &json!("created")));
    assert_eq!(get(&server, "/api/v1/documents").await["documents"], json!([]));
    apply(&server, first.clone(), "apply").await;
    let (_, again) = apply(&server, first, "apply").await;
    assert_eq!(again["steps"][0]["what"], "unchanged");
    let (_, changed) = apply(&server, json!([binding("team", "maintainer", &["ann"])]), "apply").await;
    assert_eq!(
        changed["steps"][0]["changes"],
        json!([{ "path": "role", "old": "developer", "new": "maintainer" }])
    );
    let kept = get(&server, "/api/v1/documents/rolebinding/team").await;
    assert_eq!((&kept["version"], &kept["author"]), (&json!(2), &json!("admin")));
    let removed = server
        .post("/api/v1/documents/RoleBinding/team/remove", &json!({}))
        .await;
    assert_eq!(removed.status(), 200);
    let versions = get(&server, "/api/v1/documents/RoleBinding/team/versions").await;
    let versions = versions["versions"].as_array().unwrap().clone();
    assert_eq!(versions.len(), 3);
    assert_eq!(versions[0]["document"], Value::Null);
    let again = server
        .post("/api/v1/documents/RoleBinding/team/remove", &json!({}))
        .await;
    assert_eq!(again.status(), 404);
    let audit = get(&server, "/api/v1/audit?subject=document").await;
    assert_eq!(audit["entries"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_set_with_one_fault_changes_nothing() {
    let server = TestServer::start().await;
    let mut elsewhere = binding("other", "developer", &["ann"]);
    elsewhere["projects"] = json!(["nowhere"]);
    let cases = [
        (elsewhere, "there is no project `nowhere`"),
        (
            json!({ "kind": "Forge", "name": "gitea", "type": "gitea", "url": "https://a" }),
            "from its configuration file",
        ),
        (binding("team", "viewer", &["bob"]), "twice"),
        (binding("empty", "viewer", &[]), "names no `users`"),
    ];
    for (wrong, why) in cases {
        let set = json!([binding("team", "developer", &["ann"]), wrong]);
        let (status, said) = apply(&server, set, "apply").await;
        assert_eq!(status, 422, "{said}");
        assert!(said["detail"].as_str().unwrap().contains(why), "{why}: {said}");
    }
    assert_eq!(get(&server, "/api/v1/documents").await["documents"], json!([]));
}

#[tokio::test]
async fn a_role_binding_holds_at_the_next_request() {
    let server = TestServer::start().await;
    let run = server
        .run(plans::request("s", "main", vec![plans::work("build", &[])]))
        .await;
    add(&server, "ann", json!([])).await;
    let token = login(&server, "ann").await;
    let look = async || {
        let request = server
            .request(Method::GET, &format!("/api/v1/runs/{run}"))
            .bearer_auth(&token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(look().await, 404);
    apply(&server, json!([binding("team", "viewer", &["ann"])]), "apply").await;
    assert_eq!(look().await, 200);
    apply(&server, json!([binding("team", "viewer", &["bob"])]), "apply").await;
    assert_eq!(look().await, 404);
}
