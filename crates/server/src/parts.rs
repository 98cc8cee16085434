//! What a server is made of; `pipe` puts it together.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pipekeeper_controller::{Clock, Handle, Layout, caches::CacheQuota};
use pipekeeper_forge::{ForgeKind, HookSecret};
use pipekeeper_model::{Millis, Name, Sha};
use pipekeeper_spec::document::{Document, Kind};
use pipekeeper_store::{Estates, Registry, Store};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use crate::{AccessToken, Oidc, TlsFiles, Vault};

/// Everything that a server works with.
pub struct ServerParts {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// What ended runs left.
    pub estates: Arc<dyn Estates>,
    /// People, their sessions, documents, the audit log.
    pub registry: Arc<dyn Registry>,
    /// The secrets that it keeps.
    pub vault: Arc<Vault>,
    /// Who else says who people are.
    pub oidc: Option<Arc<Oidc>>,
    /// The running controller.
    pub handle: Handle,
    /// Where logs and artifacts are.
    pub layout: Layout,
    /// The projects that webhooks may come for.
    pub projects: Arc<dyn Projects>,
    /// What becomes of documents.
    pub composer: Arc<dyn Composer>,
    /// Where working trees that people send are kept.
    pub trees: Arc<dyn Trees>,
    /// The token of the server's owner, who may do everything.
    pub admin_token: AccessToken,
    /// From where it can be reached.
    pub exposure: Exposure,
    /// The host that serves artifacts and nothing else, in the address that people use; none where there is no such host.
    pub artifact_host: Option<String>,
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
    /// From elsewhere, over TLS of its own.
    Tls {
        /// The same.
        host: String,
        /// Its certificate and key.
        files: TlsFiles,
    },
}

impl Exposure {
    /// The host in the address that people use, if it is another than this machine.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Loopback => None,
            Self::Proxied { host } | Self::Tls { host, .. } => Some(host),
        }
    }
}

/// The projects that this server knows.
pub trait Projects: Send + Sync {
    /// The project of a webhook address; the comparison must take the same time for every token.
    fn by_token(&self, token: &str) -> Option<HookProject>;

    /// The names of all projects.
    fn names(&self) -> Vec<Name>;
}

/// What becomes of the documents that a server is made of: projects, forges, clusters. `pipe` knows, which puts servers together.
pub trait Composer: Send + Sync {
    /// What is known by these names though no API may change it, and where that stands.
    fn elsewhere(&self) -> BTreeMap<(Kind, Name), Elsewhere>;

    /// What of these documents could not be used, whatever their secrets are.
    fn judge(&self, documents: &[Document]) -> Vec<Unusable>;

    /// What cannot be used now.
    fn unusable(&self) -> Vec<Unusable>;

    /// Documents or the values of secrets changed.
    fn changed(&self);
}

/// Where something stands that no API may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// In a table of the configuration file.
    File,
    /// In the configuration's folder of documents.
    Folder,
}

impl Elsewhere {
    /// Why nobody else may say it.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::File => "one of this name is in the server's configuration file",
            Self::Folder => "it is in the folder `kinds` of the server's configuration",
        }
    }
}

/// A document of which the server cannot make what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unusable {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Why, and what to do.
    pub reason: String,
}

impl Unusable {
    /// A document that this release cannot read, by the name of its record: `Project/web`; none if that names nothing.
    pub fn unread(record: &str) -> Option<Self> {
        let (kind, name) = record.split_once('/')?;
        Some(Self {
            kind: kind.parse().ok()?,
            name: name.parse().ok()?,
            reason: "this release cannot read it; hint: was it applied with a newer one?".to_owned(),
        })
    }
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
    /// How its deliveries are verified, or why none can be.
    pub seal: Result<HookSeal, String>,
}

/// How deliveries are verified.
#[derive(Clone, Debug)]
pub struct HookSeal {
    /// The kind of the forge.
    pub forge: ForgeKind,
    /// The secret that signs them.
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
    use super::{FixedProjects, HookProject, HookSeal, Projects};
    use pipekeeper_forge::{ForgeKind, HookSecret};

    fn project(name: &str) -> HookProject {
        HookProject {
            name: name.parse().unwrap(),
            seal: Ok(HookSeal {
                forge: ForgeKind::Gitea,
                secret: HookSecret::new("s").unwrap(),
            }),
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
