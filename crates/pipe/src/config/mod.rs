//! The server's configuration: one file, every key also from the environment, flags over both. Read once, at start.
//!
//! Precedence: flag > environment > file > default. Unknown keys are errors with their place.

mod clusters;
mod database;
mod kept;
mod lending;
mod object_store;
mod oidc;
mod overlay;
mod raw;
mod retention;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use pipekeeper_backend::{Tier, usual_attempts};
use pipekeeper_controller::{Patterns, Project, Retention, caches::CacheQuota};
use pipekeeper_forge::HookSecret;
use pipekeeper_model::{Bytes, Name};
use pipekeeper_server::{Exposure, OidcOptions, TlsFiles};
use pipekeeper_source::{PlainHttp, Repository, RepositoryUrl};
use serde::Deserialize;

use self::raw::{Raw, RawCaches, RawProject, RawSecret, RawTier, RawTls};
pub(crate) use self::{
    clusters::{Access, ClusterConfig, Origin},
    database::{Database, postgres},
    kept::{Values, docker_config, reason},
    lending::{GitLogin, Lending, Loan, RegistryLogin},
};
use crate::{
    failure::{Failure, OrFail},
    folders, term,
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

/// A project and the secret of its webhooks.
#[derive(Clone, Debug)]
pub(crate) struct ProjectConfig {
    /// The project.
    pub(crate) project: Project,
    /// The secret of its webhooks, or why it cannot be had.
    pub(crate) secret: Result<HookSecret, String>,
    /// Where its actions run.
    pub(crate) place: PlaceConfig,
    /// The secrets of its actions.
    pub(crate) secrets: BTreeMap<String, FileSecret>,
}

/// Where the actions of a project run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PlaceConfig {
    /// Processes of this machine.
    Local,
    /// Pods of this cluster.
    Cluster(Name),
}

/// A secret in a file of the server's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSecret {
    /// The file; a line end after its last line is no part of the value.
    pub(crate) file: PathBuf,
    /// The tiers whose runs get it.
    pub(crate) tiers: BTreeSet<Tier>,
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

fn projects(
    all: BTreeMap<String, RawProject>,
    clusters: &[ClusterConfig],
) -> Result<Vec<ProjectConfig>, Failure> {
    all.into_iter()
        .map(|(name, raw)| project(&name, raw, clusters, Hook::Written))
        .collect()
}

/// Where the secret of a project's webhooks is.
enum Hook {
    /// In its table.
    Written,
    /// Elsewhere: it, or why it cannot be had.
    Elsewhere(Result<String, String>),
}

fn project(
    text: &str,
    raw: RawProject,
    clusters: &[ClusterConfig],
    hook: Hook,
) -> Result<ProjectConfig, Failure> {
    let wrong = |what: String| Failure::usage(format!("the project `{text}` {what}"));
    let name: Name = text
        .parse()
        .map_err(|error| Failure::usage(format!("failed to {error}")))?;
    let forge = raw.forge.ok_or_else(|| {
        wrong("has no `forge`".to_owned()).hint("write `forge = \"gitea\"` or `\"github\"`")
    })?;
    let address = raw.repository.as_deref().ok_or_else(|| {
        wrong("has no `repository`".to_owned()).hint("write its https or ssh address, or an absolute path")
    })?;
    let place = match raw.backend.as_deref() {
        None | Some("local") => PlaceConfig::Local,
        Some(cluster) => {
            let known = clusters
                .iter()
                .find(|known| known.options.name.as_str() == cluster);
            let name = known.map(|known| known.options.name.clone()).ok_or_else(|| {
                wrong(format!(
                    "has the backend `{cluster}`, and there is no such cluster"
                ))
                .hint(format!("write `local`, or add a table `[clusters.{cluster}]`"))
            })?;
            PlaceConfig::Cluster(name)
        }
    };
    if place == PlaceConfig::Local && !raw.trusted {
        return Err(wrong("is not trusted to run on this machine".to_owned())
            .hint("the local backend runs its code as this user: write `trusted = true` if you want that"));
    }
    let plain = if raw.plain_http {
        PlainHttp::Allowed
    } else {
        PlainHttp::Refused
    };
    let url = if address.starts_with('/') {
        RepositoryUrl::from_path(address)
    } else {
        RepositoryUrl::parse(address, plain)
    }
    .map_err(|error| wrong(format!("has a wrong `repository`: failed to {error}")))?;
    let secret = match hook {
        Hook::Written => {
            let secret = secret(raw.hook_secret, raw.hook_secret_file).map_err(|failure| Failure {
                message: format!("the project `{text}` {}", failure.message),
                ..failure
            })?;
            Ok(secret)
        }
        Hook::Elsewhere(value) => value.and_then(|value| {
            let secret = HookSecret::new(&value);
            secret.map_err(|error| format!("its `hook_secret` is wrong: failed to {error}"))
        }),
    };
    let default_branch = raw.default_branch.unwrap_or_else(|| "main".to_owned());
    let protected = raw
        .protected_branches
        .unwrap_or_else(|| vec![default_branch.clone()]);
    Ok(ProjectConfig {
        project: Project {
            repository: Repository {
                name: name.clone(),
                url,
            },
            name,
            forge,
            // In a pod it is kept apart from this machine.
            trusted: raw.trusted || place != PlaceConfig::Local,
            default_branch,
            protected_branches: Patterns::new(&protected),
            protected_tags: Patterns::new(&raw.protected_tags.unwrap_or_default()),
        },
        secret,
        place,
        secrets: raw
            .secrets
            .into_iter()
            .map(|(name, secret)| file_secret(text, name, secret))
            .collect::<Result<_, _>>()?,
    })
}

fn file_secret(project: &str, name: String, raw: RawSecret) -> Result<(String, FileSecret), Failure> {
    if let Err(error) = fs::metadata(&raw.file) {
        let file = raw.file.display();
        return Err(Failure::usage(format!(
            "the secret `{name}` of the project `{project}` is in `{file}`, which cannot be read: {error}"
        )));
    }
    let tiers = raw.tiers.unwrap_or_else(|| vec![RawTier::Protected]);
    let tiers = tiers.into_iter().map(|tier| match tier {
        RawTier::Protected => Tier::Protected,
        RawTier::Branches => Tier::Branches,
    });
    let secret = FileSecret {
        file: raw.file,
        tiers: tiers.collect(),
    };
    Ok((name, secret))
}

/// Whoever guesses the secret can start runs.
const SHORT_SECRET: usize = 16;

fn secret(text: Option<String>, file: Option<PathBuf>) -> Result<HookSecret, Failure> {
    let text = match (text, file) {
        (Some(_), Some(_)) => {
            return Err(
                Failure::usage("has both `hook_secret` and `hook_secret_file`").hint("keep one of them")
            );
        }
        (Some(text), None) => text,
        (None, Some(file)) => fs::read_to_string(&file)
            .map_err(|error| {
                Failure::usage(format!(
                    "has a `hook_secret_file` that cannot be read: `{}`: {error}",
                    file.display()
                ))
            })?
            .trim_end_matches(['\n', '\r'])
            .to_owned(),
        (None, None) => {
            return Err(Failure::usage("has no `hook_secret`")
                .hint("write `hook_secret` or `hook_secret_file`, and the same secret at the forge"));
        }
    };
    if text.starts_with("replace-me") {
        return Err(Failure::usage("still has the `hook_secret` of the example")
            .hint("draw one, for example with `openssl rand -hex 20`, and set the same at the forge"));
    }
    if text.len() < SHORT_SECRET {
        term::note(format_args!(
            "warning: a `hook_secret` of fewer than {SHORT_SECRET} characters can be guessed"
        ));
    }
    HookSecret::new(&text)
        .map_err(|error| Failure::usage(format!("has a wrong `hook_secret`: failed to {error}")))
}

/// What `url`, `behind_proxy` and `[tls]` say together.
fn exposure(url: Option<&str>, is_behind_proxy: bool, tls: Option<RawTls>) -> Result<Exposure, Failure> {
    const HINT: &str =
        "write it like `url = \"https://ci.example.org\"`, with `behind_proxy = true` or a table `[tls]`";
    if is_behind_proxy && tls.is_some() {
        let text = "`behind_proxy` and `[tls]` are both set: either a proxy speaks TLS or the server itself";
        return Err(Failure::usage(text).hint("keep one of them"));
    }
    let Some(url) = url else {
        if is_behind_proxy || tls.is_some() {
            let what = if is_behind_proxy {
                "`behind_proxy`"
            } else {
                "`[tls]`"
            };
            let text =
                format!("{what} is set, and `url` is not: browsers are answered under that name alone");
            return Err(Failure::usage(text).hint(HINT));
        }
        return Ok(Exposure::Loopback);
    };
    if !is_behind_proxy && tls.is_none() {
        let text = "`url` is set, and neither `behind_proxy` nor `[tls]` is: there is no TLS";
        return Err(Failure::usage(text).hint(HINT));
    }
    let host = https_host(url).ok_or_else(|| {
        Failure::usage(format!(
            "`url` is `{url}`, which is no `https://` address of a host"
        ))
        .hint(HINT)
    })?;
    Ok(match tls {
        None => Exposure::Proxied { host },
        Some(tls) => Exposure::Tls {
            host,
            files: TlsFiles {
                certificate: tls.certificate,
                key: tls.key,
            },
        },
    })
}

/// The host, with its port if it is another than 443, of an address that is nothing but a host.
fn https_host(url: &str) -> Option<String> {
    let host = url.strip_prefix("https://")?.trim_end_matches('/');
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let is_host = !host.is_empty() && host.chars().all(is_part);
    // No browser names the port that it means anyway.
    is_host.then(|| host.strip_suffix(":443").unwrap_or(host).to_owned())
}

/// The host that serves artifacts. Browsers send cookies to every port of a name, so it has to be another name.
fn artifact_host(url: Option<&str>, exposure: &Exposure) -> Result<Option<String>, Failure> {
    const HINT: &str = "write it like `artifacts_url = \"https://ci-artifacts.example.org\"`";
    let Some(url) = url else { return Ok(None) };
    let own = match exposure {
        Exposure::Loopback => {
            let text = "`artifacts_url` is set, and `url` is not: this machine alone reaches the server";
            return Err(Failure::usage(text).hint("leave it out, or set `url`"));
        }
        Exposure::Proxied { host } | Exposure::Tls { host, .. } => host,
    };
    let host = https_host(url).ok_or_else(|| {
        let text = format!("`artifacts_url` is `{url}`, which is no `https://` address of a host");
        Failure::usage(text).hint(HINT)
    })?;
    let name = |host: &str| host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    if name(&host) == name(own) || host.starts_with('[') {
        let text = format!("`artifacts_url` is `{url}`, which is not another name than that of `url`");
        return Err(Failure::usage(text).hint(HINT));
    }
    Ok(Some(host))
}
