//! A server in a test, with verbs.

use std::{
    collections::BTreeMap,
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
use pipekeeper_model::{Actor, AttemptId, Digest, Name, NodeId, Outcome, RunId, Sha, Timestamp, plan::Work};
use pipekeeper_spec::document::{Document, Kind};
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
    AccessToken, Composer, Elsewhere, Exposure, FixedProjects, HookProject, HookSeal, Limits, Oidc,
    OidcOptions, RegisteredPeople, ServeError, ServerParts, TreeError, Trees, Unusable, Vault, serve,
};

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// The host that serves artifacts where a server is behind a proxy.
pub(super) const ARTIFACT_HOST: &str = "artifacts.corp";
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

pub(super) struct Frozen;

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

    async fn secrets(&self, _: &RunRequest, _: &Work) -> Result<Vec<SecretValue>, LaunchError> {
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

/// Ignores every delivery but [`POISON`] and grants every wish for the project `mall`; the rules of `changing` have always changed.
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

    async fn changed_rules(&self, request: &RunRequest) -> Result<Vec<Name>, IntakeError> {
        let named = request.plan.environments.keys();
        Ok(named
            .filter(|name| name.as_str() == "changing")
            .cloned()
            .collect())
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

/// Has the project `mall` in its file, and can use all but what is called `useless`.
struct OneProject;

impl Composer for OneProject {
    fn elsewhere(&self) -> BTreeMap<(Kind, Name), Elsewhere> {
        BTreeMap::from([((Kind::Project, "mall".parse().unwrap()), Elsewhere::File)])
    }

    fn judge(&self, documents: &[Document]) -> Vec<Unusable> {
        let useless = documents.iter().filter(|one| one.name.as_str() == "useless");
        let unusable = useless.map(|one| Unusable {
            kind: one.kind(),
            name: one.name.clone(),
            reason: "it is of no use".to_owned(),
        });
        unusable.collect()
    }

    fn unusable(&self) -> Vec<Unusable> {
        Vec::new()
    }

    fn changed(&self) {}
}

impl TestServer {
    /// A server whose attempts succeed at once and silently.
    pub(super) async fn start() -> Self {
        Self::with(Limits::default(), |_| Play::default()).await
    }

    /// A server whose people may log in through an issuer.
    pub(super) async fn with_issuer(options: OidcOptions, clock: Arc<dyn Clock>) -> Self {
        let oidc = Arc::new(Oidc::new(options).unwrap());
        Self::of(
            Limits::default(),
            |_| Play::default(),
            (Some(oidc), Exposure::Loopback, clock),
        )
        .await
    }

    /// A server that can be reached so.
    pub(super) async fn exposed(limits: Limits, exposure: Exposure) -> Self {
        Self::of(limits, |_| Play::default(), (None, exposure, Arc::new(Frozen))).await
    }

    /// A server behind a proxy, with a host for artifacts, whose attempts all play this.
    pub(super) async fn with_artifact_host(play: Play) -> Self {
        let host = "ci.corp".to_owned();
        let rest = (
            None,
            Exposure::Proxied { host },
            Arc::new(Frozen) as Arc<dyn Clock>,
        );
        Self::of(Limits::default(), move |_| play.clone(), rest).await
    }

    /// A server whose attempts play what `director` says for their node.
    pub(super) async fn with(limits: Limits, director: impl Fn(u32) -> Play + Send + Sync + 'static) -> Self {
        Self::of(limits, director, (None, Exposure::Loopback, Arc::new(Frozen))).await
    }

    async fn of(
        limits: Limits,
        director: impl Fn(u32) -> Play + Send + Sync + 'static,
        (oidc, exposure, clock): (Option<Arc<Oidc>>, Exposure, Arc<dyn Clock>),
    ) -> Self {
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
            sharing: None,
            observations,
            supplies: Arc::new(NoSupplies),
            intake: Some(Arc::new(Wishes)),
            people: Arc::new(RegisteredPeople::new(Arc::new(store.clone()))),
            clock: Arc::new(Frozen),
            rules: Arc::new(EngineRules),
            layout: layout.clone(),
            upkeep: None,
            cache_quota: None,
            outer_locks: None,
            cache_stores: Vec::new(),
        });
        tokio::spawn(controller.run());
        let admin_token = AccessToken::generate().unwrap();
        let token = admin_token.reveal().to_owned();
        let project = HookProject {
            name: "mall".parse().unwrap(),
            seal: Ok(HookSeal {
                forge: ForgeKind::Gitea,
                secret: HookSecret::new(SECRET).unwrap(),
            }),
        };
        let registry = Arc::new(store.clone());
        let vault = Arc::new(Vault::new(registry, Arc::new(Frozen), folder.path().join("keys")));
        let parts = ServerParts {
            store: Arc::new(store.clone()),
            estates: Arc::new(store.clone()),
            registry: Arc::new(store.clone()),
            vault,
            oidc,
            artifact_host: matches!(exposure, Exposure::Proxied { .. }).then(|| ARTIFACT_HOST.to_owned()),
            exposure,
            handle: handle.clone(),
            layout: layout.clone(),
            projects: Arc::new(FixedProjects::new([("hook-token", project)])),
            composer: Arc::new(OneProject),
            trees: Arc::new(NoTrees(folder.path().to_owned())),
            admin_token,
            clock,
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

    /// How a run ended, as it is stored.
    pub(super) async fn store_outcome(&self, run: RunId) -> Option<Outcome> {
        self.store.summary(run).await.unwrap()?.outcome
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
