//! A server in a test, with verbs.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, pending, ready};
use pipekeeper_backend::{
    Backend, DummyBackend, KeepWorkspace, LaunchError, Observation, Orphan, SecretValue, SourceInput, Tier,
    What, dummy::Play,
};
use pipekeeper_controller::{
    Admitted, CacheTiers, Clock, Controller, EngineRules, Habits, Handle, Intake, IntakeError, Layout, Ports,
    Supplies, Wish, caches::CacheQuota,
};
use pipekeeper_engine::RunRequest;
use pipekeeper_forge::{ForgeKind, HookSecret};
use pipekeeper_model::{Actor, AttemptId, Digest, Name, NodeId, RunId, Sha, Timestamp, plan::Secret};
use pipekeeper_store::{Delivery, DeliveryOutcome, MemoryStore, Store};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::plans;
use crate::{
    AccessToken, Exposure, FixedProjects, HookProject, Limits, RegisteredPeople, ServeError, ServerParts,
    TreeError, Trees, serve,
};

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
pub(super) const HOOK: &str = "/hooks/hook-token";
pub(super) const SECRET: &str = "between us";

/// A running server.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    pub(super) token: String,
    pub(super) store: MemoryStore,
    pub(super) handle: Handle,
    pub(super) layout: Layout,
    pub(super) backend: Arc<DummyBackend>,
    pub(super) serving: JoinHandle<Result<(), ServeError>>,
    tell: mpsc::UnboundedSender<Observation>,
    stop: Option<oneshot::Sender<()>>,
    http: reqwest::Client,
    _folder: TempDir,
}

struct Frozen;

impl Clock for Frozen {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        if at <= NOW {
            Box::pin(ready(()))
        } else {
            Box::pin(pending())
        }
    }
}

#[derive(Default)]
struct NoSupplies;

#[async_trait]
impl Supplies for NoSupplies {
    async fn source(&self, _: &RunRequest) -> Result<SourceInput, LaunchError> {
        Ok(SourceInput::Empty)
    }

    async fn digest_files(&self, _: &RunRequest, globs: &[String]) -> Result<Digest, LaunchError> {
        Ok(Digest::of(globs.concat().as_bytes()))
    }

    async fn secrets(&self, _: &RunRequest, _: &[Secret]) -> Result<Vec<SecretValue>, LaunchError> {
        Ok(Vec::new())
    }

    fn cache_tiers(&self, _: &RunRequest) -> CacheTiers {
        CacheTiers {
            writes: Tier::Branches,
            reads: vec![Tier::Branches],
        }
    }

    fn habits(&self) -> Habits {
        Habits {
            keep_workspace: KeepWorkspace::Never,
            orphan: Orphan::WorkOn,
        }
    }
}

/// The body of a delivery at which the intake panics.
pub(super) const POISON: &[u8] = b"{\"poison\":true}";

/// Ignores every delivery but [`POISON`] and grants every wish for the project `mall`.
struct Wishes;

#[async_trait]
impl Intake for Wishes {
    async fn admit(&self, delivery: &Delivery) -> Result<Admitted, IntakeError> {
        assert_ne!(delivery.received.body, POISON);
        Ok(Admitted::Nothing {
            outcome: DeliveryOutcome::Ignored {
                reason: "this test ignores <everything>".to_owned(),
            },
            moved: None,
        })
    }

    async fn wish(&self, wish: &Wish) -> Result<Arc<RunRequest>, IntakeError> {
        if wish.project.as_str() == "mall" {
            Ok(Arc::new(plans::request(
                "wished",
                "main",
                vec![plans::work("build", &[])],
            )))
        } else {
            Err(IntakeError::NotFound {
                reason: format!("there is no project `{}`", wish.project),
            })
        }
    }
}

/// Keeps no tree, and says of an archive that begins with `bad` that it is.
struct NoTrees(PathBuf);

/// What every tree is called.
pub(super) const TREE: &str = "0123456789012345678901234567890123456789";

#[async_trait]
impl Trees for NoTrees {
    fn folder(&self) -> PathBuf {
        self.0.clone()
    }

    async fn keep(&self, _: &Name, archive: &Path, _: &str) -> Result<Sha, TreeError> {
        if std::fs::read(archive).unwrap().starts_with(b"bad") {
            let reason = "the archive is bad".to_owned();
            return Err(TreeError::Unusable { reason });
        }
        Ok(TREE.parse().unwrap())
    }
}

impl TestServer {
    /// A server whose attempts succeed at once and silently.
    pub(super) async fn start() -> Self {
        Self::with(Limits::default(), |_| Play::default()).await
    }

    /// A server whose attempts play what `director` says for their node.
    pub(super) async fn with(limits: Limits, director: impl Fn(u32) -> Play + Send + Sync + 'static) -> Self {
        let folder = TempDir::new().unwrap();
        let layout = Layout::new(folder.path());
        let store = MemoryStore::new();
        let (tell, observations) = mpsc::unbounded_channel();
        let backend = Arc::new(DummyBackend::directed(tell.clone(), move |launch| {
            director(launch.attempt.node.0)
        }));
        let (controller, handle) = Controller::new(Ports {
            store: Arc::new(store.clone()),
            backend: Arc::clone(&backend) as Arc<dyn Backend>,
            observations,
            supplies: Arc::new(NoSupplies),
            intake: Some(Arc::new(Wishes)),
            people: Arc::new(RegisteredPeople::new(Arc::new(store.clone()))),
            clock: Arc::new(Frozen),
            rules: Arc::new(EngineRules),
            layout: layout.clone(),
            cache_quota: None,
            cache_stores: Vec::new(),
        });
        tokio::spawn(controller.run());
        let admin_token = AccessToken::generate().unwrap();
        let token = admin_token.reveal().to_owned();
        let project = HookProject {
            name: "mall".parse().unwrap(),
            forge: ForgeKind::Gitea,
            secret: HookSecret::new(SECRET).unwrap(),
        };
        let parts = ServerParts {
            store: Arc::new(store.clone()),
            registry: Arc::new(store.clone()),
            exposure: Exposure::Loopback,
            handle: handle.clone(),
            layout: layout.clone(),
            projects: Arc::new(FixedProjects::new([("hook-token", project)])),
            trees: Arc::new(NoTrees(folder.path().to_owned())),
            admin_token,
            clock: Arc::new(Frozen),
            cache_quota: CacheQuota::default(),
            limits,
            version: "test",
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, parts, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            token,
            store,
            handle,
            layout,
            backend,
            serving,
            tell,
            stop: Some(stop),
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            _folder: folder,
        }
    }

    pub(super) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.address))
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(super) async fn json(&self, path: &str) -> Value {
        self.get(path).await.json().await.unwrap()
    }

    pub(super) async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.unwrap()
    }

    /// Posts JSON with the token.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, path).bearer_auth(&self.token);
        request.json(body).send().await.unwrap()
    }

    /// Posts a form with a cookie.
    pub(super) async fn form(&self, path: &str, cookie: &str, body: &str) -> Response {
        let request = self
            .request(Method::POST, path)
            .header("cookie", cookie)
            .header("content-type", "application/x-www-form-urlencoded");
        request.body(body.to_owned()).send().await.unwrap()
    }

    /// Signs in and gives the cookie.
    pub(super) async fn login(&self) -> String {
        let response = self
            .form("/login", "", &format!("token={}&next=/runs", self.token))
            .await;
        assert_eq!(response.status(), 303);
        let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    pub(super) async fn run(&self, request: RunRequest) -> RunId {
        let actor = Actor::user("dev");
        self.handle.create(actor, Arc::new(request)).await.unwrap()
    }

    /// Waits until the run is as wanted, woken by the controller's news.
    pub(super) async fn until(&self, run: RunId, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut news = self.handle.listen();
        loop {
            let seen = self.json(&format!("/api/v1/runs/{run}")).await;
            if wanted(&seen) {
                return seen;
            }
            news.recv().await.unwrap();
        }
    }

    pub(super) async fn until_state(&self, run: RunId, node: usize, state: &str) -> Value {
        self.until(run, |seen| seen["nodes"][node]["state"] == state)
            .await
    }

    /// Appends to the log of a node's first attempt and has the controller tell of it.
    pub(super) fn write_log(&self, run: RunId, node: u32, bytes: &[u8]) {
        let attempt = first_attempt(run, node);
        let path = self.layout.log(attempt);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(bytes).unwrap();
        let bytes = file.metadata().unwrap().len();
        let what = What::LogGrew { bytes };
        self.tell.send(Observation { attempt, what }).unwrap();
    }

    /// Has a node's first attempt put nothing out for so many seconds.
    pub(super) fn be_silent(&self, run: RunId, node: u32, seconds: u64) {
        let attempt = first_attempt(run, node);
        let processes = "2 processes".to_owned();
        let what = What::Silent { seconds, processes };
        self.tell.send(Observation { attempt, what }).unwrap();
    }

    /// Lets a running attempt end.
    pub(super) async fn end(&self, run: RunId, node: u32) {
        self.backend.observe(first_attempt(run, node)).await.unwrap();
    }

    /// Sends raw bytes on a connection of their own.
    pub(super) async fn raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    pub(super) async fn deliveries(&self) -> usize {
        self.store.deliveries(None, None, 1_000).await.unwrap().len()
    }
}

pub(super) fn first_attempt(run: RunId, node: u32) -> AttemptId {
    AttemptId {
        run,
        node: NodeId(node),
        number: 1,
    }
}

/// Reads until the server closes the connection.
pub(super) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset has ended too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
