//! TLS of the server's own, by both versions of HTTP.

use std::{fs, sync::Arc, time::Duration};

use hyper::{Request, StatusCode, client::conn::http2, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::harness::TestServer;
use crate::{Exposure, Limits, TlsFiles};

const HOST: &str = "ci.example.org";

/// A server with a certificate for [`HOST`], and that as PEM and DER.
async fn start(
    folder: &TempDir,
    limits: Limits,
) -> (TestServer, String, rustls::pki_types::CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("crt"),
        key: folder.path().join("key"),
    };
    fs::write(&files.certificate, made.cert.pem()).unwrap();
    fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let host = HOST.to_owned();
    let server = TestServer::exposed(limits, Exposure::Tls { host, files }).await;
    (server, made.cert.pem(), made.cert.der().clone())
}

/// A connection that speaks HTTP/2.
async fn connect(
    server: &TestServer,
    der: rustls::pki_types::CertificateDer<'static>,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(der).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

#[tokio::test]
async fn browsers_are_answered_over_tls_alone() {
    let folder = TempDir::new().unwrap();
    let (server, pem, _) = start(&folder, Limits::default()).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .resolve(HOST, server.address)
        .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()])
        .build()
        .unwrap();
    let url = |path: &str| format!("https://{HOST}:{}{path}", server.address.port());
    let answer = client
        .get(url("/login"))
        .header("host", HOST)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    let form = format!("token={}", server.token);
    let entered = client
        .post(url("/login"))
        .header("host", HOST)
        .header("origin", format!("https://{HOST}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(entered.status(), 303);
    let cookie = entered.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-pipe_session=") && cookie.ends_with("; Secure"),
        "{cookie}"
    );
    let nobody = client
        .get(url("/api/v1/runs"))
        .header("host", HOST)
        .send()
        .await
        .unwrap();
    assert_eq!(
        nobody.status(),
        401,
        "nobody looks from elsewhere without signing in"
    );
    let foreign = client
        .get(url("/login"))
        .header("host", "evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), 421);
    // Whoever speaks no TLS hears nothing.
    assert!(
        server
            .request(reqwest::Method::GET, "/healthz")
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn http_2_names_its_host_too() {
    let folder = TempDir::new().unwrap();
    let (server, _, der) = start(&folder, Limits::default()).await;
    let stream = connect(&server, der).await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for (uri, host, status) in [
        (format!("https://{HOST}/healthz"), None, StatusCode::OK),
        (
            "https://evil.example/healthz".to_owned(),
            None,
            StatusCode::MISDIRECTED_REQUEST,
        ),
        (
            format!("https://{HOST}/healthz"),
            Some("evil.example"),
            StatusCode::MISDIRECTED_REQUEST,
        ),
    ] {
        let mut request = Request::get(&uri);
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        let request = request.body(String::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{uri} {host:?}");
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_dropped() {
    let folder = TempDir::new().unwrap();
    let limits = Limits {
        header_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (server, _, der) = start(&folder, limits).await;
    let mut silent = connect(&server, der.clone()).await;
    let mut heard = Vec::new();
    // It ends, however.
    let _ = silent.read_to_end(&mut heard).await;
    let stream = connect(&server, der).await;
    let (_sender, connection) = http2::handshake::<_, _, String>(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    // One that greets and asks nothing ends, too.
    let _ = connection.await;
}

#[tokio::test]
async fn an_address_has_a_quarter_of_the_connections() {
    let folder = TempDir::new().unwrap();
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let (server, _, der) = start(&folder, limits).await;
    let _held = [connect(&server, der.clone()).await, connect(&server, der).await];
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let mut heard = Vec::new();
    let _ = third.read_to_end(&mut heard).await;
    assert_eq!(heard, b"", "it is closed before it says anything");
}
