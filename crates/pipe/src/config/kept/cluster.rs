//! A Cluster becomes what a table `[clusters.NAME]` does.

use pipekeeper_model::Name;
use pipekeeper_server::Unusable;
use pipekeeper_spec::document::{
    Body, Cluster, ClusterNamespaces, ClusterObjectStore, ClusterResources, ClusterVolume, Document, Kind,
    Profile, ValueSource, VolumeSource, filled,
};

use super::{Additions, Values, kubeconfig, of, reason};
use crate::{
    config::{
        Config,
        clusters::{self, Access, ClusterConfig, Origin},
        raw::{
            RawCluster, RawHold, RawLimits, RawNamespaces, RawObjectStore, RawPool, RawProfile, RawProfiles,
            RawResources, RawVolume,
        },
    },
    failure::Failure,
};

impl Additions {
    pub(super) fn add_clusters(&mut self, config: &Config, documents: &[Document], values: &dyn Values) {
        let all = of(documents, |body| {
            let Body::Cluster(cluster) = body else { return None };
            Some(cluster.as_ref())
        });
        for (name, body) in all {
            if config.clusters.iter().any(|one| one.options.name == *name) {
                let reason = "one of this name is in the configuration file".to_owned();
                self.cannot(Kind::Cluster, name, reason);
                continue;
            }
            match cluster(config, (name, body), values) {
                Ok((cluster, gaps)) => {
                    if let Access::Away(reason) = &cluster.access {
                        self.cannot(Kind::Cluster, name, format!("it cannot be reached: {reason}"));
                    }
                    for gap in gaps {
                        self.cannot(Kind::Cluster, name, gap);
                    }
                    self.lending
                        .clusters
                        .extend(body.lend.clone().map(|lend| (name.clone(), lend)));
                    self.clusters.push(cluster);
                }
                Err(failure) => {
                    let reason = reason(failure);
                    self.clusters.extend(closed(name, reason.clone()));
                    self.cannot(Kind::Cluster, name, reason);
                }
            }
        }
    }

    /// Clusters that are known by name alone.
    pub(crate) fn add_closed(&mut self, unreadable: &[Unusable]) {
        for one in unreadable.iter().filter(|one| one.kind == Kind::Cluster) {
            self.clusters.extend(closed(&one.name, one.reason.clone()));
        }
    }
}

/// A place of which nothing can be used: what runs there is not given up, and what is to run there waits.
fn closed(name: &Name, reason: String) -> Option<ClusterConfig> {
    let raw = RawCluster {
        agent_image: Some("none".to_owned()),
        namespaces: RawNamespaces {
            protected: Some("pipekeeper-closed".to_owned()),
            ..RawNamespaces::default()
        },
        ..RawCluster::default()
    };
    // None is called as no cluster can be.
    let made = clusters::cluster(name.as_str(), raw, None).ok()?;
    Some(ClusterConfig {
        access: Access::Away(reason),
        origin: Origin::Document,
        ..made
    })
}

/// The cluster, and what of it cannot be had.
fn cluster(
    config: &Config,
    (name, body): (&Name, &Cluster),
    values: &dyn Values,
) -> Result<(ClusterConfig, Vec<String>), Failure> {
    let (object_store, gap) = match &body.object_store {
        None => (None, None),
        Some(store) => match values.value(&store.secret_key) {
            Some(Err(reason)) => (
                None,
                Some(format!("its caches are kept with the server: {reason}")),
            ),
            Some(Ok(key)) => (Some(raw_store(store, key)), None),
            None => (Some(raw_store(store, "of no matter".to_owned())), None),
        },
    };
    let agent_image = config.agent_image.as_deref();
    let bare = clusters::cluster(name.as_str(), raw(body), agent_image)?;
    let with_store = object_store.map(|store| {
        let raw = RawCluster {
            object_store: Some(store),
            ..raw(body)
        };
        clusters::cluster(name.as_str(), raw, agent_image)
    });
    let (made, gap) = match with_store {
        None => (bare, gap),
        Some(Ok(made)) => (made, gap),
        Some(Err(failure)) => (
            bare,
            Some(format!(
                "its caches are kept with the server: {}",
                reason(failure)
            )),
        ),
    };
    let cluster = ClusterConfig {
        access: access(body, values),
        origin: Origin::Document,
        ..made
    };
    Ok((cluster, gap.into_iter().collect()))
}

fn access(body: &Cluster, values: &dyn Values) -> Access {
    let Some(source) = &body.kubeconfig else {
        return Access::Surroundings;
    };
    match (values.value(source), source) {
        // Nobody asks how it is reached.
        (None, _) => Access::Surroundings,
        (Some(Err(reason)), _) => Access::Away(reason),
        (Some(Ok(text)), ValueSource::Secret(_)) => match kubeconfig::parse(&text, body.context.as_deref()) {
            Ok(parsed) => Access::Kubeconfig(Box::new(parsed)),
            Err(reason) => Access::Away(reason),
        },
        // Whoever keeps the machine may have it run programs.
        (Some(Ok(_)), ValueSource::File(path)) => Access::File(path.into()),
    }
}

fn raw(body: &Cluster) -> RawCluster {
    let limits = &body.limits;
    let has_limits = *limits != pipekeeper_spec::document::ClusterLimits::default();
    RawCluster {
        kubeconfig: None,
        context: body.context.clone(),
        namespaces: namespaces(&body.namespaces),
        create_namespaces: body.create_namespaces,
        limits: has_limits.then(|| RawLimits {
            pods: limits.pods,
            cpu: limits.cpu.clone(),
            memory: limits.memory.clone(),
            container: resources(&limits.container),
        }),
        deny: body.deny.iter().cloned().collect(),
        profiles: RawProfiles {
            protected: Some(profile(body.profiles.protected)),
            branches: Some(profile(body.profiles.branches)),
        },
        agent_image: body.agent_image.clone(),
        default_image: body.default_image.clone(),
        pull_secrets: body.pull_secrets.iter().map(ToString::to_string).collect(),
        volumes: (body.volumes.iter())
            .map(|(name, one)| (name.to_string(), volume(one)))
            .collect(),
        resources: resources(&body.resources),
        mirrors: body.mirrors.clone(),
        env: body.env.clone(),
        pod_allow: body.pod_allow.clone(),
        pool: body.pool.as_ref().map(|pool| RawPool {
            idle: Some(pool.idle.to_string()),
            max: usize::try_from(pool.max).ok(),
        }),
        hold: body.hold.as_ref().map(|hold| RawHold {
            failed: Some(hold.failed.to_string()),
            max: usize::try_from(hold.max).ok(),
        }),
        object_store: None,
    }
}

/// The file writes `${project}` for what documents write in the way of the pipeline language.
fn namespaces(all: &ClusterNamespaces) -> RawNamespaces {
    let template = |text: &String| filled(text, "project", "${project}");
    RawNamespaces {
        protected: Some(template(&all.protected)),
        branches: all.branches.as_ref().map(template),
        forks: all.forks.as_ref().map(template),
    }
}

fn resources(all: &ClusterResources) -> RawResources {
    RawResources {
        cpu: all.cpu.clone(),
        memory: all.memory.clone(),
    }
}

fn profile(profile: Profile) -> RawProfile {
    match profile {
        Profile::Baseline => RawProfile::Baseline,
        Profile::Restricted => RawProfile::Restricted,
    }
}

fn volume(volume: &ClusterVolume) -> RawVolume {
    let (host_path, size) = match &volume.source {
        VolumeSource::HostPath(path) => (Some(path.clone()), None),
        VolumeSource::Size(size) => (None, Some(size.clone())),
    };
    RawVolume {
        host_path,
        nodes: volume.nodes.clone(),
        size,
        class: volume.class.clone(),
        access: volume.access.clone(),
    }
}

fn raw_store(store: &ClusterObjectStore, key: String) -> RawObjectStore {
    RawObjectStore {
        url: Some(store.url.clone()),
        pods_url: store.pods_url.clone(),
        bucket: Some(store.bucket.clone()),
        region: Some(store.region.clone()),
        prefix: Some(store.prefix.clone()),
        path_style: Some(store.path_style),
        access_key: Some(store.access_key.clone()),
        secret_key: Some(key),
        secret_key_file: None,
        ca: store.ca.as_ref().map(Into::into),
    }
}
