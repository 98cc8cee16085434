//! The server's configuration: one file, every key also from the environment, flags over both. Read once, at start.
//!
//! Precedence: flag > environment > file > default. Unknown keys are errors with their place.

mod clusters;
mod database;
mod exposure;
mod kept;
mod lending;
mod object_store;
mod oidc;
mod overlay;
mod projects;
mod raw;
mod retention;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use pipekeeper_backend::usual_attempts;
use pipekeeper_controller::{Retention, caches::CacheQuota};
use pipekeeper_model::{Bytes, Name};
use pipekeeper_server::{Exposure, OidcOptions};
use serde::Deserialize;

pub(crate) use self::{
    clusters::{Access, ClusterConfig, Origin},
    database::{Database, postgres},
    kept::{Values, docker_config, reason},
    lending::{GitLogin, Lending, Loan, RegistryLogin},
    projects::{FileSecret, PlaceConfig, ProjectConfig},
};
use self::{
    exposure::{artifact_host, exposure},
    projects::projects,
    raw::{Raw, RawCaches},
};
use crate::{
    failure::{Failure, OrFail},
    folders,
};

/// Where the configuration is unless `--config` says otherwise.
pub(crate) const DEFAULT_FILE: &str = "/etc/pipekeeper/config.toml";
/// What one artifact may have unless the file says otherwise.
pub(crate) const ARTIFACT_LIMIT: Bytes = Bytes::gib(8);
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// The configuration of a server.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The address to listen on.
    pub(crate) listen: SocketAddr,
    /// From where it can be reached.
    pub(crate) exposure: Exposure,
    /// The host that serves artifacts and nothing else.
    pub(crate) artifact_host: Option<String>,
    /// The folder of database, mirrors, logs and artifacts.
    pub(crate) data_dir: PathBuf,
    /// The file of the keys that secrets are sealed with.
    pub(crate) master_key_file: PathBuf,
    /// Who else says who people are.
    pub(crate) oidc: Option<OidcOptions>,
    /// Where the state is.
    pub(crate) database: Database,
    /// How it logs.
    pub(crate) log: Log,
    /// How many actions may run at once as processes of this machine.
    pub(crate) local_attempts: NonZeroUsize,
    /// How large one artifact may be that comes from a pod.
    pub(crate) artifact_limit: Bytes,
    /// How much archive caches may take.
    pub(crate) caches: CacheQuota,
    /// How long ended runs are kept, and how much of them.
    pub(crate) retention: Retention,
    /// The same of the projects that say so themselves; none if that cannot be read.
    pub(crate) retention_of: Option<BTreeMap<Name, Retention>>,
    /// The folder of documents that are applied at start.
    pub(crate) kinds: Option<PathBuf>,
    /// The image with the supervisor, for clusters that name none.
    pub(crate) agent_image: Option<String>,
    /// What actions may borrow.
    pub(crate) lending: Lending,
    /// The clusters.
    pub(crate) clusters: Vec<ClusterConfig>,
    /// The projects.
    pub(crate) projects: Vec<ProjectConfig>,
}

/// How the server logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    /// The form of a line.
    pub(crate) format: LogFormat,
    /// What is logged: a level, or a filter such as `info,pipekeeper_source=debug`.
    pub(crate) level: Option<String>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// What flags say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// `--listen`.
    pub(crate) listen: Option<String>,
    /// `--data-dir`.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Flags {
    /// What commands without these flags go by.
    pub(crate) fn from_environment() -> Self {
        Self {
            file: env::var_os("PIPE_CONFIG").map(PathBuf::from),
            ..Self::default()
        }
    }
}

/// Reads the configuration.
pub(crate) fn load(flags: &Flags) -> Result<Config, Failure> {
    read(flags, env::vars())?.finish()
}

/// The same of a text.
#[cfg(test)]
pub(crate) fn of_text(text: &str) -> Config {
    let raw = raw::parse("config.toml", text).unwrap_or_else(|failure| panic!("{failure}"));
    raw.finish().unwrap_or_else(|failure| panic!("{failure}"))
}

/// Where a server with this configuration listens, for commands that ask it.
pub(crate) fn listen(flags: &Flags) -> Result<String, Failure> {
    let raw = read(flags, env::vars())?;
    Ok(raw.listen.unwrap_or_else(|| DEFAULT_LISTEN.to_owned()))
}

/// The data folder alone, for commands that need nothing else.
pub(crate) fn data_dir(flags: &Flags) -> Result<PathBuf, Failure> {
    read(flags, env::vars())?.data_dir()
}

/// Data folder and database, for commands that need nothing else.
pub(crate) fn database(flags: &Flags) -> Result<(PathBuf, Database), Failure> {
    let raw = read(flags, env::vars())?;
    Ok((raw.data_dir()?, raw.database()?))
}

/// How much the caches of local runs may take: the environment alone says so.
pub(crate) fn local_cache_quota() -> Result<CacheQuota, Failure> {
    let mut raw = Raw::default();
    overlay::apply(
        &mut raw,
        env::vars().filter(|(name, _)| name.starts_with("PIPE_CACHES__")),
    )?;
    cache_quota(&raw.caches)
}

fn read(flags: &Flags, vars: impl Iterator<Item = (String, String)>) -> Result<Raw, Failure> {
    let mut raw = match &flags.file {
        Some(path) => read_file(path)?,
        None if Path::new(DEFAULT_FILE).exists() => read_file(Path::new(DEFAULT_FILE))?,
        None => Raw::default(),
    };
    overlay::apply(&mut raw, vars)?;
    raw.listen = flags.listen.clone().or(raw.listen);
    raw.data_dir = flags.data_dir.clone().or(raw.data_dir);
    Ok(raw)
}

fn read_file(path: &Path) -> Result<Raw, Failure> {
    let text = fs::read_to_string(path).or_usage(format_args!("read `{}`", path.display()))?;
    raw::parse(&path.display().to_string(), &text)
}

impl Raw {
    fn data_dir(&self) -> Result<PathBuf, Failure> {
        let folder = match &self.data_dir {
            Some(folder) => folder.clone(),
            None => folders::state()?.join("server"),
        };
        std::path::absolute(&folder).or_usage(format_args!("find `{}`", folder.display()))
    }

    fn finish(self) -> Result<Config, Failure> {
        let text = self.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
        let listen = text.parse().map_err(|_| {
            Failure::usage(format!("`listen` is `{text}`, which is no address with a port"))
                .hint(format!("write it like `{DEFAULT_LISTEN}`"))
        })?;
        let data_dir = self.data_dir()?;
        let database = self.database()?;
        let artifacts_url = self.artifacts_url.as_deref();
        let exposure = exposure(self.url.as_deref(), self.behind_proxy, self.tls)?;
        let artifact_host = artifact_host(artifacts_url, &exposure)?;
        let clusters = clusters::clusters(self.clusters, self.agent_image.as_deref())?;
        let projects = projects(self.projects, &clusters)?;
        clusters::check_namespaces(&clusters, &projects)?;
        Ok(Config {
            listen,
            exposure,
            artifact_host,
            oidc: self.oidc.map(oidc::oidc).transpose()?,
            master_key_file: master_key_file(self.master_key_file, &data_dir)?,
            data_dir,
            database,
            log: Log {
                format: self.log.format.unwrap_or_default(),
                level: self.log.level,
            },
            local_attempts: self.local.attempts.unwrap_or_else(usual_attempts),
            artifact_limit: size("artifacts.max", self.artifacts.max.as_deref(), ARTIFACT_LIMIT)?,
            caches: cache_quota(&self.caches)?,
            retention: retention::retention(&self.retention)?,
            retention_of: Some(BTreeMap::new()),
            kinds: self.kinds.map(absolute).transpose()?,
            agent_image: self.agent_image,
            lending: Lending::default(),
            projects,
            clusters,
        })
    }
}

/// Beside the data folder unless the file says otherwise: whoever copies that folder has not the keys to what is in it.
fn master_key_file(named: Option<PathBuf>, data_dir: &Path) -> Result<PathBuf, Failure> {
    absolute(named.unwrap_or_else(|| data_dir.with_added_extension("master-keys")))
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).or_usage(format_args!("find `{}`", path.display()))
}

fn cache_quota(raw: &RawCaches) -> Result<CacheQuota, Failure> {
    let default = CacheQuota::default();
    Ok(CacheQuota {
        project: size("caches.project", raw.project.as_deref(), default.project)?,
        total: size("caches.total", raw.total.as_deref(), default.total)?,
    })
}

fn size(key: &str, text: Option<&str>, default: Bytes) -> Result<Bytes, Failure> {
    match text {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|error| Failure::usage(format!("`{key}`: failed to {error}"))),
    }
}
