//! The projects of the configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use pipekeeper_backend::Tier;
use pipekeeper_controller::{Patterns, Project};
use pipekeeper_forge::HookSecret;
use pipekeeper_model::Name;
use pipekeeper_source::{PlainHttp, Repository, RepositoryUrl};

use super::{
    ClusterConfig,
    raw::{RawProject, RawSecret, RawTier},
};
use crate::{failure::Failure, term};

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

pub(super) fn projects(
    all: BTreeMap<String, RawProject>,
    clusters: &[ClusterConfig],
) -> Result<Vec<ProjectConfig>, Failure> {
    all.into_iter()
        .map(|(name, raw)| project(&name, raw, clusters, Hook::Written))
        .collect()
}

/// Where the secret of a project's webhooks is.
pub(super) enum Hook {
    /// In its table.
    Written,
    /// Elsewhere: it, or why it cannot be had.
    Elsewhere(Result<String, String>),
}

pub(super) fn project(
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
