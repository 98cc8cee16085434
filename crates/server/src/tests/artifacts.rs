//! The host that serves artifacts, and nothing else.

use pipekeeper_backend::dummy::Play;
use pipekeeper_model::{ArtifactResult, Digest, RunId};
use pipekeeper_store::{Estate, Estates, Gone, GoneWhy, Left, Loss, Part};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use super::{
    harness::{ARTIFACT_HOST, NOW, TestServer},
    plans::{request, work},
    roles::{add, sign_in},
};

const PAGE: &[u8] = b"<script>fetch('/api/v1/me')</script>";

struct World {
    server: TestServer,
    run: RunId,
    cookie: String,
}

impl World {
    async fn new() -> Self {
        let digest = Digest::of(PAGE);
        let artifact = ArtifactResult {
            name: "web".parse().unwrap(),
            digest: digest.clone(),
            bytes: 7,
            files: 1,
        };
        let server = TestServer::with_artifact_host(Play {
            artifacts: vec![artifact],
            ..Play::default()
        })
        .await;
        let path = server.layout.artifact(&digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, PAGE).unwrap();
        let run = server.run(request("s", "main", vec![work("build", &[])])).await;
        let mut news = server.handle.listen();
        while server.store_outcome(run).await.is_none() {
            news.recv().await.unwrap();
        }
        add(&server, "ann", json!([{ "role": "viewer" }])).await;
        let cookie = sign_in(&server, "ann").await;
        Self { server, run, cookie }
    }

    fn path(&self) -> String {
        format!("/api/v1/runs/{}/nodes/build/artifacts/web", self.run)
    }

    /// The path of the address that a browser is sent to.
    async fn link(&self) -> String {
        let asked = self.server.request(Method::GET, &self.path());
        let answer = asked.header("cookie", &self.cookie).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let to = answer.headers()["location"].to_str().unwrap();
        to.strip_prefix("https://artifacts.corp").unwrap().to_owned()
    }

    /// Asks the host of artifacts.
    async fn there(&self, path: &str) -> Response {
        let asked = self.server.request(Method::GET, path);
        let asked = asked.header("host", ARTIFACT_HOST);
        asked.header("cookie", &self.cookie).send().await.unwrap()
    }
}

#[tokio::test]
async fn a_browser_gets_an_artifact_where_it_has_no_session() {
    let world = World::new().await;
    let link = world.link().await;
    assert!(link.ends_with("/web.tar.zst"), "{link}");
    let answer = world.there(&link).await;
    assert_eq!(answer.status(), 200);
    let headers = answer.headers();
    assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(
        headers["content-disposition"],
        "attachment; filename=\"web.tar.zst\""
    );
    assert!(headers.get("set-cookie").is_none());
    assert_eq!(answer.bytes().await.unwrap(), PAGE);
    let asked = world.server.request(Method::GET, &world.path());
    let program = asked.bearer_auth(&world.server.token).send().await.unwrap();
    assert_eq!(
        program.status(),
        200,
        "a program has no session that could be used"
    );
    assert_eq!(program.bytes().await.unwrap(), PAGE);
}

#[tokio::test]
async fn each_host_serves_its_own_alone() {
    let world = World::new().await;
    let link = world.link().await;
    let asked = world.server.request(Method::GET, &link);
    let here = asked.header("cookie", &world.cookie).send().await.unwrap();
    assert_eq!(here.status(), 404, "no bytes of strangers where sessions are");
    let page = format!("/runs/{}", world.run);
    for path in [
        page.as_str(),
        "/",
        "/healthz",
        "/login",
        "/assets/pipe.css",
        &world.path(),
        "/artifacts/",
    ] {
        assert_eq!(world.there(path).await.status(), 404, "{path}");
    }
    let posted = world.server.request(Method::POST, "/login");
    let posted = posted.header("host", ARTIFACT_HOST).send().await.unwrap();
    assert_eq!(posted.status(), 404);
    for host in [
        "artifacts.corp.evil",
        "artifacts.corp:81",
        "x.artifacts.corp",
        "artifacts.corp@ci.corp",
    ] {
        let asked = world.server.request(Method::GET, &link).header("host", host);
        assert_eq!(asked.send().await.unwrap().status(), 421, "{host}");
    }
}

#[tokio::test]
async fn a_link_leads_to_its_artifact_and_nowhere_else() {
    let world = World::new().await;
    let link = world.link().await;
    let (signed, file) = link.rsplit_once('/').unwrap();
    let run = format!("/artifacts/{}.", world.run);
    let other = Digest::of(b"another run's").to_hex();
    let hostile = [
        format!("{signed}/index.html"),
        format!("{signed}/..%2f..%2fadmin.token"),
        format!("{signed}/%00"),
        format!("{signed}/web%0d%0aset-cookie:%20a.tar.zst"),
        format!("{signed}/w%E2%80%AEeb.tar.zst"),
        format!("{}/{file}", signed.replacen(&run, "/artifacts/7.", 1)),
        format!("{}/{file}", signed.replace(&Digest::of(PAGE).to_hex(), &other)),
        format!("{signed}0/{file}"),
        format!("/artifacts/x/{file}"),
    ];
    for path in hostile {
        let answer = world.there(&path).await;
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.headers().get("set-cookie").is_none(), "{path}");
        assert!(!answer.text().await.unwrap().contains("fetch("), "{path}");
    }
    let unreadable = world.there(&format!("{signed}/%ff")).await;
    assert!(unreadable.status().is_client_error());
}

#[tokio::test]
async fn a_link_dies_with_its_artifact() {
    let world = World::new().await;
    let link = world.link().await;
    let (run, left) = (world.run, Left::default());
    let store = &world.server.store;
    store.keep_estates(vec![Estate { run, left }]).await.unwrap();
    let why = GoneWhy::Age {
        after: pipekeeper_model::Millis::days(14),
    };
    let loss = Loss {
        run,
        part: Part::Artifacts,
        gone: Gone { at: NOW, why },
    };
    store.give_up(vec![loss]).await.unwrap();
    let answer = world.there(&link).await;
    assert_eq!(answer.status(), 410);
    assert!(answer.text().await.unwrap().contains("removed after 14d"));
}
