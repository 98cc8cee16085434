//! The configuration file as it is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    path::PathBuf,
};

use pipekeeper_forge::ForgeKind;
use pipekeeper_model::plan::PodField;
use serde::Deserialize;

use super::{LogFormat, oidc::RawOidc};
use crate::failure::Failure;

/// Every key of the file, none of them needed.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) listen: Option<String>,
    pub(super) url: Option<String>,
    pub(super) artifacts_url: Option<String>,
    pub(super) behind_proxy: bool,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) master_key_file: Option<PathBuf>,
    pub(super) kinds: Option<PathBuf>,
    pub(super) agent_image: Option<String>,
    pub(super) database: Option<String>,
    pub(super) database_password_file: Option<PathBuf>,
    pub(super) local: RawLocal,
    pub(super) tls: Option<RawTls>,
    pub(super) oidc: Option<RawOidc>,
    pub(super) log: RawLog,
    pub(super) artifacts: RawArtifacts,
    pub(super) caches: RawCaches,
    pub(super) retention: RawRetention,
    pub(super) clusters: BTreeMap<String, RawCluster>,
    pub(super) projects: BTreeMap<String, RawProject>,
}

/// `[tls]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// `[log]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) format: Option<LogFormat>,
    pub(super) level: Option<String>,
}

/// `[local]`: this machine as a place where actions run.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLocal {
    pub(super) attempts: Option<NonZeroUsize>,
}

/// `[artifacts]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawArtifacts {
    pub(super) max: Option<String>,
}

/// `[caches]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCaches {
    pub(super) project: Option<String>,
    pub(super) total: Option<String>,
}

/// `[retention]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRetention {
    pub(super) runs: Option<String>,
    pub(super) logs: Option<String>,
    pub(super) artifacts: Option<String>,
    pub(super) max_logs: Option<String>,
    pub(super) max_artifacts: Option<String>,
}

/// `[projects.NAME]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawProject {
    pub(super) forge: Option<ForgeKind>,
    pub(super) repository: Option<String>,
    pub(super) plain_http: bool,
    pub(super) hook_secret: Option<String>,
    pub(super) hook_secret_file: Option<PathBuf>,
    pub(super) trusted: bool,
    pub(super) backend: Option<String>,
    pub(super) secrets: BTreeMap<String, RawSecret>,
    pub(super) default_branch: Option<String>,
    pub(super) protected_branches: Option<Vec<String>>,
    pub(super) protected_tags: Option<Vec<String>>,
}

/// `[projects.NAME.secrets]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSecret {
    pub(super) file: PathBuf,
    pub(super) tiers: Option<Vec<RawTier>>,
}

/// How far a run is trusted.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawTier {
    Protected,
    Branches,
}

/// `[clusters.NAME]`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawCluster {
    pub(super) kubeconfig: Option<PathBuf>,
    pub(super) context: Option<String>,
    pub(super) namespaces: RawNamespaces,
    pub(super) create_namespaces: bool,
    pub(super) limits: Option<RawLimits>,
    pub(super) deny: Vec<String>,
    pub(super) profiles: RawProfiles,
    pub(super) agent_image: Option<String>,
    pub(super) default_image: Option<String>,
    pub(super) pull_secrets: Vec<String>,
    pub(super) volumes: BTreeMap<String, RawVolume>,
    pub(super) resources: RawResources,
    pub(super) mirrors: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) pod_allow: BTreeSet<PodField>,
    pub(super) pool: Option<RawPool>,
    pub(super) hold: Option<RawHold>,
    pub(super) object_store: Option<RawObjectStore>,
}

/// `hold` of a cluster: pods that stay when their action failed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHold {
    pub(super) failed: Option<String>,
    pub(super) max: Option<usize>,
}

/// `[clusters.NAME.object_store]`: where archive caches of its pods are kept.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawObjectStore {
    pub(super) url: Option<String>,
    pub(super) pods_url: Option<String>,
    pub(super) bucket: Option<String>,
    pub(super) region: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) path_style: Option<bool>,
    pub(super) access_key: Option<String>,
    pub(super) secret_key: Option<String>,
    pub(super) secret_key_file: Option<PathBuf>,
    pub(super) ca: Option<PathBuf>,
}

/// `pool` of a cluster: pods that stand by.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    pub(super) idle: Option<String>,
    pub(super) max: Option<usize>,
}

/// `namespaces` of a cluster.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNamespaces {
    pub(super) protected: Option<String>,
    pub(super) branches: Option<String>,
    pub(super) forks: Option<String>,
}

/// `limits` of a cluster: how much the pods of a namespace may be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) pods: Option<u32>,
    pub(super) cpu: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) container: RawResources,
}

/// `profiles` of a cluster.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawProfiles {
    pub(super) protected: Option<RawProfile>,
    pub(super) branches: Option<RawProfile>,
}

/// A security profile.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawProfile {
    Baseline,
    Restricted,
}

/// `volumes` of a cluster: a folder of its nodes, or a claim of a size.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawVolume {
    pub(super) host_path: Option<String>,
    pub(super) nodes: BTreeMap<String, String>,
    pub(super) size: Option<String>,
    pub(super) class: Option<String>,
    pub(super) access: Option<String>,
}

/// `resources` of a cluster: what a container gets whose action says nothing; also what `limits` allow it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawResources {
    pub(super) cpu: Option<String>,
    pub(super) memory: Option<String>,
}

/// Reads a file's text; an error is one line with its place.
pub(super) fn parse(path: &str, text: &str) -> Result<Raw, Failure> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        // A message may quote what it did not understand, over several lines.
        let message = error.message().replace('\n', " ");
        Failure::usage(format!("{path}:{line}:{column}: {message}"))
            .hint("`config.example.toml` shows every key")
    })
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(start..).unwrap_or("").chars().count() + 1;
    (line, column)
}
