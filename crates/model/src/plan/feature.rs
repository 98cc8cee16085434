//! What a plan asks of its backend: nothing that a file says is silently ignored.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Place;

/// Something that not every backend or version can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// `image:` of an action, a step or the pipeline.
    Image,
    /// `build:`.
    Build,
    /// `promote:`.
    Promote,
    /// `sync:`.
    Sync,
    /// `call:`.
    Call,
    /// `services:`.
    Services,
    /// `secrets:`.
    Secrets,
    /// `credentials:`.
    Credentials,
    /// `resources:`.
    Resources,
    /// `cluster:`.
    Cluster,
    /// `mode: volume` of a cache.
    VolumeCache,
    /// `access: one` of such a cache.
    SoleVolume,
    /// `plan:`, an action whose output adds nodes.
    DynamicPlan,
    /// `include:`.
    Include,
    /// `pod:`.
    Pod,
    /// `checkout:` with submodules or LFS.
    CheckoutExtras,
    /// `on: merge_request`.
    MergeRequestTrigger,
    /// `on: cron`.
    CronTrigger,
    /// `on: image`.
    ImageTrigger,
    /// `on: pipeline`.
    PipelineTrigger,
}

impl Feature {
    /// The key of the pipeline file, as people know it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Build => "build",
            Self::Promote => "promote",
            Self::Sync => "sync",
            Self::Call => "call",
            Self::Services => "services",
            Self::Secrets => "secrets",
            Self::Credentials => "credentials",
            Self::Resources => "resources",
            Self::Cluster => "cluster",
            Self::VolumeCache => "mode: volume",
            Self::SoleVolume => "access: one",
            Self::DynamicPlan => "plan",
            Self::Include => "include",
            Self::Pod => "pod",
            Self::CheckoutExtras => "checkout",
            Self::MergeRequestTrigger => "on.merge_request",
            Self::CronTrigger => "on.cron",
            Self::ImageTrigger => "on.image",
            Self::PipelineTrigger => "on.pipeline",
        }
    }
}

impl Feature {
    /// Whether it only says what may start runs: a run that something else started does not need it.
    pub fn is_trigger(self) -> bool {
        matches!(
            self,
            Self::MergeRequestTrigger | Self::CronTrigger | Self::ImageTrigger | Self::PipelineTrigger
        )
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// One use of a feature in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureUse {
    /// What is used.
    pub feature: Feature,
    /// The key path, such as `actions[2].build`.
    pub path: String,
    /// Where it stands.
    pub place: Place,
    /// What exactly, where that helps: the image's name, the cluster's.
    pub detail: Option<String>,
}
