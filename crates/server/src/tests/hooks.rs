use std::time::Duration;

use pipekeeper_forge::{ForgeKind, HookSecret, sign};
use pipekeeper_store::Store;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::harness::{HOOK, POISON, SECRET, TestServer, read_to_end};
use crate::Limits;

const MIB: usize = 1024 * 1024;

pub(super) async fn deliver(server: &TestServer, secret: &str, body: Vec<u8>) -> Response {
    let secret = HookSecret::new(secret).unwrap();
    let mut request = server.request(Method::POST, HOOK);
    for (name, value) in sign(ForgeKind::Gitea, &secret, &body) {
        request = request.header(name, value);
    }
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn a_signed_delivery_is_stored_then_answered() {
    let server = TestServer::start().await;
    let body = br#"{"odd": "bytes \u0000"}  "#.to_vec();
    let response = deliver(&server, SECRET, body.clone()).await;
    assert_eq!(response.status(), 202);
    let told: Value = response.json().await.unwrap();
    assert_eq!(told["status"], "accepted");
    let stored = server.store.deliveries(None, None, 9).await.unwrap();
    assert_eq!(told["delivery"], stored[0].id.0);
    let whole = server.store.delivery(stored[0].id).await.unwrap().unwrap();
    assert_eq!(whole.received.body, body);

    let again: Value = deliver(&server, SECRET, body).await.json().await.unwrap();
    assert_eq!(again["status"], "duplicate");
    assert_eq!(again["delivery"], told["delivery"]);
    assert_eq!(server.deliveries().await, 1);
}

#[tokio::test]
async fn a_delivery_that_breaks_our_side_is_settled_and_the_next_is_handled() {
    let server = TestServer::start().await;
    let mut news = server.handle.listen();
    for (body, outcome) in [(POISON, "errored"), (b"{}", "ignored")] {
        assert_eq!(deliver(&server, SECRET, body.to_vec()).await.status(), 202);
        while server.json("/api/v1/deliveries").await["deliveries"][0]["outcome"]["what"] != outcome {
            news.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_bad_signature_is_refused_and_listed_without_its_body() {
    let server = TestServer::start().await;
    let response = deliver(&server, "guessed", b"{\"canary\":1}".to_vec()).await;
    assert_eq!(response.status(), 401);
    assert_eq!(server.deliveries().await, 0);
    let refusals = server.text("/api/v1/refusals?project=mall").await;
    assert!(refusals.contains("signature does not match"), "{refusals}");
    assert!(!refusals.contains("canary"));

    let unsigned = server
        .request(Method::POST, HOOK)
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 401);
    let problem: Value = unsigned.json().await.unwrap();
    assert!(
        problem["detail"].as_str().unwrap().contains("x-gitea-signature"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_body_of_25_mib_is_taken_and_one_byte_more_is_not() {
    let server = TestServer::start().await;
    assert_eq!(deliver(&server, SECRET, vec![b' '; 25 * MIB]).await.status(), 202);
    let announced = format!(
        "POST {HOOK} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        25 * MIB + 1
    );
    // Nothing of the body is sent: the announcement alone is refused.
    let answer = read_to_end(&mut server.raw(announced.as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_streamed_body_is_refused_once_it_is_too_large() {
    let limits = Limits {
        hook_body: 4 * MIB,
        ..Limits::default()
    };
    let server = TestServer::with(limits, |_| Default::default()).await;
    let chunk = vec![b'x'; MIB];
    let endless = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
    let sent = server
        .request(Method::POST, HOOK)
        .body(reqwest::Body::wrap_stream(endless))
        .send()
        .await;
    // The server stops reading: the client sees the answer, or a connection that breaks under its writes.
    if let Ok(response) = sent {
        assert_eq!(response.status(), 413);
    }
    assert_eq!(server.deliveries().await, 0);
    assert!(
        server
            .text("/metrics")
            .await
            .contains(r#"route="/hooks/{token}",method="POST",status="413""#)
    );
}

#[tokio::test]
async fn only_so_many_are_handled_at_once() {
    let limits = Limits {
        hooks: 1,
        ..Limits::default()
    };
    let server = TestServer::with(limits, |_| Default::default()).await;
    let head = format!("POST {HOOK} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n");
    let mut slow = server.raw(head.as_bytes()).await;
    while !server.text("/metrics").await.contains("pipe_hooks_in_progress 1") {}
    let second = deliver(&server, SECRET, b"{}".to_vec()).await;
    assert_eq!(second.status(), 503);
    assert_eq!(second.headers()["retry-after"], "1");
    slow.shutdown().await.unwrap();
    drop(slow);
    while !server.text("/metrics").await.contains("pipe_hooks_in_progress 0") {}
    assert_eq!(deliver(&server, SECRET, b"{}".to_vec()).await.status(), 202);
}

#[tokio::test]
async fn a_head_that_never_ends_is_closed() {
    let limits = Limits {
        header_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = TestServer::with(limits, |_| Default::default()).await;
    let mut stream = server
        .raw(b"POST /hooks/hook-token HTTP/1.1\r\nhost: local")
        .await;
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = TestServer::with(limits, |_| Default::default()).await;
    let head = format!("POST {HOOK} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1234");
    let answer = read_to_end(&mut server.raw(head.as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let head = format!("POST {HOOK} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n{{");
    for _ in 0..20 {
        drop(server.raw(head.as_bytes()).await);
    }
    while !server.text("/metrics").await.contains("pipe_hooks_in_progress 0") {}
    assert_eq!(server.deliveries().await, 0);
    assert_eq!(deliver(&server, SECRET, b"{}".to_vec()).await.status(), 202);
}

#[tokio::test]
async fn a_store_that_cannot_write_is_said_to_be_so() {
    let server = TestServer::start().await;
    server.store.close().await;
    let response = deliver(&server, SECRET, b"{}".to_vec()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(server.get("/readyz").await.status(), 503);
    assert_eq!(server.get("/healthz").await.status(), 200);
}
