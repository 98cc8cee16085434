//! Connects to the clusters of a configuration, and sends each project's attempts where they belong.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use kube::{
    Config as KubeConfig,
    config::{KubeConfigOptions, Kubeconfig},
};
use pipekeeper_backend::{
    Backend, LaunchError, Observation, Router,
    pod::{FileLimits, PodBackend, PodOptions, StreamLimit},
};
use pipekeeper_backend_kube::{ClusterOptions, KubeHost, NamespaceState};
use pipekeeper_controller::Layout;
use pipekeeper_model::{Name, plan::Feature};
use tokio::sync::mpsc;

use super::{objects::Stores, tokens};
use crate::{
    config::{ClusterConfig, Config, PlaceConfig, ProjectConfig},
    failure::{Failure, OrFail},
};

/// What pods can do.
pub(crate) const FEATURES: [Feature; 8] = [
    Feature::Image,
    Feature::Secrets,
    Feature::Services,
    Feature::Resources,
    Feature::Cluster,
    Feature::VolumeCache,
    Feature::SoleVolume,
    Feature::Pod,
];

/// Where every attempt of this server runs.
pub(super) async fn router(
    config: &Config,
    layout: &Layout,
    local: Arc<dyn Backend>,
    stores: &Stores,
    on_observation: &mpsc::UnboundedSender<Observation>,
) -> Result<Router, Failure> {
    let mut router = Router::new();
    let local = router.add(None, local);
    let instance = tokens::instance(&config.data_dir)?;
    let mut numbers = Vec::new();
    for cluster in &config.clusters {
        let host = host(config, cluster, instance.clone()).await?;
        let name = cluster.options.name.clone();
        let backend = PodBackend::new(
            Arc::new(host),
            PodOptions {
                root: config.data_dir.join("pods").join(name.as_str()),
                artifacts: layout.artifacts(),
                default_image: cluster.default_image.clone(),
                objects: stores.get(&name).cloned(),
                features: BTreeSet::from(FEATURES),
                limits: limits(config),
                pool: cluster.pool,
                hold: cluster.hold,
                streams: StreamLimit::default(),
                on_observation: on_observation.clone(),
            },
        );
        numbers.push((name.clone(), router.add(Some(name), Arc::new(backend))));
    }
    for one in &config.projects {
        let number = match &one.place {
            PlaceConfig::Local => Some(local),
            PlaceConfig::Cluster(name) => number_of(&numbers, name),
        };
        if let Some(number) = number {
            router.send(one.project.name.clone(), number);
        }
    }
    Ok(router)
}

/// How large what pods leave may be. A cache that is larger than the quota would go at once.
fn limits(config: &Config) -> FileLimits {
    FileLimits {
        artifact: config.artifact_limit.0,
        cache: config.caches.project.min(config.caches.total).0,
    }
}

/// A cluster as a host of pods. Nothing is asked of it yet.
async fn host(config: &Config, cluster: &ClusterConfig, instance: String) -> Result<KubeHost, Failure> {
    let options = ClusterOptions {
        instance,
        ..cluster.options.clone()
    };
    let (here, elsewhere): (Vec<_>, Vec<_>) = config
        .projects
        .iter()
        .partition(|one| one.place == PlaceConfig::Cluster(options.name.clone()));
    let namespaces = |projects: Vec<&ProjectConfig>| {
        let projects = projects.into_iter().map(|one| &one.project.name);
        options.namespaces.all(projects)
    };
    // Single actions of projects that run elsewhere may name this cluster.
    let (expected, possible) = (namespaces(here), namespaces(elsewhere));
    let doing = format!("use the cluster `{}`", cluster.options.name);
    let host = KubeHost::new(config_of(cluster).await?, options, expected).or_usage(&doing)?;
    host.may_use(possible);
    Ok(host)
}

/// How each namespace stands that this cluster is to have.
pub(crate) async fn inspect(
    config: &Config,
    cluster: &ClusterConfig,
) -> Result<Vec<(String, Result<NamespaceState, LaunchError>)>, Failure> {
    // Whose pods they are does not matter here, and a look leaves nothing behind.
    let host = host(config, cluster, "doctor".to_owned()).await?;
    Ok(host.inspect().await)
}

fn number_of(numbers: &[(Name, usize)], name: &Name) -> Option<usize> {
    numbers
        .iter()
        .find_map(|(known, number)| (known == name).then_some(*number))
}

async fn config_of(cluster: &ClusterConfig) -> Result<KubeConfig, Failure> {
    let name = &cluster.options.name;
    let doing = format!("read how the cluster `{name}` is reached");
    kube_config(cluster.kubeconfig.as_deref(), cluster.context.clone(), &doing).await
}

/// How a cluster is reached: by a kubeconfig, or by what the surroundings offer.
pub(crate) async fn kube_config(
    file: Option<&Path>,
    context: Option<String>,
    doing: &str,
) -> Result<KubeConfig, Failure> {
    let choice = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    match file {
        Some(path) => {
            let file = Kubeconfig::read_from(path).or_usage(doing)?;
            KubeConfig::from_custom_kubeconfig(file, &choice)
                .await
                .or_usage(doing)
        }
        None if choice.context.is_some() => KubeConfig::from_kubeconfig(&choice).await.or_usage(doing),
        None => KubeConfig::infer().await.or_usage(doing),
    }
}
