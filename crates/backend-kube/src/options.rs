//! What a cluster's owner decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use pipekeeper_backend::{Placement, Tier};
use pipekeeper_model::{
    Name,
    plan::{PodField, Resources},
};

use crate::{Block, PullConfig};

/// One cluster, as its owner lets us use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Its name.
    pub name: Name,
    /// What tells our pods from those of another server in the same namespace: a few hex digits.
    pub instance: String,
    /// The namespace of each tier.
    pub namespaces: Namespaces,
    /// The security profile of each tier.
    pub profiles: Profiles,
    /// The image with the supervisor, of this very version.
    pub agent_image: String,
    /// The Secrets in the pods' namespaces that images are pulled with.
    pub pull_secrets: Vec<String>,
    /// The logins that images are pulled with beside these.
    pub pull_config: Option<PullConfig>,
    /// The registries that are asked in the place of others, by the host of an image's name: `docker.io`.
    pub mirrors: BTreeMap<String, String>,
    /// Variables of every container that is not ours; the file's own win.
    pub env: BTreeMap<String, String>,
    /// The fields of `pod:` that files may set.
    pub pod_allow: BTreeSet<PodField>,
    /// The volumes that caches may be.
    pub volumes: BTreeMap<Name, Volume>,
    /// What a container gets whose action says nothing about resources.
    pub default_resources: Resources,
    /// How namespaces are made that are not there; none if that is the business of people.
    pub making: Option<Making>,
    /// How long a pod may wait for what.
    pub patience: Patience,
}

/// How namespaces are made, and what keeps their pods within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// The `ClusterRole` that this server gets in each of them, and the `ClusterRoleBinding` that names the server.
    pub role: String,
    /// How much the pods may be.
    pub limits: Limits,
    /// What they may not reach, beside the clouds' metadata and the API server.
    pub deny: Vec<Block>,
}

/// How much the pods of a namespace may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many there may be at a time.
    pub pods: Option<u32>,
    /// What all of them together may ask for.
    pub all: Resources,
    /// What each container may ask for and use.
    pub container: Resources,
}

/// The namespaces of pods, `${project}` standing for the project's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Of protected branches and tags.
    pub protected: String,
    /// Of other refs.
    pub branches: String,
    /// Of everything that is trusted less.
    pub forks: String,
}

impl Namespaces {
    /// Every namespace that pods of these projects may be in.
    pub fn all<'a>(&self, projects: impl IntoIterator<Item = &'a Name>) -> BTreeSet<String> {
        let templates = [&self.protected, &self.branches, &self.forks];
        let projects: Vec<&Name> = projects.into_iter().collect();
        let filled = templates.into_iter().flat_map(|template| {
            projects
                .iter()
                .map(move |project| template.replace("${project}", project.as_str()))
        });
        filled.collect()
    }

    /// Whether this is one of them, of whatever project.
    pub(crate) fn may_be(&self, namespace: &str) -> bool {
        let templates = [&self.protected, &self.branches, &self.forks];
        templates
            .into_iter()
            .any(|template| match template.split_once("${project}") {
                None => template == namespace,
                Some((before, after)) => {
                    let rest = namespace.strip_prefix(before);
                    // What stands for the project a second time is taken for anything: rather once too often than not.
                    let after = after.rsplit("${project}").next().unwrap_or(after);
                    rest.is_some_and(|rest| rest.len() > after.len() && rest.ends_with(after))
                }
            })
    }

    /// Where a pod of this placement belongs.
    pub fn of(&self, placement: &Placement) -> String {
        let template = match placement.tier {
            Tier::Protected => &self.protected,
            Tier::Branches => &self.branches,
            Tier::Forks | Tier::Local => &self.forks,
        };
        template.replace("${project}", placement.project.as_str())
    }
}

/// The role that [`Making`] speaks of, as deploy/kubernetes names it.
pub const ROLE: &str = "pipekeeper";

/// The image with the supervisor of this version, unless the name says which.
pub fn pinned(image: &str, version: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:{version}")
    }
}

/// What the containers of an action may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Root is allowed, with the few capabilities that package managers want; no escalation.
    Baseline,
    /// No root, no capability.
    Restricted,
}

/// The profile of each tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profiles {
    /// Of protected branches and tags.
    pub protected: Profile,
    /// Of other refs.
    pub branches: Profile,
}

impl Profiles {
    /// The profile of a tier; what is trusted least is always restricted.
    pub fn of(self, tier: Tier) -> Profile {
        match tier {
            Tier::Protected => self.protected,
            Tier::Branches => self.branches,
            Tier::Forks | Tier::Local => Profile::Restricted,
        }
    }
}

/// A volume that caches may be; each project and tier has one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What it is made of.
    pub source: VolumeSource,
    /// The nodes that have it, by label; all if empty.
    pub nodes: BTreeMap<String, String>,
}

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A folder of the node, below which each project and tier gets its own.
    HostPath(String),
    /// A claim, made when it is first used.
    Claim {
        /// Its size, such as `50Gi`.
        size: String,
        /// Its storage class; none means the cluster's default.
        class: Option<String>,
        /// `ReadWriteOnce` or `ReadWriteMany`.
        access: String,
    },
}

/// How long a pod may wait for what, before its attempt is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a node that takes it.
    pub node: Duration,
    /// For an image that the registry has but does not deliver.
    pub pull: Duration,
    /// For an image that the registry does not have, or not for us.
    pub missing_image: Duration,
    /// For a container that cannot be made or started.
    pub start: Duration,
    /// For a node that is slow to make all containers, beyond its first minute.
    pub making: Duration,
    /// For a service to be ready.
    pub service: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            node: Duration::from_secs(9 * 60),
            pull: Duration::from_secs(5 * 60),
            missing_image: Duration::from_secs(30),
            start: Duration::from_secs(30),
            making: Duration::from_secs(8 * 60),
            service: Duration::from_secs(5 * 60),
        }
    }
}
