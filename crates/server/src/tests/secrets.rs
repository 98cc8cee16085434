//! Secrets over the API: set, listed, bound by documents, removed; who may, and that no value comes back.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::TestServer,
    roles::{add, grant, login},
};

const CANARY: &str = "canary-6d1f";

async fn ask(server: &TestServer, token: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = server.request(method, path).bearer_auth(token).json(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn set(server: &TestServer, token: &str, mut body: Value) -> (u16, Value) {
    body["value"] = CANARY.into();
    ask(server, token, Method::POST, "/api/v1/secrets/set", &body).await
}

async fn listed(server: &TestServer, token: &str) -> Vec<Value> {
    let (_, said) = ask(server, token, Method::GET, "/api/v1/secrets", &Value::Null).await;
    said["secrets"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_value_is_taken_and_never_given() {
    let server = TestServer::start().await;
    let (status, first) = set(
        &server,
        &server.token,
        json!({ "name": "NPM", "project": "mall" }),
    )
    .await;
    assert_eq!(
        (status, &first["name"], &first["known_as"]),
        (200, &json!("mall.NPM"), &json!("NPM"))
    );
    assert!(first["made_key_file"].as_str().unwrap().ends_with("keys"));
    let bound = json!({ "name": "NPM", "project": "mall", "tiers": ["branches"], "images": ["r.test/npm"] });
    let (_, second) = set(&server, &server.token, bound).await;
    assert_eq!(
        (&second["value"]["version"], &second["made_key_file"]),
        (&json!(2), &Value::Null)
    );
    let again = json!({ "name": "NPM", "project": "mall" });
    let (_, third) = set(&server, &server.token, again.clone()).await;
    assert_eq!(third["bindings"], second["bindings"], "what is not said stays");

    let mut all = vec![json!([first, second, third]).to_string()];
    for path in [
        "/api/v1/secrets",
        "/api/v1/documents",
        "/api/v1/documents/Secret/mall.NPM/versions",
        "/api/v1/audit",
        "/audit",
    ] {
        let request = server.request(Method::GET, path).bearer_auth(&server.token);
        all.push(request.send().await.unwrap().text().await.unwrap());
    }
    for text in all {
        assert!(text.contains("NPM"), "{text}");
        assert!(!text.contains(CANARY), "{text}");
    }
    let (status, _) = ask(
        &server,
        &server.token,
        Method::POST,
        "/api/v1/secrets/remove",
        &again,
    )
    .await;
    assert_eq!(status, 200);
    assert_eq!(listed(&server, &server.token).await, Vec::<Value>::new());
    let (status, _) = ask(
        &server,
        &server.token,
        Method::POST,
        "/api/v1/secrets/remove",
        &again,
    )
    .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_is_no_secret_is_refused() {
    let server = TestServer::start().await;
    let cases = [
        (
            json!({ "name": "A", "project": "nowhere" }),
            404,
            "no project `nowhere`",
        ),
        (json!({ "name": "A", "images": ["![x"] }), 422, "is no image"),
        (
            json!({ "name": "A".repeat(60), "project": "mall" }),
            422,
            "too long",
        ),
        (json!({ "name": "A", "tiers": ["forks"] }), 400, "unknown variant"),
    ];
    for (body, status, why) in cases {
        let (found, said) = set(&server, &server.token, body).await;
        assert_eq!(found, status, "{said}");
        assert!(said["detail"].as_str().unwrap().contains(why), "{said}");
        assert!(!said.to_string().contains(CANARY), "{said}");
    }
    for value in ["", "a\0b", &"x".repeat(65 * 1024)] {
        let body = json!({ "name": "A", "value": value });
        let (status, said) = ask(&server, &server.token, Method::POST, "/api/v1/secrets/set", &body).await;
        assert_eq!(status, 422, "{said}");
    }
}

#[tokio::test]
async fn maintainers_change_the_secrets_of_their_projects_alone() {
    let server = TestServer::start().await;
    add(&server, "mia", grant("maintainer", "mall")).await;
    add(&server, "sam", grant("maintainer", "shop")).await;
    let (mia, sam) = (login(&server, "mia").await, login(&server, "sam").await);
    let own = json!({ "name": "NPM", "project": "mall" });
    assert_eq!(set(&server, &sam, own.clone()).await.0, 403);
    assert_eq!(set(&server, &mia, own.clone()).await.0, 200);
    assert_eq!(
        set(&server, &mia, json!({ "name": "ALL" })).await.0,
        403,
        "it is everybody's"
    );
    assert_eq!(set(&server, &server.token, json!({ "name": "ALL" })).await.0, 200);
    assert_eq!(listed(&server, &mia).await.len(), 2);
    assert_eq!(
        listed(&server, &sam).await.len(),
        1,
        "another project's is not there"
    );
    assert_eq!(
        ask(&server, &sam, Method::POST, "/api/v1/secrets/remove", &own)
            .await
            .0,
        404
    );
    // What is said of a secret of others is what is said where there is none.
    for (there, none) in [
        (
            json!({ "name": "NPM", "project": "mall" }),
            json!({ "name": "NONE", "project": "mall" }),
        ),
        (json!({ "name": "mall.NPM" }), json!({ "name": "mall.NONE" })),
    ] {
        let (one, other) = (set(&server, &sam, there).await, set(&server, &sam, none).await);
        assert_eq!((one.0, &one.1["detail"]), (other.0, &other.1["detail"]));
    }
    add(&server, "dev", grant("developer", "")).await;
    let dev = login(&server, "dev").await;
    for (token, status, shown) in [(&dev, 404, 0), (&server.token, 200, 2)] {
        for path in [
            "/api/v1/documents/Secret/ALL",
            "/api/v1/documents/Secret/ALL/versions",
        ] {
            assert_eq!(
                ask(&server, token, Method::GET, path, &Value::Null).await.0,
                status,
                "{path}"
            );
        }
        for path in ["/api/v1/documents", "/api/v1/documents?kind=Secret"] {
            let (_, said) = ask(&server, token, Method::GET, path, &Value::Null).await;
            assert_eq!(said["documents"].as_array().unwrap().len(), shown, "{path}");
        }
    }
    let rotate = ask(
        &server,
        &mia,
        Method::POST,
        "/api/v1/secrets/rotate-key",
        &json!({}),
    )
    .await;
    assert_eq!(rotate.0, 403);
    let (status, rotated) = ask(
        &server,
        &server.token,
        Method::POST,
        "/api/v1/secrets/rotate-key",
        &json!({}),
    )
    .await;
    assert_eq!((status, &rotated["taken_over"]), (200, &json!(2)));
}

#[tokio::test]
async fn a_document_binds_a_value_otherwise_and_takes_it_away() {
    let server = TestServer::start().await;
    let apply = async |document: Value| {
        let body = json!({ "documents": [document] });
        let (status, said) = ask(
            &server,
            &server.token,
            Method::POST,
            "/api/v1/documents/apply",
            &body,
        )
        .await;
        (status, said["detail"].as_str().unwrap_or_default().to_owned())
    };
    let secret = |more: Value| {
        let mut document =
            json!({ "kind": "Secret", "name": "npm", "known_as": "NPM", "projects": ["mall"] });
        document
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        document
    };
    assert_eq!(apply(secret(json!({}))).await.0, 200);
    assert_eq!(listed(&server, &server.token).await[0]["value"], Value::Null);
    assert_eq!(set(&server, &server.token, json!({ "name": "npm" })).await.0, 200);
    assert_eq!(
        apply(secret(json!({ "events": ["tag"], "known_as": "NODE" })))
            .await
            .0,
        200
    );
    let rebound = listed(&server, &server.token).await.remove(0);
    assert_eq!(rebound["bindings"]["events"], json!(["tag"]));
    assert_eq!(
        (&rebound["known_as"], &rebound["value"]["version"]),
        (&json!("NODE"), &json!(1))
    );
    let rotate = ask(
        &server,
        &server.token,
        Method::POST,
        "/api/v1/secrets/rotate-key",
        &json!({}),
    )
    .await;
    assert_eq!(rotate.0, 200, "it opens under its new bindings: {}", rotate.1);

    let (status, why) = apply(secret(json!({ "file": "/etc/shadow" }))).await;
    assert!(
        status == 422 && why.contains("`pipe secret set` takes a value"),
        "{why}"
    );
    let (status, why) = apply(secret(json!({ "projects": ["nowhere"] }))).await;
    assert!(status == 422 && why.contains("no Project `nowhere`"), "{why}");
    let path = "/api/v1/documents/Secret/npm/remove";
    assert_eq!(
        ask(&server, &server.token, Method::POST, path, &json!({}))
            .await
            .0,
        200
    );
    assert_eq!(apply(secret(json!({}))).await.0, 200);
    assert_eq!(
        listed(&server, &server.token).await[0]["value"],
        Value::Null,
        "no old value comes back with a new document"
    );
}
