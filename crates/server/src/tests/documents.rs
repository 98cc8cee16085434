//! Documents: compared, applied as a set, removed, with every version; and what role bindings grant.

use pipekeeper_model::{Actor, Timestamp};
use pipekeeper_store::{Change, Expected, NewRecord, RecordKind, Registry};
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
        (elsewhere, "there is no Project `nowhere`"),
        (
            json!({ "kind": "App", "name": "shop", "project": "mall", "source": { "path": "deploy" } }),
            "does not sync Apps yet",
        ),
        (
            json!({ "kind": "Project", "name": "mall", "forge": "git", "repository": "https://git.test/a" }),
            "in the server's configuration file",
        ),
        (
            json!({ "kind": "Forge", "name": "useless", "type": "gitea", "url": "https://a" }),
            "Forge/useless: it is of no use",
        ),
        (
            json!({ "kind": "Forge", "name": "git", "type": "gitea", "url": "https://a", "token": { "file": "/etc/shadow" } }),
            "Forge/git.token.file: files of the server's machine",
        ),
        (
            json!({ "kind": "Project", "name": "web", "forge": "git", "repository": "a/web" }),
            "there is no Forge `git`",
        ),
        (binding("team", "viewer", &["bob"]), "twice"),
        (binding("empty", "viewer", &[]), "nobody gets the role"),
        (
            json!({ "kind": "RoleBinding", "name": "all", "role": "admin", "users": ["ann"], "projects": [] }),
            "names none",
        ),
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

#[tokio::test]
async fn what_documents_name_is_there_and_stays() {
    let server = TestServer::start().await;
    let forge = json!({ "kind": "Forge", "name": "git", "type": "gitea", "url": "https://git.test" });
    let secret = json!({ "kind": "Secret", "name": "HOOK" });
    let project = json!({ "kind": "Project", "name": "web", "forge": "git", "repository": "a/web", "trusted": true,
        "hook_secret": { "secret": "HOOK" } });
    let (status, said) = apply(&server, json!([forge, secret, project]), "apply").await;
    assert_eq!(status, 200, "{said}");
    for path in [
        "documents/Forge/git/remove",
        "documents/Secret/HOOK/remove",
        "secrets/remove",
    ] {
        let body = if path == "secrets/remove" {
            json!({ "name": "HOOK" })
        } else {
            json!({})
        };
        let refused = server.post(&format!("/api/v1/{path}"), &body).await;
        assert_eq!(refused.status(), 409, "{path}");
        let said: Value = refused.json().await.unwrap();
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains("is named by Project/web (`"), "{detail}");
    }
    // What others say of a document counts with it.
    let bare = json!({ "kind": "Forge", "name": "git", "type": "gitea" });
    let (status, said) = apply(&server, json!([bare]), "apply").await;
    assert_eq!(status, 422, "{said}");
    assert!(
        said["detail"]
            .as_str()
            .unwrap()
            .starts_with("Project/web.repository: "),
        "{said}"
    );
    let bound = json!({ "kind": "Secret", "name": "HOOK", "all_projects": true });
    assert_eq!(apply(&server, json!([bound]), "apply").await.0, 422);
    for path in ["Project/web", "Forge/git", "Secret/HOOK"] {
        let removed = server
            .post(&format!("/api/v1/documents/{path}/remove"), &json!({}))
            .await;
        assert_eq!(removed.status(), 200, "{path}");
    }
}

/// One that a newer release kept stands in nobody's way, and can be removed.
#[tokio::test]
async fn what_cannot_be_read_is_named_and_stops_nothing_else() {
    let server = TestServer::start().await;
    let set = json!([binding("team", "developer", &["ann"]), { "kind": "Forge", "name": "git", "type": "gitea", "url": "https://git.test" }]);
    assert_eq!(apply(&server, set, "apply").await.0, 200);
    let newer = Change {
        kind: RecordKind::Document,
        name: "Forge/git".to_owned(),
        expected: Expected::Present,
        to: Some(NewRecord {
            owner: "Forge".to_owned(),
            body: json!({ "kind": "Forge", "name": "git", "type": "of-tomorrow" }).to_string(),
            expires: None,
        }),
        author: Actor::System,
        at: Timestamp(1),
    };
    server.store.change(vec![newer], Vec::new()).await.unwrap();
    let told = get(&server, "/api/v1/documents").await;
    assert_eq!(told["documents"].as_array().unwrap().len(), 1, "{told}");
    let unusable = &told["unusable"][0];
    assert_eq!(
        (&unusable["kind"], &unusable["name"]),
        (&json!("Forge"), &json!("git"))
    );
    let set = json!([binding("team", "maintainer", &["ann"])]);
    assert_eq!(apply(&server, set, "apply").await.0, 200);
    let removed = server
        .post("/api/v1/documents/Forge/git/remove", &json!({}))
        .await;
    assert_eq!(removed.status(), 200, "{}", removed.text().await.unwrap());
    assert_eq!(get(&server, "/api/v1/documents").await["unusable"], json!([]));
}
