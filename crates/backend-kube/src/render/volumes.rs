//! The volumes of a pod, and where each container has them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        EmptyDirVolumeSource, HostPathVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
        PersistentVolumeClaimVolumeSource, Volume, VolumeMount, VolumeResourceRequirements,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use pipekeeper_backend::{
    Placement, Tier, VolumeMount as CacheVolume,
    pod::{PodPlan, paths},
};
use pipekeeper_model::Name;

use super::mount;
use crate::{ClusterOptions, VolumeSource, names};

const TOOLS: &str = "tools";
/// The volumes that come and go with the pod.
const OWN: [&str; 5] = ["attempt", TOOLS, "workspace", "home", "out"];
/// The one of them that is never on a disk.
const SECRETS: &str = "secrets";

/// What the supervisor's container has: also the caches, whole, to make their folders for whichever user a step has.
pub(super) fn of_agent(plan: &PodPlan, cluster: &ClusterOptions) -> Vec<VolumeMount> {
    let below = |name: &str| mount(name, &format!("{}/{name}", paths::ATTEMPT));
    let own = [
        mount("attempt", paths::ATTEMPT),
        below("workspace"),
        below("home"),
        below("out"),
        tools(false),
    ];
    let caches = known(plan, cluster).map(|volume| {
        let place = format!("{}/volumes/{}", paths::ATTEMPT, volume.cache);
        mount(&volume_name(&volume.cache), &place)
    });
    let secrets = plan.has_secret_files.then(|| below(SECRETS));
    own.into_iter().chain(secrets).chain(caches).collect()
}

/// The folders of caches that the supervisor makes, below `volumes`, as its environment names them.
pub(super) fn folders(plan: &PodPlan, cluster: &ClusterOptions) -> Option<String> {
    let folders: Vec<String> = known(plan, cluster)
        .flat_map(|volume| {
            let cache = &volume.cache;
            (0..volume.paths.len()).map(move |index| format!("{cache}/{}", folder(cache, index)))
        })
        .collect();
    (!folders.is_empty()).then(|| folders.join(":"))
}

fn known<'a>(plan: &'a PodPlan, cluster: &'a ClusterOptions) -> impl Iterator<Item = &'a CacheVolume> {
    let volumes = plan.volumes.iter();
    volumes.filter(|volume| cluster.volumes.contains_key(&volume.volume))
}

/// Each path is a folder of the volume, so that one volume serves several.
fn folder(cache: &Name, index: usize) -> String {
    format!("{cache}/{index}")
}

/// What the container of a step has.
pub(super) fn of_step(plan: &PodPlan, cluster: &ClusterOptions) -> Vec<VolumeMount> {
    let own = [
        mount("workspace", paths::WORKSPACE),
        mount("home", paths::HOME),
        mount("out", paths::OUT),
        tools(true),
    ];
    let caches = known(plan, cluster).flat_map(|volume| {
        let paths = volume.paths.iter().enumerate();
        paths.map(move |(index, path)| VolumeMount {
            sub_path: Some(folder(&volume.cache, index)),
            ..mount(&volume_name(&volume.cache), &paths::place(path))
        })
    });
    let secrets = plan.has_secret_files.then(|| mount(SECRETS, paths::SECRETS));
    own.into_iter().chain(secrets).chain(caches).collect()
}

/// The folder of tools.
pub(super) fn tools(read_only: bool) -> VolumeMount {
    VolumeMount {
        read_only: read_only.then_some(true),
        ..mount(TOOLS, paths::TOOLS)
    }
}

/// All volumes.
pub(super) fn of_pod(plan: &PodPlan, cluster: &ClusterOptions) -> Vec<Volume> {
    let own = OWN
        .map(empty)
        .into_iter()
        .chain(plan.has_secret_files.then(in_memory));
    let caches = plan.volumes.iter().filter_map(|volume| {
        let known = cluster.volumes.get(&volume.volume)?;
        let name = volume_name(&volume.cache);
        Some(match &known.source {
            VolumeSource::HostPath(_) if !gets_folders(plan.placement.tier) => empty(&name),
            VolumeSource::HostPath(folder) => Volume {
                name,
                host_path: Some(HostPathVolumeSource {
                    path: format!("{folder}/{}", own_folder(&plan.placement)),
                    type_: Some("DirectoryOrCreate".to_owned()),
                }),
                ..Volume::default()
            },
            VolumeSource::Claim { .. } => Volume {
                name,
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim_name(&volume.volume, &plan.placement),
                    read_only: None,
                }),
                ..Volume::default()
            },
        })
    });
    own.chain(caches).collect()
}

fn in_memory() -> Volume {
    Volume {
        name: SECRETS.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(paths::SECRETS_LIMIT.to_string())),
        }),
        ..Volume::default()
    }
}

/// A volume that comes and goes with the pod.
fn empty(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// Whether pods of this tier get folders of their node. What strangers wrote has its caches for as long as it runs.
fn gets_folders(tier: Tier) -> bool {
    match tier {
        Tier::Protected | Tier::Branches => true,
        Tier::Forks | Tier::Local => false,
    }
}

/// The labels of the nodes that have every volume it wants.
pub(super) fn nodes(plan: &PodPlan, cluster: &ClusterOptions) -> BTreeMap<String, String> {
    let tier = plan.placement.tier;
    let volumes = plan.volumes.iter();
    let wanted = volumes
        .filter_map(|volume| cluster.volumes.get(&volume.volume))
        .filter(|volume| gets_folders(tier) || !matches!(volume.source, VolumeSource::HostPath(_)));
    wanted.flat_map(|volume| volume.nodes.clone()).collect()
}

/// The claim of a volume for one project and tier, if it is made of one.
pub(super) fn claim(
    volume: &Name,
    placement: &Placement,
    cluster: &ClusterOptions,
) -> Option<PersistentVolumeClaim> {
    let VolumeSource::Claim { size, class, access } = &cluster.volumes.get(volume)?.source else {
        return None;
    };
    let storage = BTreeMap::from([("storage".to_owned(), Quantity(size.clone()))]);
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim_name(volume, placement)),
            labels: Some(BTreeMap::from([(
                names::MANAGER.to_owned(),
                names::PRODUCT.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![access.clone()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(storage),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

/// The name of a volume's claim for one project and tier. The words in it are for people, and may be alike for several;
/// what stands behind them is not.
fn claim_name(volume: &Name, placement: &Placement) -> String {
    let (project, tier) = (placement.project.as_str(), placement.tier.as_str());
    let whole = format!("{volume}/{project}/{tier}");
    names::distinct(&format!("pipe-{volume}-{project}-{tier}"), &whole)
}

/// What belongs to one project and tier never meets another's.
fn own_folder(placement: &Placement) -> String {
    format!("{}/{}", placement.project, placement.tier.as_str())
}

fn volume_name(cache: &Name) -> String {
    let name = format!("cache-{cache}");
    if names::is_label(&name) {
        name
    } else {
        names::distinct("cache", cache.as_str())
    }
}
