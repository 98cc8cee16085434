//! From a planned pod to the object that the cluster is asked for. Pure, and an allow-list: what is not written here, no
//! pipeline file can bring into a pod.

mod fields;
mod images;
pub(crate) mod namespace;
mod security;
#[cfg(test)]
pub(crate) mod tests;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, EnvVar, EnvVarSource, ExecAction, HostAlias, LocalObjectReference, ObjectFieldSelector,
        PersistentVolumeClaim, Pod, PodSpec, Probe, ResourceRequirements, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use pipekeeper_backend::{
    LaunchError, LaunchService, VolumeAccess,
    pod::{PodContainer, PodPlan, paths, thousandths},
};
use pipekeeper_model::{Name, plan::Resources};

use crate::{ClusterOptions, names, pulling::secret_name};

/// Seconds from the polite signal to the final one when a pod is removed; its steps have ended before.
const TERMINATION_GRACE: i64 = 30;

/// The pod of an attempt in this cluster, without the claims that its volumes may need.
pub fn render_pod(plan: &PodPlan, cluster: &ClusterOptions) -> Pod {
    let placement = &plan.placement;
    let profile = cluster.profiles.of(placement.tier);
    let waits_in_shell = !plan.wants_install();
    let steps = plan.containers.iter().enumerate();
    let steps = steps.map(|(index, container)| step(plan, cluster, index, container, waits_in_shell));
    let services = plan.services.iter().map(|one| service(one, cluster));
    let containers: Vec<Container> = std::iter::once(agent(plan, cluster))
        .chain(steps)
        .chain(services)
        .map(|container| security::confine(container, profile))
        .collect();
    let install = (!waits_in_shell).then(|| vec![security::confine(install(cluster), profile)]);
    let mut metadata = ObjectMeta {
        name: Some(names::pod_name(&cluster.instance, plan.attempt)),
        namespace: Some(cluster.namespaces.of(placement)),
        labels: Some(labels(plan, cluster)),
        ..ObjectMeta::default()
    };
    metadata.annotations = Some(BTreeMap::from([(
        names::ACTION.to_owned(),
        placement.action.clone(),
    )]));
    let spec = PodSpec {
        active_deadline_seconds: i64::try_from(plan.lifetime.0 / 1000).ok(),
        automount_service_account_token: Some(false),
        containers,
        enable_service_links: Some(false),
        host_aliases: host_aliases(&plan.services),
        image_pull_secrets: pull_secrets(cluster),
        init_containers: install,
        node_selector: fields::node_selector(plan, cluster),
        priority_class_name: plan.fields.priority_class.clone(),
        restart_policy: Some("Never".to_owned()),
        runtime_class_name: plan.fields.runtime_class.clone(),
        security_context: Some(security::of_pod(profile)),
        termination_grace_period_seconds: Some(TERMINATION_GRACE),
        tolerations: fields::tolerations(&plan.fields),
        volumes: Some(volumes::of_pod(plan, cluster)),
        ..PodSpec::default()
    };
    Pod {
        metadata,
        spec: Some(spec),
        status: None,
    }
}

fn labels(plan: &PodPlan, cluster: &ClusterOptions) -> BTreeMap<String, String> {
    let mut labels = names::labels(&cluster.instance, plan.attempt, &plan.placement);
    let volumes = plan.volumes.iter();
    let alone = volumes.filter(|volume| volume.access == VolumeAccess::One);
    labels.extend(alone.map(|volume| names::alone(&volume.volume, &plan.placement)));
    labels
}

/// Whether the cluster has what the attempt asks for.
///
/// # Errors
/// If it names a volume that the cluster's owner does not offer, or a field of `pod:` that files may not set.
pub(crate) fn check(plan: &PodPlan, cluster: &ClusterOptions) -> Result<(), LaunchError> {
    fields::check(&plan.fields, cluster)?;
    let missing = plan
        .volumes
        .iter()
        .find(|volume| !cluster.volumes.contains_key(&volume.volume));
    missing.map_or(Ok(()), |volume| {
        let offered: Vec<&str> = cluster.volumes.keys().map(Name::as_str).collect();
        Err(LaunchError::Terminal {
            reason: format!(
                "the cluster `{}` has no volume `{}` for the cache `{}`; it has: {}",
                cluster.name,
                volume.volume,
                volume.cache,
                if offered.is_empty() {
                    "none".to_owned()
                } else {
                    offered.join(", ")
                }
            ),
        })
    })
}

/// The claims of the volumes of a pod.
pub(crate) fn claims(plan: &PodPlan, cluster: &ClusterOptions) -> Vec<PersistentVolumeClaim> {
    let volumes = plan.volumes.iter();
    volumes
        .filter_map(|volume| volumes::claim(&volume.volume, &plan.placement, cluster))
        .collect()
}

/// The supervisor: first, so that it runs first.
fn agent(plan: &PodPlan, cluster: &ClusterOptions) -> Container {
    let own_uid = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            api_version: None,
            field_path: "metadata.uid".to_owned(),
        }),
        ..EnvVarSource::default()
    };
    let holder = EnvVar {
        name: "PIPE_HOLDER".to_owned(),
        value: None,
        value_from: Some(own_uid),
    };
    let folders = volumes::folders(plan, cluster).map(|folders| EnvVar {
        name: "PIPE_VOLUMES".to_owned(),
        value: Some(folders),
        value_from: None,
    });
    Container {
        name: names::AGENT.to_owned(),
        image: Some(cluster.agent_image.clone()),
        command: Some(vec![paths::PROGRAM.to_owned(), "supervise".to_owned()]),
        env: Some(std::iter::once(holder).chain(folders).collect()),
        resources: Some(requests("5m", "16Mi")),
        volume_mounts: Some(volumes::of_agent(plan, cluster)),
        ..Container::default()
    }
}

/// Puts the program in place before anything else, for images without a shell.
fn install(cluster: &ClusterOptions) -> Container {
    Container {
        name: names::INSTALL.to_owned(),
        image: Some(cluster.agent_image.clone()),
        command: Some(vec![paths::PROGRAM.to_owned(), "install".to_owned()]),
        resources: Some(requests("5m", "16Mi")),
        volume_mounts: Some(vec![volumes::tools(false)]),
        ..Container::default()
    }
}

fn step(
    plan: &PodPlan,
    cluster: &ClusterOptions,
    index: usize,
    container: &PodContainer,
    waits_in_shell: bool,
) -> Container {
    let program = format!("{}/agent", paths::TOOLS);
    let command = if waits_in_shell {
        // The supervisor puts the program there a moment after its own start.
        let wait =
            format!("until [ -x {program} ]; do sleep 0.02 || sleep 1; done; exec {program} step {index}");
        vec!["sh".to_owned(), "-c".to_owned(), wait]
    } else {
        vec![program, "step".to_owned(), index.to_string()]
    };
    Container {
        name: names::step(index),
        image: Some(images::mirrored(&container.image, &cluster.mirrors)),
        command: Some(command),
        // An image's own arguments are none of ours.
        args: Some(Vec::new()),
        env: (!cluster.env.is_empty()).then(|| variables(&cluster.env)),
        resources: Some(resources(plan, cluster, index)),
        volume_mounts: Some(volumes::of_step(plan, cluster)),
        ..Container::default()
    }
}

fn service(service: &LaunchService, cluster: &ClusterOptions) -> Container {
    let mut env = cluster.env.clone();
    env.extend(service.env.clone());
    let probe = service.ready.as_ref().map(|command| Probe {
        exec: Some(ExecAction {
            command: Some(vec!["sh".to_owned(), "-c".to_owned(), command.clone()]),
        }),
        period_seconds: Some(1),
        timeout_seconds: Some(5),
        failure_threshold: Some(1),
        ..Probe::default()
    });
    Container {
        name: PodPlan::service_name(&service.name),
        image: Some(images::mirrored(&service.image, &cluster.mirrors)),
        env: Some(variables(&env)),
        readiness_probe: probe,
        resources: Some(requests("50m", "64Mi")),
        ..Container::default()
    }
}

/// Variables with just these values: the cluster would put other variables in the place of `$(NAME)`.
fn variables(values: &BTreeMap<String, String>) -> Vec<EnvVar> {
    let variable = |(name, value): (&String, &String)| EnvVar {
        name: name.clone(),
        value: Some(value.replace('$', "$$")),
        value_from: None,
    };
    values.iter().map(variable).collect()
}

/// Services answer under their names.
fn host_aliases(services: &[LaunchService]) -> Option<Vec<HostAlias>> {
    let names: Vec<String> = services.iter().map(|service| service.name.to_string()).collect();
    (!names.is_empty()).then(|| {
        vec![HostAlias {
            ip: "127.0.0.1".to_owned(),
            hostnames: Some(names),
        }]
    })
}

fn pull_secrets(cluster: &ClusterOptions) -> Option<Vec<LocalObjectReference>> {
    let own = cluster.pull_config.as_ref().map(|_| secret_name(cluster));
    let names = cluster.pull_secrets.iter().cloned().chain(own);
    let secrets: Vec<_> = names.map(|name| LocalObjectReference { name }).collect();
    (!secrets.is_empty()).then_some(secrets)
}

/// What a step's container asks for. Only one of them works at a time, so the first asks for all of them; each may use
/// as much.
fn resources(plan: &PodPlan, cluster: &ClusterOptions, index: usize) -> ResourceRequirements {
    let defaults = &cluster.default_resources;
    let wanted = Resources {
        cpu: plan.resources.cpu.clone().or_else(|| defaults.cpu.clone()),
        memory: plan.resources.memory.clone().or_else(|| defaults.memory.clone()),
    };
    let quantities = |cpu: Option<String>, memory: Option<String>| {
        let pairs = [("cpu", cpu), ("memory", memory)];
        let pairs = pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Quantity(value?))));
        Some(pairs.collect::<BTreeMap<_, _>>()).filter(|all| !all.is_empty())
    };
    let requests = if index == 0 {
        quantities(wanted.cpu.clone(), wanted.memory.clone())
    } else {
        // Who asks for more than its limit is refused.
        quantities(
            Some(at_most("5m", plan.resources.cpu.as_deref())),
            Some(at_most("16Mi", wanted.memory.as_deref())),
        )
    };
    // Memory that is not there kills a neighbour; processor time is merely shared.
    let limits = quantities(plan.resources.cpu.clone(), wanted.memory);
    ResourceRequirements {
        requests,
        limits,
        ..ResourceRequirements::default()
    }
}

/// A quantity, or the limit if that is less.
fn at_most(quantity: &str, limit: Option<&str>) -> String {
    let less =
        limit.filter(|limit| thousandths(limit).is_some_and(|limit| Some(limit) < thousandths(quantity)));
    less.unwrap_or(quantity).to_owned()
}

fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity(cpu.to_owned())),
            ("memory".to_owned(), Quantity(memory.to_owned())),
        ])),
        ..ResourceRequirements::default()
    }
}

fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}
