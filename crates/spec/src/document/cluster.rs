//! `kind: Cluster`: where pods run. Its keys are in [`super::cluster_keys`].

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{Millis, Name, plan::PodField};
use serde::{Deserialize, Serialize};

use super::{
    Lend, ValueSource,
    fault::{Doubt, Reference},
    parts::{is_default, length},
};
use crate::codes;

/// Where pods run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// How it is reached; none means the account of the pod that the server is, or the user's own file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<ValueSource>,
    /// The context there; none means its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Where its pods are.
    pub namespaces: ClusterNamespaces,
    /// Whether the server makes those namespaces.
    #[serde(default, skip_serializing_if = "is_default")]
    pub create_namespaces: bool,
    /// What the pods of each namespace that it makes may be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: ClusterLimits,
    /// Further addresses that they do not reach.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub deny: BTreeSet<String>,
    /// What pods may do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub profiles: ClusterProfiles,
    /// The image with the supervisor; none means the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_image: Option<String>,
    /// The image of steps that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_image: Option<String>,
    /// The Secret objects that images are pulled with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pull_secrets: BTreeSet<Name>,
    /// What a container gets whose action says nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: ClusterResources,
    /// Registries that are asked in the place of others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, String>,
    /// Variables of all steps and services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What pipelines may say under `pod`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub pod_allow: BTreeSet<PodField>,
    /// How pods stand by for further actions; none means that each serves one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// How the pods of failed actions are held for people; none means that they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Volumes that caches may name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<Name, ClusterVolume>,
    /// Where archive caches of its pods are; none means with the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_store: Option<ClusterObjectStore>,
    /// Whose actions may borrow rights in their own namespaces; none means nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lend: Option<Lend>,
}

/// Where pods are, by tier; `${{ project }}` stands for the project's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterNamespaces {
    /// Those of protected refs.
    pub protected: String,
    /// Those of other refs; none means `-branches` behind the protected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branches: Option<String>,
    /// Those of other people's copies; none means `-forks` behind the protected one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forks: Option<String>,
}

/// What the pods of a namespace may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterLimits {
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,
    /// CPUs of all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory of all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// What one container may have.
    #[serde(default, skip_serializing_if = "is_default")]
    pub container: ClusterResources,
}

/// CPUs and memory, as clusters write them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterResources {
    /// CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// What pods may do, by tier; those of forks are always restricted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterProfiles {
    /// Those of protected refs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protected: Profile,
    /// Those of other refs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub branches: Profile,
    /// Those of other people's copies.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forks: ForkProfile,
}

/// The one profile of forks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForkProfile {
    /// No root.
    #[default]
    Restricted,
}

/// A security profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Root with few capabilities, and no escalation.
    #[default]
    Baseline,
    /// No root.
    Restricted,
}

/// Pods that stand by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// For how long.
    #[serde(default = "idle", with = "length", skip_serializing_if = "is_idle")]
    pub idle: Millis,
    /// How many.
    #[serde(default = "pooled", skip_serializing_if = "is_pooled")]
    pub max: u32,
}

/// Pods of failed actions that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// For how long.
    #[serde(default = "held", with = "length", skip_serializing_if = "is_held")]
    pub failed: Millis,
    /// How many at a time.
    #[serde(default = "held_pods", skip_serializing_if = "is_held_pods")]
    pub max: u32,
}

/// A volume that caches may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterVolume {
    /// Where its bytes are.
    #[serde(flatten)]
    pub source: VolumeSource,
    /// The labels of the nodes that have it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, String>,
    /// The storage class of a claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The access mode of a claim; none means `ReadWriteOnce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// Where the bytes of a volume are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A folder of nodes.
    HostPath(String),
    /// A claim of this size for each project and tier.
    Size(String),
}

/// An S3-compatible store for archive caches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterObjectStore {
    /// Its address.
    pub url: String,
    /// Its address as pods reach it, if that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods_url: Option<String>,
    /// The bucket, which must be there.
    pub bucket: String,
    /// The region.
    #[serde(default = "region", skip_serializing_if = "is_region")]
    pub region: String,
    /// What the names of all its objects begin with.
    #[serde(default = "prefix", skip_serializing_if = "is_prefix")]
    pub prefix: String,
    /// Whether the bucket's name stands in the path of addresses.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub path_style: bool,
    /// The name of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: ValueSource,
    /// The certificates to trust in the place of Mozilla's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl Cluster {
    pub(super) fn references(&self) -> Vec<Reference> {
        let key = self.object_store.as_ref().map(|store| &store.secret_key);
        let mut found = ValueSource::references(self.kubeconfig.as_ref(), &["kubeconfig"]);
        found.extend(ValueSource::references(key, &["object_store", "secret_key"]));
        found.extend(Lend::references(self.lend.as_ref()));
        found
    }

    pub(super) fn doubts(&self) -> Vec<Doubt> {
        let mut found = self.doubts_of_namespaces();
        found.extend(self.volumes.iter().flat_map(|(name, volume)| volume.doubts(name)));
        found.extend(self.doubt_nested());
        found.extend(Lend::doubts(self.lend.as_ref(), None));
        let longest = Millis::hours(12);
        if self.hold.as_ref().is_some_and(|hold| hold.failed > longest) {
            found.push(Doubt::new(
                codes::OUT_OF_RANGE,
                &["hold", "failed"],
                format!("no pod is held for more than {longest}"),
                "write at most `12h`",
            ));
        }
        found
    }

    fn doubts_of_namespaces(&self) -> Vec<Doubt> {
        let ungoverned = [
            ("limits", self.limits != ClusterLimits::default()),
            ("deny", !self.deny.is_empty()),
        ];
        let ungoverned = ungoverned
            .into_iter()
            .filter(|(_, is_set)| *is_set && !self.create_namespaces)
            .map(|(key, _)| {
                Doubt::new(
                    codes::KEYS_TOGETHER,
                    &[key],
                    format!("`{key}` is for namespaces that the server makes, and it makes none"),
                    "add `create_namespaces: true`, or make quota and network policy yourself",
                )
            });
        // A quota refuses every pod that does not say how much of it it wants.
        let unasked = [
            ("cpu", &self.limits.cpu, &self.resources.cpu),
            ("memory", &self.limits.memory, &self.resources.memory),
        ];
        let unasked = unasked
            .into_iter()
            .filter(|(_, limit, default)| limit.is_some() && default.is_none())
            .map(|(key, ..)| {
                Doubt::new(
                    codes::KEYS_TOGETHER,
                    &["limits", key],
                    format!("nothing says how much {key} an action gets that names none"),
                    "write it in `resources`",
                )
            });
        ungoverned.chain(unasked).collect()
    }

    /// A volume inside another one would let one project reach another's files.
    fn doubt_nested(&self) -> Option<Doubt> {
        let folders: Vec<(&Name, String)> = self
            .volumes
            .iter()
            .filter_map(|(name, volume)| match &volume.source {
                VolumeSource::HostPath(path) => Some((name, format!("{}/", path.trim_end_matches('/')))),
                VolumeSource::Size(_) => None,
            })
            .collect();
        folders.iter().find_map(|(inner, path)| {
            let mut others = folders.iter().filter(|(name, _)| name != inner);
            let (outer, _) = others.find(|(_, other)| path.starts_with(other))?;
            Some(Doubt::new(
                codes::BAD_PATH,
                &["volumes", inner.as_str(), "host_path"],
                format!("the volume `{inner}` is inside the volume `{outer}`"),
                "give each a folder of its own",
            ))
        })
    }
}

impl ClusterVolume {
    fn doubts(&self, name: &Name) -> Vec<Doubt> {
        let claimed = [("class", self.class.is_some()), ("access", self.access.is_some())];
        let is_folder = matches!(self.source, VolumeSource::HostPath(_));
        let misplaced = claimed.into_iter().filter(|(_, is_set)| *is_set && is_folder);
        misplaced
            .map(|(key, _)| {
                Doubt::new(
                    codes::KEYS_TOGETHER,
                    &["volumes", name.as_str(), key],
                    format!("`{key}` belongs to a volume with `size`"),
                    "write `size`, or remove it",
                )
            })
            .collect()
    }
}

const IDLE: Millis = Millis::minutes(5);
const POOLED: u32 = 4;
const HELD: Millis = Millis::minutes(15);
const HELD_PODS: u32 = 2;
const REGION: &str = "us-east-1";
const PREFIX: &str = "pipekeeper";

fn idle() -> Millis {
    IDLE
}

fn is_idle(length: &Millis) -> bool {
    *length == IDLE
}

fn pooled() -> u32 {
    POOLED
}

fn is_pooled(max: &u32) -> bool {
    *max == POOLED
}

fn held() -> Millis {
    HELD
}

fn is_held(length: &Millis) -> bool {
    *length == HELD
}

fn held_pods() -> u32 {
    HELD_PODS
}

fn is_held_pods(max: &u32) -> bool {
    *max == HELD_PODS
}

fn region() -> String {
    REGION.to_owned()
}

fn is_region(region: &str) -> bool {
    region == REGION
}

fn prefix() -> String {
    PREFIX.to_owned()
}

fn is_prefix(prefix: &str) -> bool {
    prefix == PREFIX
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}
