//! Documents as parts of a configuration: a Project becomes what a table `[projects.NAME]` does, by the same checks.

use std::collections::BTreeMap;

use pipekeeper_forge::ForgeKind;
use pipekeeper_model::Name;
use pipekeeper_server::Unusable;
use pipekeeper_spec::document::{Body, Document, Forge, ForgeType, Kind, Project, ValueSource};

use super::{Config, Hook, ProjectConfig, clusters, project, raw::RawProject};
use crate::failure::Failure;

/// What is known of the values that documents name.
pub(crate) trait Values {
    /// The value, or why it cannot be had; none where it does not matter what it is.
    fn value(&self, source: &ValueSource) -> Option<Result<String, String>>;
}

impl Config {
    /// What these documents add to it, and what of them cannot be used. What the file says goes first.
    pub(crate) fn kept(
        &self,
        documents: &[Document],
        values: &dyn Values,
    ) -> (Vec<ProjectConfig>, Vec<Unusable>) {
        let of_kind = |document: &&Document| document.kind() == Kind::Forge;
        let forges: BTreeMap<&Name, &Forge> = documents.iter().filter(of_kind).filter_map(forge).collect();
        let mut all = self.projects.clone();
        let mut unusable = Vec::new();
        for document in documents {
            let Body::Project(body) = &document.body else {
                continue;
            };
            let mut cannot = |reason| {
                unusable.push(Unusable {
                    kind: Kind::Project,
                    name: document.name.clone(),
                    reason,
                });
            };
            if let Some(Err(reason)) = token(body, &forges, values) {
                cannot(format!("its repository is fetched without a token: {reason}"));
            }
            match self.project(&document.name, (body.as_ref(), &forges), (&all, values)) {
                Ok(project) => all.push(project),
                Err(failure) => cannot(reason(failure)),
            }
        }
        (all.split_off(self.projects.len()), unusable)
    }

    fn project(
        &self,
        name: &Name,
        (body, forges): (&Project, &BTreeMap<&Name, &Forge>),
        (others, values): (&[ProjectConfig], &dyn Values),
    ) -> Result<ProjectConfig, Failure> {
        if others.iter().any(|other| other.project.name == *name) {
            return Err(Failure::usage("one of this name is in the configuration file"));
        }
        let missing = || Failure::usage(format!("there is no Forge `{}`", body.forge));
        let forge = forges.get(&body.forge).copied().ok_or_else(missing)?;
        let hook = match &body.hook_secret {
            None => Err(
                "it has no `hook_secret`; hint: name a Secret there, and set the same at the forge"
                    .to_owned(),
            ),
            // Nobody asks for it where it does not matter.
            Some(source) => values.value(source).unwrap_or(Ok("of no matter".to_owned())),
        };
        let raw = RawProject {
            forge: Some(kind(&body.forge, forge.forge_type)?),
            repository: Some(address(body, forge, values)?),
            plain_http: forge.insecure,
            trusted: body.trusted,
            backend: body.cluster.as_ref().map(ToString::to_string),
            default_branch: Some(body.default_branch.clone()),
            protected_branches: body.protected.branches.clone().map(Into::into),
            protected_tags: body.protected.tags.clone().map(Into::into),
            ..RawProject::default()
        };
        let made = project(name.as_str(), raw, &self.clusters, Hook::Elsewhere(hook))?;
        let together: Vec<ProjectConfig> = others.iter().chain([&made]).cloned().collect();
        clusters::check_namespaces(&self.clusters, &together)?;
        Ok(made)
    }
}

fn forge(document: &Document) -> Option<(&Name, &Forge)> {
    let Body::Forge(forge) = &document.body else {
        return None;
    };
    Some((&document.name, forge.as_ref()))
}

fn kind(name: &Name, forge: ForgeType) -> Result<ForgeKind, Failure> {
    match forge {
        ForgeType::Github => Ok(ForgeKind::GitHub),
        ForgeType::Gitea => Ok(ForgeKind::Gitea),
        ForgeType::Gitlab
        | ForgeType::Forgejo
        | ForgeType::Gogs
        | ForgeType::Bitbucket
        | ForgeType::BitbucketDataCenter
        | ForgeType::Generic => Err(Failure::usage(format!(
            "the Forge `{name}` is of a type whose webhooks this server does not understand yet"
        ))
        .hint("there are `github` and `gitea`")),
    }
}

/// Where the repository is fetched from. The forge's token goes to the forge alone.
fn address(project: &Project, forge: &Forge, values: &dyn Values) -> Result<String, Failure> {
    let repository = &project.repository;
    if repository.starts_with('/') || repository.contains("://") {
        return Ok(repository.clone());
    }
    let base = forge.url.as_deref().or(forge.forge_type.public_url());
    let base = base.ok_or_else(|| {
        Failure::usage(format!(
            "`{repository}` is no whole address, and the Forge `{}` has none",
            project.forge
        ))
    })?;
    let whole = format!("{}/{repository}", base.trim_end_matches('/'));
    // Without it the project stays, and what runs goes on.
    let token = forge.token.as_ref().and_then(|token| values.value(token)?.ok());
    match (token, whole.split_once("://")) {
        (Some(token), Some((scheme, rest))) => Ok(format!("{scheme}://x-access-token:{token}@{rest}")),
        (Some(_) | None, _) => Ok(whole),
    }
}

/// The token of a project's forge, if it has one and it is asked for.
fn token(
    project: &Project,
    forges: &BTreeMap<&Name, &Forge>,
    values: &dyn Values,
) -> Option<Result<String, String>> {
    values.value(forges.get(&project.forge)?.token.as_ref()?)
}

fn reason(failure: Failure) -> String {
    match failure.hint {
        Some(hint) => format!("{}; hint: {hint}", failure.message),
        None => failure.message,
    }
}
