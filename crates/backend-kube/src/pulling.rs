//! What images are pulled with: a Secret of the cluster in each namespace of pods, the one kind that we make.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Error,
    api::{DeleteParams, Patch, PatchParams},
};

use crate::{ClusterOptions, KubeHost, names, refusal};

/// What was put right is looked at again after this long.
const FRESH: Duration = Duration::from_secs(5 * 60);

/// The logins to registries that images are pulled with; they never show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum PullConfig {
    /// A file of them, as Docker reads it.
    File(String),
    /// What namespaces have from before: one of them cannot be had now.
    AsBefore,
}

impl fmt::Debug for PullConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "***",
            Self::AsBefore => "as before",
        })
    }
}

/// When each namespace got its Secret; whoever works on one holds it.
#[derive(Default)]
pub(crate) struct Pulling(Mutex<BTreeMap<String, Arc<Done>>>);

type Done = tokio::sync::Mutex<Option<Instant>>;

impl Pulling {
    fn done(&self, namespace: &str) -> Arc<Done> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(namespace.to_owned()).or_default())
    }
}

/// What our Secret is called: other servers may have pods in the same namespace.
pub(crate) fn secret_name(cluster: &ClusterOptions) -> String {
    format!("{}-pull-{}", names::PRODUCT, cluster.instance)
}

fn secret(cluster: &ClusterOptions, file: &str) -> Secret {
    let file = ByteString(file.as_bytes().to_vec());
    Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(cluster)),
            labels: Some(names::owned(&cluster.instance)),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
        data: Some(BTreeMap::from([(".dockerconfigjson".to_owned(), file)])),
        ..Secret::default()
    }
}

impl KubeHost {
    /// Sees to it that a namespace has what its pods pull images with.
    pub(crate) async fn provide_pull_secret(&self, namespace: &str) -> Result<(), Error> {
        let file = match &self.cluster().pull_config {
            Some(PullConfig::File(file)) => file,
            Some(PullConfig::AsBefore) | None => return Ok(()),
        };
        let done = self.pulling().done(namespace);
        let mut done = done.lock().await;
        if done.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        let wanted = secret(self.cluster(), file);
        let how = PatchParams::apply(names::PRODUCT).force();
        let secrets: Api<Secret> = self.api(namespace);
        let name = secret_name(self.cluster());
        let patch = Patch::Apply(&wanted);
        self.counted().bounded(secrets.patch(&name, &how, &patch)).await?;
        *done = Some(Instant::now());
        Ok(())
    }

    /// A namespace is not as we left it.
    pub(crate) async fn doubt_pull_secret(&self, namespace: &str) {
        *self.pulling().done(namespace).lock().await = None;
    }

    /// Takes away what an earlier server left, once for each namespace, where nothing is pulled with logins any more.
    pub(crate) async fn remove_pull_secret(&self, namespace: &str) {
        if self.cluster().pull_config.is_some() {
            return;
        }
        let done = self.pulling().done(namespace);
        let mut done = done.lock().await;
        if done.is_some() {
            return;
        }
        let secrets: Api<Secret> = self.api(namespace);
        let name = secret_name(self.cluster());
        let how = DeleteParams::default();
        let removed = secrets.delete(&name, &how);
        match self.counted().bounded(removed).await {
            // Who may not remove it could not make it.
            Ok(_) => *done = Some(Instant::now()),
            Err(error) if refusal::is_refused(&error) => *done = Some(Instant::now()),
            Err(error) => tracing::debug!("`{name}` in `{namespace}` is not removed yet: {error}"),
        }
    }
}
