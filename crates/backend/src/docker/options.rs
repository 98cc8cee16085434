//! What the owner of an engine decides.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use pipekeeper_model::plan::Resources;
use serde::{Deserialize, Serialize};

/// One engine, as its owner lets us use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerOptions {
    /// Where it listens: `unix:///var/run/docker.sock` or `tcp://host:port`; see [`find_socket`].
    pub socket: String,
    /// What tells our containers from those of another server on the same engine: a few letters or digits.
    pub instance: String,
    /// The image of the supervisor's container.
    pub agent: AgentImage,
    /// The network that containers are in; none is the engine's default.
    pub network: Option<String>,
    /// What a container gets whose action says nothing about resources.
    pub default_resources: Resources,
    /// How long an attempt may wait for what.
    pub patience: Patience,
}

/// Where the image with the supervisor comes from; it must be of this very version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentImage {
    /// It is made of this static program and given to the engine.
    Program(PathBuf),
    /// It is pulled.
    Named(String),
}

/// How long an attempt may wait for what, before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For an image that is being pulled.
    pub pulling: Duration,
    /// For an image that the registry has but does not deliver.
    pub pull: Duration,
    /// For an image that the registry does not have, or not for us.
    pub missing_image: Duration,
    /// For a container that cannot be made or started.
    pub start: Duration,
    /// For a service to be ready.
    pub service: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            pulling: Duration::from_secs(30 * 60),
            pull: Duration::from_secs(5 * 60),
            missing_image: Duration::from_secs(30),
            start: Duration::from_secs(30),
            service: Duration::from_secs(5 * 60),
        }
    }
}

/// Where the engine of this machine listens: what `DOCKER_HOST` says, or else the first socket that is there of Docker,
/// of the user's own Podman (below `XDG_RUNTIME_DIR`) and of the machine's Podman.
pub fn find_socket(docker_host: Option<&str>, runtime_dir: Option<&Path>) -> Option<String> {
    if let Some(host) = docker_host.filter(|host| !host.is_empty()) {
        return Some(host.to_owned());
    }
    let own = runtime_dir.map(|folder| folder.join("podman/podman.sock"));
    let usual = [
        Some(PathBuf::from("/var/run/docker.sock")),
        own,
        Some(PathBuf::from("/run/podman/podman.sock")),
    ];
    let found = usual.into_iter().flatten().find(|socket| socket.exists())?;
    Some(format!("unix://{}", found.display()))
}
