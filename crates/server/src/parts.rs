//! What a server is made of; `pipe` puts it together.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pipekeeper_controller::{Clock, Handle, Layout, caches::CacheQuota};
use pipekeeper_forge::{ForgeKind, HookSecret};
use pipekeeper_model::{Millis, Name, Sha};
use pipekeeper_store::{Registry, Store};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::AccessToken;

/// Everything that a server works with.
pub struct ServerParts {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// People, their sessions, documents, the audit log.
    pub registry: Arc<dyn Registry>,
    /// The running controller.
    pub handle: Handle,
    /// Where logs and artifacts are.
    pub layout: Layout,
    /// The projects that webhooks may come for.
    pub projects: Arc<dyn Projects>,
    /// Where working trees that people send are kept.
    pub trees: Arc<dyn Trees>,
    /// The token of the server's owner, who may do everything.
    pub admin_token: AccessToken,
    /// From where it can be reached.
    pub exposure: Exposure,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How much archive caches may take.
    pub cache_quota: CacheQuota,
    /// How much of everything.
    pub limits: Limits,
    /// The version shown to people.
    pub version: &'static str,
}

/// From where a server can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// From this machine alone. Until there are people, everybody on it may look.
    Loopback,
    /// From elsewhere, through a proxy that speaks TLS to browsers.
    Proxied {
        /// The host, with its port if it is another than 443, in the address that people use.
        host: String,
    },
}

/// The projects that this server knows.
pub trait Projects: Send + Sync {
    /// The project of a webhook address; the comparison must take the same time for every token.
    fn by_token(&self, token: &str) -> Option<HookProject>;

    /// The names of all projects.
    fn names(&self) -> Vec<Name>;
}

/// Working trees that people send, to make runs of them.
#[async_trait]
pub trait Trees: Send + Sync {
    /// Where archives are received.
    fn folder(&self) -> PathBuf;

    /// Keeps the tree in a `.tar.zst` archive, which strangers may have made; its id.
    ///
    /// # Errors
    /// If the archive is not one that can be unpacked safely, or nothing can be kept now.
    async fn keep(&self, project: &Name, archive: &Path, subject: &str) -> Result<Sha, TreeError>;
}

/// A working tree was not kept.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TreeError {
    /// The archive is at fault.
    #[error("{reason}")]
    Unusable {
        /// What is wrong with it.
        reason: String,
    },
    /// This side is.
    #[error("{reason}")]
    Unavailable {
        /// What failed.
        reason: String,
    },
}

/// A project as its webhooks see it.
#[derive(Clone, Debug)]
pub struct HookProject {
    /// Its name.
    pub name: Name,
    /// The kind of its forge.
    pub forge: ForgeKind,
    /// The secret that signs its deliveries.
    pub secret: HookSecret,
}

/// Projects known at start.
#[derive(Clone)]
pub struct FixedProjects {
    entries: Vec<([u8; 32], HookProject)>,
}

impl FixedProjects {
    /// Projects with the tokens of their webhook addresses.
    pub fn new<T: AsRef<str>>(projects: impl IntoIterator<Item = (T, HookProject)>) -> Self {
        let entries = projects
            .into_iter()
            .map(|(token, project)| (hashed(token.as_ref()), project))
            .collect();
        Self { entries }
    }
}

impl fmt::Debug for FixedProjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Projects for FixedProjects {
    fn by_token(&self, token: &str) -> Option<HookProject> {
        let wanted = hashed(token);
        let mut found = u32::MAX;
        for (at, (known, _)) in (0_u32..).zip(&self.entries) {
            found = u32::conditional_select(&found, &at, known.ct_eq(&wanted));
        }
        let (_, project) = self.entries.get(usize::try_from(found).ok()?)?;
        Some(project.clone())
    }

    fn names(&self) -> Vec<Name> {
        self.entries
            .iter()
            .map(|(_, project)| project.name.clone())
            .collect()
    }
}

/// How much of everything a server takes before it knows who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long a body, or the reader of an answer, may be silent.
    pub idle_timeout: Duration,
    /// How long a whole body may take.
    pub body_timeout: Duration,
    /// Bytes of a webhook's body.
    pub hook_body: usize,
    /// Webhooks handled at once.
    pub hooks: usize,
    /// Webhooks with a body over 1 MiB handled at once.
    pub large_hooks: usize,
    /// Bytes of any other body.
    pub api_body: usize,
    /// Bytes of a working tree's archive.
    pub tree_body: usize,
    /// How long a working tree may take to arrive.
    pub tree_timeout: Duration,
    /// Working trees that arrive at once.
    pub trees: usize,
    /// Live streams.
    pub live_streams: usize,
    /// Terminals of people who look into actions, each with a pod of its own.
    pub terminals: usize,
    /// How long such a terminal may be open.
    pub terminal_time: Millis,
    /// How long open requests may take after the shutdown began.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            hook_body: 25 * 1024 * 1024,
            hooks: 64,
            large_hooks: 8,
            api_body: 1024 * 1024,
            tree_body: 256 * 1024 * 1024,
            tree_timeout: Duration::from_mins(10),
            trees: 4,
            live_streams: 256,
            terminals: 8,
            terminal_time: Millis::hours(1),
            drain: Duration::from_secs(5),
        }
    }
}

fn hashed(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::{FixedProjects, HookProject, Projects};
    use pipekeeper_forge::{ForgeKind, HookSecret};

    fn project(name: &str) -> HookProject {
        HookProject {
            name: name.parse().unwrap(),
            forge: ForgeKind::Gitea,
            secret: HookSecret::new("s").unwrap(),
        }
    }

    #[test]
    fn tokens_find_their_project_only() {
        let projects = FixedProjects::new([("one", project("a")), ("two", project("b"))]);
        assert_eq!(projects.by_token("two").unwrap().name.as_str(), "b");
        assert_eq!(projects.by_token("one").unwrap().name.as_str(), "a");
        assert!(projects.by_token("").is_none());
        assert!(projects.by_token("tw").is_none());
        assert!(!format!("{projects:?}").contains("two"));
    }
}
