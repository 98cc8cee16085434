//! A namespace of its own on the cluster, and a folder for what the server keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Pod},
    rbac::v1::{Role, RoleBinding, Subject},
};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use pipekeeper_backend::{
    Backend, Observation,
    pod::{FileLimits, HoldOptions, PodBackend, PodOptions, PoolOptions, StreamLimit},
    suite::{Act, World},
};
use pipekeeper_backend_kube::{ClusterOptions, KubeHost, Namespaces, Patience, Profile, Profiles};
use pipekeeper_model::{AttemptId, plan::Resources};
use pipekeeper_objects::ObjectStore;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::scene::eventually;

/// A world on the cluster, removed at the end.
pub(crate) struct KubeWorld {
    folder: TempDir,
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) options: ClusterOptions,
    pub(crate) namespace: String,
    pub(crate) pool: Option<PoolOptions>,
    pub(crate) hold: Option<HoldOptions>,
    pub(crate) objects: Option<Arc<ObjectStore>>,
    pub(crate) streams: StreamLimit,
}

/// How the test cluster is reached; none, with a word about it, if there is no such cluster.
pub(crate) async fn config() -> Option<Config> {
    if std::env::var_os("KUBECONFIG").is_none() || std::env::var_os("PIPE_TEST_REGISTRY").is_none() {
        let hint = "set KUBECONFIG and PIPE_TEST_REGISTRY, as `scripts/dev-cluster env` prints them";
        drop(writeln!(
            std::io::stderr(),
            "SKIPPED: there is no cluster: {hint}"
        ));
        return None;
    }
    Some(Config::infer().await.unwrap())
}

/// A server's rights in this namespace, and no others, where the cluster has a user for that.
async fn least_rights(admin: &Client, all_rights: Config, namespace: &str) -> Config {
    let Some(path) = std::env::var_os("PIPE_TEST_SERVER_KUBECONFIG") else {
        return all_rights;
    };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    let role = std::fs::read_to_string(deploy.join("role.yaml")).unwrap();
    let role: Role = serde_saphyr::from_str(&role).unwrap();
    let binding = std::fs::read_to_string(deploy.join("binding.yaml")).unwrap();
    let mut binding: RoleBinding = serde_saphyr::from_str(&binding).unwrap();
    binding.subjects = Some(vec![Subject {
        kind: "User".to_owned(),
        name: "pipekeeper-test".to_owned(),
        ..Subject::default()
    }]);
    let how = PostParams::default();
    Api::<Role>::namespaced(admin.clone(), namespace)
        .create(&how, &role)
        .await
        .unwrap();
    Api::<RoleBinding>::namespaced(admin.clone(), namespace)
        .create(&how, &binding)
        .await
        .unwrap();
    let file = Kubeconfig::read_from(path).unwrap();
    Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap()
}

/// An image of the test registry.
pub(crate) fn image(name: &str) -> String {
    format!("{}/{name}", std::env::var("PIPE_TEST_REGISTRY").unwrap())
}

/// The image that `scripts/agent-image` pushed.
fn agent_image() -> String {
    let of_version = || image(&format!("pipekeeper/agent:{}", env!("CARGO_PKG_VERSION")));
    std::env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| of_version())
}

impl KubeWorld {
    pub(crate) async fn new() -> Option<Self> {
        let config = config().await?;
        let client = Client::try_from(config.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let unique = folder
            .path()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_lowercase();
        let unique: String = unique.chars().filter(char::is_ascii_alphanumeric).collect();
        let namespace = format!("pipe-test-{unique}");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let wanted = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        namespaces.create(&PostParams::default(), &wanted).await.unwrap();
        let config = least_rights(&client, config, &namespace).await;
        let pods: Api<Pod> = Api::namespaced(Client::try_from(config.clone()).unwrap(), &namespace);
        // The cluster takes in a moment later what a server may do.
        eventually("the rights of a server", async || {
            pods.list(&ListParams::default()).await.ok()
        })
        .await;
        let options = ClusterOptions {
            name: "test".parse().unwrap(),
            instance: unique.chars().rev().take(6).collect(),
            namespaces: Namespaces {
                protected: namespace.clone(),
                branches: namespace.clone(),
                forks: namespace.clone(),
            },
            profiles: Profiles {
                protected: Profile::Baseline,
                branches: Profile::Baseline,
            },
            agent_image: agent_image(),
            pull_secrets: Vec::new(),
            pull_config: None,
            mirrors: BTreeMap::new(),
            env: BTreeMap::new(),
            pod_allow: BTreeSet::new(),
            volumes: BTreeMap::new(),
            default_resources: Resources::default(),
            making: None,
            patience: Patience::default(),
        };
        Some(Self {
            folder,
            config,
            client,
            options,
            pool: None,
            hold: None,
            objects: None,
            streams: StreamLimit::default(),
            namespace,
        })
    }

    pub(crate) fn log(&self, attempt: AttemptId) -> PathBuf {
        self.folder.path().join(format!("{attempt}.log"))
    }

    pub(crate) fn open_with(&self, config: Config) -> (Arc<PodBackend>, UnboundedReceiver<Observation>) {
        let (_, backend, observations) = self.open_host(config);
        (backend, observations)
    }

    /// A backend, and its host to ask what it did.
    pub(crate) fn open_counted(&self) -> (Arc<KubeHost>, Arc<PodBackend>, UnboundedReceiver<Observation>) {
        self.open_host(self.config.clone())
    }

    fn open_host(&self, config: Config) -> (Arc<KubeHost>, Arc<PodBackend>, UnboundedReceiver<Observation>) {
        let (on_observation, observations) = unbounded_channel();
        let project = "any".parse().unwrap();
        let namespaces = self.options.namespaces.all([&project]);
        let host = Arc::new(KubeHost::new(config, self.options.clone(), namespaces).unwrap());
        let options = PodOptions {
            root: self.folder.path().join("root"),
            artifacts: self.folder.path().join("artifacts"),
            default_image: Some(image("busybox:1")),
            objects: self.objects.clone(),
            features: BTreeSet::new(),
            limits: FileLimits::default(),
            pool: self.pool,
            hold: self.hold,
            streams: self.streams,
            on_observation,
        };
        let backend = PodBackend::new(Arc::<KubeHost>::clone(&host), options);
        (host, Arc::new(backend), observations)
    }
}

impl Drop for KubeWorld {
    /// Begins to remove the namespace with all in it.
    fn drop(&mut self) {
        let (client, name) = (self.client.clone(), self.namespace.clone());
        let removal = async move {
            let namespaces: Api<Namespace> = Api::all(client);
            drop(namespaces.delete(&name, &DeleteParams::default()).await);
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(removal));
    }
}

impl World for KubeWorld {
    fn open(&self) -> (Arc<dyn Backend>, UnboundedReceiver<Observation>) {
        let (backend, observations) = self.open_with(self.config.clone());
        (backend, observations)
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn text(&self, act: Act) -> String {
        let act = match act {
            Act::Succeed => "true".to_owned(),
            Act::Fail(code) => format!("exit {code}"),
            Act::Hang => "sleep 1000".to_owned(),
        };
        format!("echo user code starts\n{act}\n")
    }

    fn many(&self) -> u32 {
        40
    }

    fn starts(&self, attempt: AttemptId) -> u32 {
        let log = std::fs::read(self.log(attempt)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let starts = log.lines().filter(|line| *line == "user code starts").count();
        u32::try_from(starts).unwrap()
    }
}
