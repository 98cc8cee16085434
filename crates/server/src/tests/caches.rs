//! Listing and removing caches.

use std::fs::{self, File};

use serde_json::{Value, json};

use super::harness::TestServer;

fn put(server: &TestServer, place: &str) -> File {
    let path = server.layout.caches().join(place);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"four").unwrap();
    File::open(path).unwrap()
}

async fn remove(server: &TestServer, body: Value) -> (u16, Value) {
    let response = server.post("/api/v1/caches/remove", &body).await;
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn caches_are_listed_and_removed_but_not_under_a_reader() {
    let server = TestServer::start().await;
    put(&server, "mall/protected/cargo/a.tar.zst");
    let reader = put(&server, "mall/branches/cargo/b.tar.zst");
    put(&server, "other/branches/npm/c.tar.zst");
    let all = server.json("/api/v1/caches").await;
    assert_eq!(all["caches"].as_array().unwrap().len(), 3);
    assert_eq!(all["caches"][0]["bytes"], 4);
    let one = server.json("/api/v1/caches?project=other").await;
    assert_eq!(one["caches"][0]["name"], "npm");
    assert_eq!(server.get("/api/v1/caches?project=..%2F").await.status(), 400);

    assert_eq!(remove(&server, json!({ "project": "mall" })).await.0, 400);
    assert_eq!(remove(&server, json!({ "name": "../.." })).await.0, 400);
    reader.lock_shared().unwrap();
    let (status, removed) = remove(&server, json!({ "name": "cargo" })).await;
    assert_eq!(status, 200);
    assert_eq!(removed["removed"][0]["key"], "a");
    assert_eq!(removed["in_use"][0]["key"], "b");
    drop(reader);
    let (_, removed) = remove(&server, json!({ "all": true })).await;
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2);
}
