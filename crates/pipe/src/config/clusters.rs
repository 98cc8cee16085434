//! The clusters of the configuration.

use std::{collections::BTreeMap, path::PathBuf};

use pipekeeper_backend::pod::PoolOptions;
use pipekeeper_backend_kube::{
    ClusterOptions, Namespaces, Patience, Profile, Profiles, Volume, VolumeSource, pinned,
};
use pipekeeper_model::{Millis, Name, ParseMillisError, plan::Resources};

use super::raw::{RawCluster, RawPool, RawProfile, RawVolume};
use crate::failure::Failure;

/// How long pods stand by, and how many, where the configuration asks for them and says no more.
const DEFAULT_IDLE: Millis = Millis::minutes(5);
const DEFAULT_MAX: usize = 4;

/// A cluster, and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    /// The file that says how; none means the pod that the server itself is, or the user's own file.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context of that file; none means its current one.
    pub(crate) context: Option<String>,
    /// The image of steps that name none.
    pub(crate) default_image: Option<String>,
    /// How pods stand by for further actions; none means that each serves one.
    pub(crate) pool: Option<PoolOptions>,
    /// Everything else; `instance` is still empty.
    pub(crate) options: ClusterOptions,
}

pub(super) fn clusters(all: BTreeMap<String, RawCluster>) -> Result<Vec<ClusterConfig>, Failure> {
    all.into_iter().map(|(name, raw)| cluster(&name, raw)).collect()
}

fn cluster(text: &str, raw: RawCluster) -> Result<ClusterConfig, Failure> {
    let wrong = |what: String| Failure::usage(format!("the cluster `{text}` {what}"));
    let name: Name = text
        .parse()
        .map_err(|error| Failure::usage(format!("failed to {error}")))?;
    if text == "local" {
        return Err(
            wrong("has the name of this machine's own backend".to_owned()).hint("call it differently")
        );
    }
    let agent_image = raw.agent_image.ok_or_else(|| {
        wrong("has no `agent_image`".to_owned()).hint("push one with `scripts/agent-image`, and name it here")
    })?;
    let protected = raw.namespaces.protected.ok_or_else(|| {
        wrong("has no `namespaces.protected`".to_owned())
            .hint("write for example `namespaces = { protected = \"ci-${project}\" }`")
    })?;
    let profile = |raw: Option<RawProfile>| match raw {
        None | Some(RawProfile::Baseline) => Profile::Baseline,
        Some(RawProfile::Restricted) => Profile::Restricted,
    };
    let volumes = raw.volumes.into_iter().map(|(volume, raw)| {
        let name = volume
            .parse()
            .map_err(|error| wrong(format!("has a wrong volume: failed to {error}")))?;
        Ok((
            name,
            source(raw).map_err(|what| wrong(format!("has a volume `{volume}` that {what}")))?,
        ))
    });
    Ok(ClusterConfig {
        kubeconfig: raw.kubeconfig,
        context: raw.context,
        default_image: raw.default_image,
        pool: raw
            .pool
            .map(pool)
            .transpose()
            .map_err(|error| wrong(format!("has a wrong `pool.idle`: {error}")))?,
        options: ClusterOptions {
            name,
            instance: String::new(),
            namespaces: Namespaces {
                branches: raw
                    .namespaces
                    .branches
                    .unwrap_or_else(|| format!("{protected}-branches")),
                forks: raw
                    .namespaces
                    .forks
                    .unwrap_or_else(|| format!("{protected}-forks")),
                protected,
            },
            profiles: Profiles {
                protected: profile(raw.profiles.protected),
                branches: profile(raw.profiles.branches),
            },
            agent_image: pinned(&agent_image, env!("CARGO_PKG_VERSION")),
            pull_secrets: raw.pull_secrets,
            volumes: volumes.collect::<Result<_, Failure>>()?,
            default_resources: Resources {
                cpu: raw.resources.cpu,
                memory: raw.resources.memory,
            },
            patience: Patience::default(),
        },
    })
}

fn pool(raw: RawPool) -> Result<PoolOptions, ParseMillisError> {
    let idle = raw.idle.map_or(Ok(DEFAULT_IDLE), |idle| idle.parse())?;
    Ok(PoolOptions {
        idle: idle.to_duration(),
        max: raw.max.unwrap_or(DEFAULT_MAX),
    })
}

fn source(raw: RawVolume) -> Result<Volume, &'static str> {
    let source = match (raw.host_path, raw.size) {
        (Some(_), Some(_)) => return Err("has both `host_path` and `size`: keep one of them"),
        (None, None) => return Err("has neither `host_path` nor `size`"),
        (Some(path), None) if path.starts_with('/') => {
            VolumeSource::HostPath(path.trim_end_matches('/').to_owned())
        }
        (Some(_), None) => return Err("has a `host_path` that is not absolute"),
        (None, Some(size)) => VolumeSource::Claim {
            size,
            class: raw.class,
            access: raw.access.unwrap_or_else(|| "ReadWriteOnce".to_owned()),
        },
    };
    Ok(Volume {
        source,
        nodes: raw.nodes,
    })
}
