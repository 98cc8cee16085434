//! Connects to the clusters of a configuration, and sends each project's attempts where they belong.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use kube::{
    Config as KubeConfig,
    config::{KubeConfigOptions, Kubeconfig},
};
use pipekeeper_backend::{
    Backend, LaunchError, Observation, Router,
    pod::{FileLimits, PodBackend, PodHost, PodOptions, StreamLimit},
};
use pipekeeper_backend_kube::{ClusterOptions, KubeHost, NamespaceState};
use pipekeeper_controller::Layout;
use pipekeeper_model::{Name, plan::Feature};
use pipekeeper_server::Unusable;
use pipekeeper_spec::document::Kind;
use tokio::sync::mpsc;

use super::{objects::Stores, tokens};
use crate::{
    config::{Access, ClusterConfig, Config, Origin, PlaceConfig, ProjectConfig, reason},
    failure::{Failure, OrFail},
};

/// What pods can do.
pub(crate) const FEATURES: [Feature; 9] = [
    Feature::Image,
    Feature::Secrets,
    Feature::Services,
    Feature::Resources,
    Feature::Cluster,
    Feature::VolumeCache,
    Feature::SoleVolume,
    Feature::Pod,
    Feature::Credentials,
];

/// The clusters as hosts of pods, by name.
pub(super) type Hosts = BTreeMap<Name, Arc<KubeHost>>;

/// Connects to the clusters; what is wrong with one that a document describes is told, and hides nothing else.
pub(super) async fn hosts(config: &Config) -> Result<(Hosts, Vec<Unusable>), Failure> {
    let instance = tokens::instance(&config.data_dir)?;
    let (mut hosts, mut unusable) = (Hosts::new(), Vec::new());
    for cluster in &config.clusters {
        let name = cluster.options.name.clone();
        let host = match (host(config, cluster, instance.clone()).await, cluster.origin) {
            (Ok(host), _) => host,
            (Err(failure), Origin::File) => return Err(failure),
            (Err(failure), Origin::Document) => {
                let reason = reason(failure);
                unusable.push(Unusable {
                    kind: Kind::Cluster,
                    name: name.clone(),
                    reason: reason.clone(),
                });
                away(config, cluster, (instance.clone(), reason))
            }
        };
        hosts.insert(name, Arc::new(host));
    }
    Ok((hosts, unusable))
}

/// Where every attempt of this server runs.
pub(super) fn router(
    config: &Config,
    layout: &Layout,
    (local, hosts): (Arc<dyn Backend>, &Hosts),
    stores: &Stores,
    on_observation: &mpsc::UnboundedSender<Observation>,
) -> Router {
    let mut router = Router::new();
    let local = router.add(None, local);
    let mut numbers = Vec::new();
    for cluster in &config.clusters {
        let name = cluster.options.name.clone();
        let Some(host) = hosts.get(&name) else { continue };
        let host: Arc<dyn PodHost> = Arc::clone(host) as Arc<dyn PodHost>;
        let backend = PodBackend::new(
            host,
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
    router
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
    let doing = format!("use the cluster `{}`", cluster.options.name);
    let access = config_of(cluster).await?;
    let (options, expected, possible) = own(config, cluster, instance);
    let host = KubeHost::new(access, options, expected).or_usage(&doing)?;
    host.may_use(possible);
    Ok(host)
}

/// One that cannot be reached.
fn away(config: &Config, cluster: &ClusterConfig, (instance, reason): (String, String)) -> KubeHost {
    let (options, expected, possible) = own(config, cluster, instance);
    let host = KubeHost::away(reason, options, expected);
    host.may_use(possible);
    host
}

/// A cluster as this server uses it, with the namespaces that are expected to hold pods of ours, and those that may.
fn own(
    config: &Config,
    cluster: &ClusterConfig,
    instance: String,
) -> (ClusterOptions, BTreeSet<String>, BTreeSet<String>) {
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
    (options, expected, possible)
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
    let context = cluster.context.clone();
    match &cluster.access {
        Access::Surroundings => kube_config(None, context, &doing).await,
        Access::File(file) => kube_config(Some(file), context, &doing).await,
        Access::Kubeconfig(given) => of_kubeconfig(given.as_ref().clone(), context, &doing).await,
        Access::Away(reason) => Err(Failure::usage(reason.clone())),
    }
}

async fn of_kubeconfig(
    file: Kubeconfig,
    context: Option<String>,
    doing: &str,
) -> Result<KubeConfig, Failure> {
    let choice = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    KubeConfig::from_custom_kubeconfig(file, &choice)
        .await
        .or_usage(doing)
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
            of_kubeconfig(file, choice.context, doing).await
        }
        None if choice.context.is_some() => KubeConfig::from_kubeconfig(&choice).await.or_usage(doing),
        None => KubeConfig::infer().await.or_usage(doing),
    }
}
