//! The clusters of the configuration.

use std::{collections::BTreeMap, path::PathBuf};

use kube::config::Kubeconfig;
use pipekeeper_backend::pod::{HoldOptions, PoolOptions, thousandths};
use pipekeeper_backend_kube::{
    Block, ClusterOptions, Limits, Making, Namespaces, Patience, Profile, Profiles, ROLE, Volume,
    VolumeSource, is_label, pinned,
};
use pipekeeper_model::{Millis, Name, ParseMillisError, plan::Resources};
use pipekeeper_objects::StoreOptions;

use super::{
    PlaceConfig, ProjectConfig, object_store,
    raw::{RawCluster, RawHold, RawLimits, RawPool, RawProfile, RawResources, RawVolume},
};
use crate::failure::Failure;

/// How long pods stand by, and how many, where the configuration asks for them and says no more.
const DEFAULT_IDLE: Millis = Millis::minutes(5);
const DEFAULT_MAX: usize = 4;

/// How long pods of failed actions are held, and how many, likewise; and for how long at most, so that none reaches its
/// deadline.
const DEFAULT_HELD: Millis = Millis::minutes(15);
const DEFAULT_MAX_HELD: usize = 2;
const LONGEST_HELD: Millis = Millis::hours(12);
/// Each takes one of the streams that those who work share.
const MOST_HELD: usize = 20;

/// A cluster, and how it is reached.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    /// By what it is reached.
    pub(crate) access: Access,
    /// Who says so.
    pub(crate) origin: Origin,
    /// The context there; none means its current one.
    pub(crate) context: Option<String>,
    /// The image of steps that name none.
    pub(crate) default_image: Option<String>,
    /// How pods stand by for further actions; none means that each serves one.
    pub(crate) pool: Option<PoolOptions>,
    /// How the pods of failed actions are held for people; none means that they are not.
    pub(crate) hold: Option<HoldOptions>,
    /// Where archive caches are kept; none means with this server. `prefix` lacks the instance.
    pub(crate) object_store: Option<StoreOptions>,
    /// Everything else; `instance` is still empty.
    pub(crate) options: ClusterOptions,
}

/// By what a cluster is reached.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// The account of the pod that the server itself is, or the user's own file.
    Surroundings,
    /// A kubeconfig of this machine.
    File(PathBuf),
    /// A kubeconfig that the server was given.
    Kubeconfig(Box<Kubeconfig>),
    /// By nothing at the moment, for this reason.
    Away(String),
}

/// Who says what a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The configuration file: the server does not start with one that is wrong.
    File,
    /// A document, which stops nothing else.
    Document,
}

pub(super) fn clusters(
    all: BTreeMap<String, RawCluster>,
    agent_image: Option<&str>,
) -> Result<Vec<ClusterConfig>, Failure> {
    let all = all.into_iter();
    all.map(|(name, raw)| cluster(&name, raw, agent_image)).collect()
}

/// A cluster; `default_agent` is the supervisor's image of one that names none.
pub(super) fn cluster(
    text: &str,
    mut raw: RawCluster,
    default_agent: Option<&str>,
) -> Result<ClusterConfig, Failure> {
    let wrong = |what: String| Failure::usage(format!("the cluster `{text}` {what}"));
    let name: Name = text
        .parse()
        .map_err(|error| Failure::usage(format!("failed to {error}")))?;
    if text == "local" {
        return Err(
            wrong("has the name of this machine's own backend".to_owned()).hint("call it differently")
        );
    }
    let of_cluster = |failure: Failure| Failure {
        message: format!("the cluster `{text}` {}", failure.message),
        ..failure
    };
    let making = making(&mut raw).map_err(of_cluster)?;
    let agent_image = agent_image(raw.agent_image.take(), default_agent).map_err(of_cluster)?;
    if raw.default_image.as_ref().is_some_and(|image| !is_named(image)) {
        return Err(wrong("has an empty `default_image`".to_owned())
            .hint("name an image, or take the key out: then every action names its own"));
    }
    let protected = raw.namespaces.protected.ok_or_else(|| {
        wrong("has no `namespaces.protected`".to_owned())
            .hint("write for example `namespaces = { protected = \"ci-${project}\" }`")
    })?;
    let volumes = volumes(raw.volumes).map_err(of_cluster)?;
    let default_resources = resources(raw.resources).map_err(of_cluster)?;
    if let Some(name) = raw.env.keys().find(|name| !is_variable(name)) {
        return Err(wrong(format!("has a variable `{name}`, which is no name of one")));
    }
    if let Some(host) = raw.mirrors.keys().find(|host| host.contains('/')) {
        return Err(wrong(format!(
            "has a mirror of `{host}`, which is no host of a registry"
        ))
        .hint("write it like `mirrors = { \"docker.io\" = \"harbor.example.org/hub\" }`"));
    }
    let object_store = raw.object_store.map(object_store::options).transpose();
    Ok(ClusterConfig {
        object_store: object_store.map_err(of_cluster)?,
        access: raw.kubeconfig.map_or(Access::Surroundings, Access::File),
        origin: Origin::File,
        context: raw.context,
        default_image: raw.default_image,
        pool: raw
            .pool
            .map(pool)
            .transpose()
            .map_err(|error| wrong(format!("has a wrong `pool.idle`: {error}")))?,
        hold: raw.hold.map(hold).transpose().map_err(of_cluster)?,
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
            pull_config: None,
            mirrors: raw.mirrors.into_iter().map(mirror).collect(),
            env: raw.env,
            pod_allow: raw.pod_allow,
            volumes,
            default_resources,
            making,
            patience: Patience::default(),
        },
    })
}

/// An empty one is what a template leaves whose variable is not set.
fn is_named(image: &str) -> bool {
    !image.trim().is_empty()
}

fn agent_image(own: Option<String>, of_all: Option<&str>) -> Result<String, Failure> {
    let own = own.filter(|image| is_named(image));
    let of_all = of_all.filter(|image| is_named(image));
    let image = own.or_else(|| of_all.map(str::to_owned));
    image.ok_or_else(|| {
        Failure::usage("has no `agent_image`").hint(
            "push one with `scripts/agent-image`, and name it here, or for all clusters in the configuration file",
        )
    })
}

fn resources(raw: RawResources) -> Result<Resources, Failure> {
    for (name, asked) in [("cpu", &raw.cpu), ("memory", &raw.memory)] {
        if let Some(asked) = asked.as_ref().filter(|asked| thousandths(asked).is_none()) {
            return Err(Failure::usage(format!(
                "has a wrong `resources.{name}`: `{asked}` is no quantity"
            ))
            .hint("write CPUs like `2`, `0.5` or `500m`, and memory like `512Mi` or `4Gi`"));
        }
    }
    Ok(Resources {
        cpu: raw.cpu,
        memory: raw.memory,
    })
}

fn profile(raw: Option<RawProfile>) -> Profile {
    match raw {
        None | Some(RawProfile::Baseline) => Profile::Baseline,
        Some(RawProfile::Restricted) => Profile::Restricted,
    }
}

fn pool(raw: RawPool) -> Result<PoolOptions, ParseMillisError> {
    let idle = raw.idle.map_or(Ok(DEFAULT_IDLE), |idle| idle.parse())?;
    Ok(PoolOptions {
        idle: idle.to_duration(),
        max: raw.max.unwrap_or(DEFAULT_MAX),
    })
}

fn hold(raw: RawHold) -> Result<HoldOptions, Failure> {
    let wrong = |what: String| Failure::usage(format!("has a wrong `hold.failed`: {what}"));
    let failed = raw.failed.map_or(Ok(DEFAULT_HELD), |failed| failed.parse());
    let failed: Millis = failed.map_err(|error| wrong(error.to_string()))?;
    if failed > LONGEST_HELD {
        return Err(wrong(format!("no pod is held for more than {LONGEST_HELD}")));
    }
    let max = raw.max.unwrap_or(DEFAULT_MAX_HELD);
    if max > MOST_HELD {
        return Err(Failure::usage(format!(
            "has a wrong `hold.max`: at most {MOST_HELD} pods are held at a time"
        )));
    }
    Ok(HoldOptions {
        failed: failed.to_duration(),
        max,
    })
}

fn volumes(all: BTreeMap<String, RawVolume>) -> Result<BTreeMap<Name, Volume>, Failure> {
    let volumes = all.into_iter().map(|(volume, raw)| {
        let name = volume
            .parse()
            .map_err(|error| Failure::usage(format!("has a wrong volume: failed to {error}")))?;
        let wrong = |what| Failure::usage(format!("has a volume `{volume}` that {what}"));
        Ok((name, source(raw).map_err(wrong)?))
    });
    let volumes = volumes.collect::<Result<_, Failure>>()?;
    match nested(&volumes) {
        Some((inner, outer)) => Err(Failure::usage(format!(
            "has the volume `{inner}` inside the volume `{outer}`"
        ))
        .hint("give each a folder of its own, so that no project reaches another's")),
        None => Ok(volumes),
    }
}

/// A volume whose folder is inside another's.
fn nested(volumes: &BTreeMap<Name, Volume>) -> Option<(&Name, &Name)> {
    let folder = |volume: &Volume| match &volume.source {
        VolumeSource::HostPath(path) => Some(format!("{path}/")),
        VolumeSource::Claim { .. } => None,
    };
    volumes.iter().find_map(|(inner, volume)| {
        let path = folder(volume)?;
        let mut others = volumes.iter().filter(|(name, _)| *name != inner);
        others
            .find(|(_, other)| folder(other).is_some_and(|other| path.starts_with(&other)))
            .map(|(outer, _)| (inner, outer))
    })
}

fn is_variable(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_plain) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// A registry and who is asked in its place, as images are named.
fn mirror((host, mirror): (String, String)) -> (String, String) {
    let mirror = mirror
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    (host, mirror.trim_end_matches('/').to_owned())
}

/// How its namespaces are made, if they are.
fn making(raw: &mut RawCluster) -> Result<Option<Making>, Failure> {
    let limits = raw.limits.take();
    if !raw.create_namespaces {
        let what = match (&limits, raw.deny.first()) {
            (None, None) => return Ok(None),
            (Some(_), _) => "limits",
            (None, Some(_)) => "deny",
        };
        return Err(
            Failure::usage(format!("has `{what}` for namespaces that it does not make")).hint(
                "write `create_namespaces = true`, or make quota and network policy yourself as deploy/kubernetes/namespace.yaml shows",
            ),
        );
    }
    let RawLimits {
        pods,
        cpu,
        memory,
        container,
    } = limits.unwrap_or_default();
    // A quota refuses every pod that does not say how much of it it wants.
    for (name, limit, default) in [
        ("cpu", &cpu, &raw.resources.cpu),
        ("memory", &memory, &raw.resources.memory),
    ] {
        if limit.is_some() && default.is_none() {
            return Err(Failure::usage(format!(
                "has `limits.{name}`, and does not say how much of it an action gets that names none"
            ))
            .hint(format!("write it in `resources.{name}`")));
        }
    }
    let deny = raw.deny.iter().map(|text| text.parse::<Block>());
    let deny = deny.collect::<Result<_, _>>();
    Ok(Some(Making {
        role: ROLE.to_owned(),
        limits: Limits {
            pods,
            all: Resources { cpu, memory },
            container: Resources {
                cpu: container.cpu,
                memory: container.memory,
            },
        },
        deny: deny.map_err(|error| Failure::usage(format!("has a wrong `deny`: failed to {error}")))?,
    }))
}

/// Fails if a project's pods would go into something that cannot be a namespace, or to what is protected of another project.
pub(super) fn check_namespaces(
    clusters: &[ClusterConfig],
    projects: &[ProjectConfig],
) -> Result<(), Failure> {
    for one in projects {
        let place = clusters
            .iter()
            .find(|cluster| one.place == PlaceConfig::Cluster(cluster.options.name.clone()));
        let Some(cluster) = place else { continue };
        let name = &one.project.name;
        let namespaces = cluster.options.namespaces.all([name]);
        if let Some(wrong) = namespaces.iter().find(|namespace| !is_label(namespace)) {
            return Err(Failure::usage(format!(
                "the cluster `{}` would put pods of the project `{name}` into `{wrong}`, which cannot be a namespace",
                cluster.options.name
            ))
            .hint("a namespace has at most 63 small letters, digits and `-`; in `namespaces`, `${project}` stands for the project's name"));
        }
    }
    clusters.iter().try_for_each(|cluster| {
        let place = PlaceConfig::Cluster(cluster.options.name.clone());
        let of_cluster = projects.iter().filter(|one| one.place == place);
        let names: Vec<&Name> = of_cluster.map(|one| &one.project.name).collect();
        check_apart(cluster, &names)
    })
}

/// Fails if a less trusted pod of one project would be where another project's protected ones are.
fn check_apart(cluster: &ClusterConfig, projects: &[&Name]) -> Result<(), Failure> {
    let Namespaces {
        protected,
        branches,
        forks,
    } = &cluster.options.namespaces;
    for (tier, template) in [("branches", branches), ("forks", forks)] {
        // One template gives two projects the same namespace only if its owner wrote one name for all.
        if template == protected {
            continue;
        }
        for one in projects {
            let namespace = filled(protected, one);
            let mut others = projects.iter().filter(|other| *other != one);
            let Some(other) = others.find(|other| filled(template, other) == namespace) else {
                continue;
            };
            return Err(Failure::usage(format!(
                "the cluster `{}` would put the protected pods of the project `{one}` and the pods for {tier} of the project `{other}` into one namespace, `{namespace}`",
                cluster.options.name
            ))
            .hint(format!(
                "write a `namespaces.{tier}` that no protected one can equal, for example `{tier} = \"{tier}-of-${{project}}\"`, or call one of the projects differently"
            )));
        }
    }
    Ok(())
}

fn filled(template: &str, project: &Name) -> String {
    template.replace("${project}", project.as_str())
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
