//! The client against a real S3 server.

#![expect(clippy::unwrap_used, reason = "these are helpers of tests too")]

mod server;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, SystemTime},
};

use pipekeeper_objects::{ObjectError, ObjectStore, PresignedUrl, SecretKey, StoreOptions};

use crate::server::Server;

const MINUTE: Duration = Duration::from_secs(60);

/// What anybody does with a URL: one request, without any key. The status and the body of the answer.
async fn request(method: &'static str, url: &str, body: &'static str) -> (u16, String) {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let rest = url.strip_prefix("http://").unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} /{path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    })
    .await
    .unwrap()
}

async fn put(url: &PresignedUrl, body: &'static str) -> (u16, String) {
    request("PUT", url.reveal(), body).await
}

async fn get(url: &PresignedUrl) -> (u16, String) {
    request("GET", url.reveal(), "").await
}

async fn opened() -> (Server, ObjectStore) {
    let server = Server::start("127.0.0.1:0").await;
    let store = ObjectStore::new(&server.options()).unwrap();
    (server, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_with_a_url_is_got_with_another_and_listed() {
    let (_server, store) = opened().await;
    assert_eq!(store.list().await.unwrap(), []);
    let key = format!("{}web/branches/a cache", store.prefix());
    assert_eq!(store.head(&key).await.unwrap(), None);
    assert_eq!(put(&store.url_to_put(&key, MINUTE), "archive").await.0, 200);
    let got = get(&store.url_to_get(&key, MINUTE)).await;
    assert!(got.0 == 200 && got.1.contains("archive"), "{got:?}");
    assert_eq!(store.head(&key).await.unwrap(), Some(7));
    let listed = store.list().await.unwrap();
    let [object] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!((&object.key, object.bytes), (&key, 7));
    let age = SystemTime::now()
        .duration_since(object.stored_at)
        .unwrap_or_default();
    assert!(age < MINUTE, "{age:?}");
    store.delete(&key).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(store.list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_read_to_its_end_and_no_further_than_the_prefix() {
    let (server, store) = opened().await;
    let place = server.file("pipekeeper/i1/web");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::create_dir_all(server.file("pipekeeper/i10")).unwrap();
    std::fs::write(server.file("pipekeeper/i10/other"), "x").unwrap();
    let wanted: BTreeSet<String> = (0..2_500).map(|n| format!("pipekeeper/i1/web/{n}")).collect();
    for key in &wanted {
        std::fs::write(server.file(key), "x").unwrap();
    }
    let listed = store.list().await.unwrap().into_iter().map(|object| object.key);
    assert_eq!(listed.collect::<BTreeSet<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_good_for_its_object_its_method_and_its_time() {
    let (_server, store) = opened().await;
    let (key, other) = (format!("{}a", store.prefix()), format!("{}b", store.prefix()));
    assert_eq!(put(&store.url_to_put(&key, MINUTE), "a").await.0, 200);
    let url = store.url_to_get(&key, MINUTE);
    for wrong in [
        request("PUT", url.reveal(), "b").await,
        request("DELETE", url.reveal(), "").await,
        request("GET", &url.reveal().replace("/a?", "/b?"), "").await,
        request(
            "GET",
            &url.reveal().replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
            "",
        )
        .await,
        request("GET", url.reveal().split('?').next().unwrap(), "").await,
        get(&store.url_to_get(&key, Duration::ZERO)).await,
    ] {
        assert_eq!(wrong.0, 403, "{wrong:?}");
    }
    assert_eq!(store.head(&other).await.unwrap(), None);
    assert_eq!(store.head(&key).await.unwrap(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_another_key_is_refused_in_words_without_it() {
    let (server, _) = opened().await;
    let options = StoreOptions {
        secret_key: SecretKey::new("another-secret"),
        ..server.options()
    };
    let store = ObjectStore::new(&options).unwrap();
    let key = format!("{}a", store.prefix());
    let errors = [
        store.list().await.unwrap_err(),
        store.delete(&key).await.unwrap_err(),
        store.head(&key).await.unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(
            matches!(error, ObjectError::Refused { status: 403, .. }),
            "{text}"
        );
        assert!(!text.contains("X-Amz") && !text.contains("another"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_there_is_named() {
    let (server, _) = opened().await;
    let options = StoreOptions {
        // Nobody listens on the port for discarding.
        url: "http://127.0.0.1:9".to_owned(),
        ..server.options()
    };
    let error = ObjectStore::new(&options).unwrap().list().await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("reach the object store `http://127.0.0.1:9/caches`"),
        "{text}"
    );
    assert!(!text.contains("X-Amz"), "{text}");
}
