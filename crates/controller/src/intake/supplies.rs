//! What attempts of a server's runs are given: the source from its mirrors, its projects' secrets.

use std::sync::Arc;

use async_trait::async_trait;
use pipekeeper_backend::{KeepWorkspace, LaunchError, Orphan, SecretValue, SourceInput, Tier};
use pipekeeper_engine::{Origin, RunRequest};
use pipekeeper_model::{Digest, GitRef, Name, Sha, plan::Work};
use pipekeeper_source::{Permanence, Repository, Source, SourceError};

use super::{Patterns, Projects};
use crate::{CacheTiers, Habits, Lender, SecretAsking, SecretSource, Supplies};

/// Supplies from git mirrors.
pub struct GitSupplies {
    projects: Arc<Projects>,
    source: Arc<dyn Source>,
    trees: Arc<dyn Source>,
    secrets: Arc<dyn SecretSource>,
    lender: Arc<dyn Lender>,
}

impl GitSupplies {
    /// Supplies for the runs of these projects, from their mirrors and from the working trees that people sent.
    pub fn new(
        projects: Arc<Projects>,
        (source, trees): (Arc<dyn Source>, Arc<dyn Source>),
        (secrets, lender): (Arc<dyn SecretSource>, Arc<dyn Lender>),
    ) -> Self {
        Self {
            projects,
            source,
            trees,
            secrets,
            lender,
        }
    }

    /// Who asks for secrets and rights.
    fn asking<'a>(&self, request: &'a RunRequest, work: &'a Work) -> SecretAsking<'a> {
        let rules = &request.plan.environments;
        let rule = work.environment.as_ref().and_then(|name| rules.get(name));
        SecretAsking {
            project: &request.project,
            tier: self.cache_tiers(request).writes,
            event: request.context.event.kind,
            environment: work.environment.as_ref(),
            namespace: rule.and_then(|rule| rule.namespace.as_deref()),
            cluster: work.cluster.as_ref(),
            images: work.steps.iter().map(|step| step.image.as_deref()).collect(),
        }
    }

    fn origin<'a>(
        &'a self,
        request: &'a RunRequest,
    ) -> Result<(&'a dyn Source, &'a Repository, &'a Sha), LaunchError> {
        let project = self
            .projects
            .get(&request.project)
            .ok_or_else(|| LaunchError::Transient {
                reason: format!("the project `{}` is not known here", request.project),
            })?;
        let sha = request
            .context
            .event
            .revision
            .sha
            .as_ref()
            .ok_or_else(|| LaunchError::Terminal {
                reason: "the run has no commit".to_owned(),
            })?;
        let source = match request.origin {
            Origin::Repository => &self.source,
            Origin::WorkingTree { .. } => &self.trees,
        };
        Ok((source.as_ref(), &project.repository, sha))
    }
}

#[async_trait]
impl Supplies for GitSupplies {
    async fn source(&self, request: &RunRequest) -> Result<SourceInput, LaunchError> {
        let (source, repository, sha) = self.origin(request)?;
        source
            .archive(repository, sha)
            .await
            .map(SourceInput::Archive)
            .map_err(failed)
    }

    async fn digest_files(&self, request: &RunRequest, globs: &[String]) -> Result<Digest, LaunchError> {
        let (source, repository, sha) = self.origin(request)?;
        let wanted = Patterns::new(globs);
        let ids = source.content_ids(repository, sha).await.map_err(failed)?;
        Ok(digest_entries(ids.iter().filter(|(path, _)| wanted.admit(path))))
    }

    async fn secrets(&self, request: &RunRequest, work: &Work) -> Result<Vec<SecretValue>, LaunchError> {
        if work.secrets.is_empty() && work.credentials.is_empty() {
            return Ok(Vec::new());
        }
        let asking = self.asking(request, work);
        let mut values = self.secrets.values(&asking, &work.secrets).await?;
        values.extend(self.lender.lend(&asking, &work.credentials).await?);
        Ok(values)
    }

    async fn check_secrets(&self, request: &RunRequest, work: &Work) -> Result<(), LaunchError> {
        if work.secrets.is_empty() && work.credentials.is_empty() {
            return Ok(());
        }
        let asking = self.asking(request, work);
        drop(self.secrets.values(&asking, &work.secrets).await?);
        self.lender.check(&asking, &work.credentials).await
    }

    fn is_protected(&self, project: &Name, git_ref: Option<&GitRef>) -> bool {
        let known = self.projects.get(project).zip(git_ref);
        known.is_some_and(|(project, git_ref)| project.protects(git_ref))
    }

    fn cache_tiers(&self, request: &RunRequest) -> CacheTiers {
        if let Origin::WorkingTree { .. } = request.origin {
            return CacheTiers {
                writes: Tier::Local,
                reads: vec![Tier::Local, Tier::Branches, Tier::Protected],
            };
        }
        let git_ref = request.context.event.revision.git_ref.as_ref();
        if self.is_protected(&request.project, git_ref) {
            CacheTiers {
                writes: Tier::Protected,
                reads: vec![Tier::Protected],
            }
        } else {
            CacheTiers {
                writes: Tier::Branches,
                reads: vec![Tier::Branches, Tier::Protected],
            }
        }
    }

    fn habits(&self) -> Habits {
        Habits {
            keep_workspace: KeepWorkspace::OnFailure,
            orphan: Orphan::WorkOn,
        }
    }
}

/// One digest over files, each a path with its mode and what stands for its content; of no file, the digest of no bytes.
pub fn digest_entries<'a>(files: impl IntoIterator<Item = (&'a String, &'a String)>) -> Digest {
    // No path holds a NUL, while one may hold a line end.
    let fields: String = files
        .into_iter()
        .map(|(path, content)| format!("{content}\0{path}\0"))
        .collect();
    Digest::of(fields.as_bytes())
}

fn failed(error: SourceError) -> LaunchError {
    let reason = format!("failed to {error}");
    match error.permanence() {
        Permanence::Transient => LaunchError::Transient { reason },
        Permanence::Terminal => LaunchError::Terminal { reason },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pipekeeper_model::Digest;

    use super::digest_entries;

    fn digest(files: &[(&str, &str)]) -> Digest {
        let files: BTreeMap<String, String> = files
            .iter()
            .map(|&(path, content)| (path.to_owned(), content.to_owned()))
            .collect();
        digest_entries(&files)
    }

    #[test]
    fn no_two_lists_of_files_share_a_digest() {
        assert_eq!(digest(&[]), Digest::of(b""));
        let two = digest(&[("a", "100644 1"), ("b", "100644 2")]);
        assert_ne!(digest(&[("a\n100644 2 b", "100644 1")]), two);
        assert_ne!(digest(&[("a", "100755 1"), ("b", "100644 2")]), two);
    }
}
