//! From a launch to the pod that is made and the spec that its supervisor is given. It looks at files and makes none.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use pipekeeper_agent::protocol::{
    AttemptDir, AttemptSpec, InputSpec, PodSpec, ToAgent, WorkspaceSpec, encode,
};
use pipekeeper_model::{
    AttemptId, Digest, Millis, Name,
    plan::{PodFields, Resources},
};
use serde::{Deserialize, Serialize};

use super::{PodOptions, caches::Caches, objects::CacheObjects};
use crate::{
    Launch, LaunchError, LaunchScript, LaunchService, Placement, SourceInput, VolumeAccess, VolumeMount,
    artifact_path, blob_path,
    spec::{to_spec, to_values},
};

/// Where the volumes of a pod are mounted.
pub mod paths {
    /// The folder that everything of ours is below.
    pub const ROOT: &str = "/pipe";
    /// The program in the supervisor's image.
    pub const PROGRAM: &str = "/pipekeeper-agent";
    /// The program, and what else steps may only read.
    pub const TOOLS: &str = "/pipe/tools";
    /// The supervisor's own folder.
    pub const ATTEMPT: &str = "/pipe/attempt";
    /// The workspace, as steps see it.
    pub const WORKSPACE: &str = "/workspace";
    /// HOME, as steps see it.
    pub const HOME: &str = "/pipe/home";
    /// Outputs and the summary, as steps see them.
    pub const OUT: &str = "/pipe/out";
    /// Files of secrets, in memory, as steps see them.
    pub const SECRETS: &str = "/pipe/secrets";
    /// The most bytes that they are in all; what a ticket can bring is less.
    pub const SECRETS_LIMIT: u64 = 16 << 20;
    /// The temporary folders of steps.
    pub const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

    /// Where a path of the pipeline file is, as steps see it.
    pub fn place(path: &str) -> String {
        match path.strip_prefix("~/") {
            Some(below) => format!("{HOME}/{below}"),
            None if path.starts_with('/') => path.to_owned(),
            None => format!("{WORKSPACE}/{path}"),
        }
    }
}

/// What a host makes for an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// The attempt.
    pub attempt: AttemptId,
    /// Where it belongs.
    pub placement: Placement,
    /// The containers of its steps, one for each image.
    pub containers: Vec<PodContainer>,
    /// The containers beside them.
    pub services: Vec<LaunchService>,
    /// What the steps may use.
    pub resources: Resources,
    /// What it asks of its pod beside that.
    pub fields: PodFields,
    /// The volumes that are its caches.
    pub volumes: Vec<VolumeMount>,
    /// Whether it gets files of secrets, for which its containers share a folder in memory.
    pub has_secret_files: bool,
    /// After this long it is ended, whoever watches.
    pub lifetime: Millis,
}

/// The container of the steps of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodContainer {
    /// The image.
    pub image: String,
    /// Whether the image is sure to have a shell, because its steps are scripts.
    pub has_shell: bool,
}

/// What is remembered of a launch, to go on with it after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// What the supervisor is given.
    pub(super) spec: AttemptSpec,
    /// Where the log's bytes go on this side.
    pub(super) log: PathBuf,
    /// The files that the pod needs, by the names they get there.
    pub(super) uploads: BTreeMap<String, PathBuf>,
    /// Where caches are saved on this side, by their names.
    pub(super) caches: BTreeMap<String, PathBuf>,
    /// What of its caches is in an object store or may come there, by their names.
    #[serde(default)]
    pub(super) objects: BTreeMap<String, CacheObjects>,
    /// What stands beside the steps.
    #[serde(default)]
    pub(super) services: Vec<Name>,
    /// Where in its host its pod is.
    #[serde(default)]
    pub(super) home: Option<String>,
    /// Whether it must have a volume to itself.
    #[serde(default)]
    pub(super) wants_alone: bool,
    /// What another attempt must have in common with it to be served by its pod; none if none may.
    #[serde(default)]
    pub(super) likeness: Option<String>,
}

/// The time that an ended pod may wait for a server to fetch what it made.
const LINGER: Millis = Millis::hours(24);

/// Plans the pod of an attempt. `source` is the archive of a folder that the workspace is to be a copy of.
pub(super) fn plan(
    launch: &Launch,
    options: &PodOptions,
    source: Option<PathBuf>,
) -> Result<(PodPlan, Order), LaunchError> {
    let dir = AttemptDir::in_pod(Path::new(paths::ROOT));
    let mut spec = to_spec(launch, dir.path().join("log"));
    let artifacts = &options.artifacts;
    let containers = containers(launch, options.default_image.as_deref(), &mut spec)?;
    let mut uploads = BTreeMap::new();
    let archive = match &launch.source {
        SourceInput::Empty => None,
        SourceInput::Folder(_) => source,
        SourceInput::Archive(path) => Some(path.clone()),
    };
    if let Some(archive) = archive {
        uploads.insert("source".to_owned(), archive);
        let path = dir.incoming().join("source");
        spec.workspace = WorkspaceSpec::Archive { path };
    }
    for input in &launch.inputs {
        let hex = input.digest.to_hex();
        spec.inputs.push(InputSpec {
            archive: dir.incoming().join(&hex),
            into: input.into.clone(),
            sha256: hex.clone(),
        });
        uploads.insert(hex, artifact_path(artifacts, &input.digest));
    }
    let value_name = |digest: &Digest| format!("value-{}", digest.to_hex());
    spec.values = to_values(launch, |digest| dir.incoming().join(value_name(digest)));
    for digest in launch.output_files().into_values() {
        uploads.insert(value_name(digest), blob_path(artifacts, digest));
    }
    let caches = Caches::plan(launch, options.objects.as_deref(), &dir, &mut spec, &mut uploads)?;
    spec.pod = Some(as_seen(launch, containers.len()));
    check_size(&spec)?;
    let pod = PodPlan {
        attempt: launch.attempt,
        placement: launch.placement.clone(),
        containers,
        services: launch.services.clone(),
        resources: launch.resources.clone(),
        fields: launch.pod.clone(),
        volumes: launch.volumes.clone(),
        has_secret_files: launch.has_secret_files,
        lifetime: lifetime(launch),
    };
    let order = Order {
        spec,
        log: launch.log.clone(),
        uploads,
        caches: caches.saved,
        objects: caches.objects,
        services: launch
            .services
            .iter()
            .map(|service| service.name.clone())
            .collect(),
        home: None,
        wants_alone: pod.wants_alone(),
        likeness: None,
    };
    Ok((pod, order))
}

/// After so long nobody needs its pod any more, whatever happened to those who did.
fn lifetime(launch: &Launch) -> Millis {
    let running = launch.timeout.0.saturating_add(launch.grace.0);
    Millis(running.saturating_add(LINGER.0))
}

/// A spec that no frame holds could never be told.
fn check_size(spec: &AttemptSpec) -> Result<(), LaunchError> {
    let told = ToAgent::Assign {
        spec: Box::new(spec.clone()),
    };
    encode(&told).map(drop).map_err(|_| LaunchError::Terminal {
        reason: "its scripts and variables have more than 8 MiB together: pass large values as files"
            .to_owned(),
    })
}

/// How the attempt stands in its pod.
fn as_seen(launch: &Launch, containers: usize) -> PodSpec {
    let volumes = launch.volumes.iter().flat_map(|volume| &volume.paths);
    PodSpec {
        containers,
        workspace: PathBuf::from(paths::WORKSPACE),
        home: PathBuf::from(paths::HOME),
        out: PathBuf::from(paths::OUT),
        tools: PathBuf::from(paths::TOOLS),
        secrets: launch.has_secret_files.then(|| PathBuf::from(paths::SECRETS)),
        stays: false,
        holds: false,
        temporary: paths::TEMPORARY.map(PathBuf::from).to_vec(),
        mounts: volumes.map(|path| PathBuf::from(paths::place(path))).collect(),
    }
}

impl Order {
    /// Lets the pod serve others who want the like.
    pub(super) fn share(&mut self, likeness: Option<String>) {
        if let Some(pod) = self.spec.pod.as_mut() {
            pod.stays = likeness.is_some();
        }
        self.likeness = likeness;
    }

    /// Lets the pod be held for people when a step has failed.
    pub(super) fn hold(&mut self) {
        if let Some(pod) = self.spec.pod.as_mut() {
            pod.holds = true;
        }
    }
}

/// One container for each image, and each step in its own's.
fn containers(
    launch: &Launch,
    default_image: Option<&str>,
    spec: &mut AttemptSpec,
) -> Result<Vec<PodContainer>, LaunchError> {
    let mut containers: Vec<PodContainer> = Vec::new();
    for (step, told) in launch.steps.iter().zip(&mut spec.steps) {
        let image = step.image.as_deref().or(default_image);
        let image = image.ok_or_else(|| LaunchError::Terminal {
            reason: format!(
                "{} has no image to run in: add `image:` to it, to its action or to the pipeline",
                step.name
            ),
        })?;
        let is_script = matches!(step.script, LaunchScript::Shell { .. });
        let known = containers.iter().position(|container| container.image == image);
        told.container = known.unwrap_or(containers.len());
        match known.and_then(|known| containers.get_mut(known)) {
            Some(container) => container.has_shell |= is_script,
            None => containers.push(PodContainer {
                image: image.to_owned(),
                has_shell: is_script,
            }),
        }
    }
    Ok(containers)
}

impl PodPlan {
    /// Whether the program must be in place before any container of a step starts, as there is no shell to wait in.
    pub fn wants_install(&self) -> bool {
        self.containers.iter().any(|container| !container.has_shell)
    }

    /// Whether it must have a volume to itself.
    pub fn wants_alone(&self) -> bool {
        let mut volumes = self.volumes.iter();
        volumes.any(|volume| volume.access == VolumeAccess::One)
    }

    /// The name of a service's container.
    pub fn service_name(name: &Name) -> String {
        format!("service-{name}")
    }
}
