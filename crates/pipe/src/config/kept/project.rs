//! A Project becomes what a table `[projects.NAME]` does.

use std::collections::BTreeMap;

use pipekeeper_agent::protocol::SecretText;
use pipekeeper_forge::ForgeKind;
use pipekeeper_model::Name;
use pipekeeper_spec::document::{Body, Document, Forge, ForgeType, Kind, Project};

use super::{Additions, Values, of, reason};
use crate::{
    config::{
        ClusterConfig, Config, GitLogin, Loan, ProjectConfig, clusters,
        projects::{self, Hook},
        raw::RawProject,
    },
    failure::Failure,
};

type Forges<'a> = BTreeMap<&'a Name, &'a Forge>;

impl Additions {
    pub(super) fn add_projects(&mut self, config: &Config, documents: &[Document], values: &dyn Values) {
        let forges: Forges<'_> = of(documents, |body| {
            let Body::Forge(forge) = body else { return None };
            Some(forge.as_ref())
        });
        let all = of(documents, |body| {
            let Body::Project(project) = body else { return None };
            Some(project.as_ref())
        });
        let clusters: Vec<ClusterConfig> = config.clusters.iter().chain(&self.clusters).cloned().collect();
        for (name, body) in all {
            if let Some(Err(reason)) = token(body, &forges, values) {
                let reason = format!("its repository is fetched without a token: {reason}");
                self.cannot(Kind::Project, name, reason);
            }
            let others: Vec<ProjectConfig> = config.projects.iter().chain(&self.projects).cloned().collect();
            match project((name, body), (&forges, &clusters), (&others, values)) {
                Ok(project) => {
                    self.lending
                        .forges
                        .extend(loan(body, &forges, values).map(|loan| (name.clone(), loan)));
                    self.projects.push(project);
                }
                Err(failure) => self.cannot(Kind::Project, name, reason(failure)),
            }
        }
    }
}

fn project(
    (name, body): (&Name, &Project),
    (forges, clusters): (&Forges<'_>, &[ClusterConfig]),
    (others, values): (&[ProjectConfig], &dyn Values),
) -> Result<ProjectConfig, Failure> {
    if others.iter().any(|other| other.project.name == *name) {
        return Err(Failure::usage("one of this name is in the configuration file"));
    }
    let missing = || Failure::usage(format!("there is no Forge `{}`", body.forge));
    let forge = forges.get(&body.forge).copied().ok_or_else(missing)?;
    let hook = match &body.hook_secret {
        None => Err(
            "it has no `hook_secret`; hint: name a Secret there, and set the same at the forge".to_owned(),
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
    let made = projects::project(name.as_str(), raw, clusters, Hook::Elsewhere(hook))?;
    let together: Vec<ProjectConfig> = others.iter().chain([&made]).cloned().collect();
    clusters::check_namespaces(clusters, &together)?;
    Ok(made)
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
fn token(project: &Project, forges: &Forges<'_>, values: &dyn Values) -> Option<Result<String, String>> {
    values.value(forges.get(&project.forge)?.token.as_ref()?)
}

/// What its actions may borrow of its forge.
fn loan(project: &Project, forges: &Forges<'_>, values: &dyn Values) -> Option<Loan<GitLogin>> {
    let forge = forges.get(&project.forge)?;
    let token = token(project, forges, values)?;
    let base = forge.url.as_deref().or(forge.forge_type.public_url());
    let missing = || format!("the Forge `{}` has no `url`", project.forge);
    let what = token.and_then(|token| {
        Ok(GitLogin {
            base: base.ok_or_else(missing)?.trim_end_matches('/').to_owned(),
            token: SecretText::new(token),
        })
    });
    Some(Loan {
        terms: forge.lend.clone(),
        what,
    })
}
