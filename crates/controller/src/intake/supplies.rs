//! What attempts of a server's runs are given: the source from its mirrors, variables of the host. Secrets it has none.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use pipekeeper_backend::{KeepWorkspace, LaunchError, Orphan, SecretValue, SourceInput};
use pipekeeper_engine::RunRequest;
use pipekeeper_model::{Digest, Sha, plan::Secret};
use pipekeeper_source::{Permanence, Repository, Source, SourceError};

use super::{Patterns, Projects};
use crate::{CacheTiers, Habits, Supplies};

/// The cache tier of protected branches and tags.
const PROTECTED: &str = "protected";
/// The cache tier of every other branch.
const BRANCHES: &str = "branches";

/// Supplies from git mirrors.
pub struct GitSupplies {
    projects: Arc<Projects>,
    source: Arc<dyn Source>,
    variables: BTreeMap<String, String>,
}

impl GitSupplies {
    /// Supplies for the runs of these projects.
    pub fn new(
        projects: Arc<Projects>,
        source: Arc<dyn Source>,
        variables: BTreeMap<String, String>,
    ) -> Self {
        Self {
            projects,
            source,
            variables,
        }
    }

    fn origin<'a>(&'a self, request: &'a RunRequest) -> Result<(&'a Repository, &'a Sha), LaunchError> {
        let project = self
            .projects
            .get(&request.project)
            .ok_or_else(|| LaunchError::Terminal {
                reason: format!("the project `{}` is not configured any more", request.project),
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
        Ok((&project.repository, sha))
    }
}

#[async_trait]
impl Supplies for GitSupplies {
    async fn source(&self, request: &RunRequest) -> Result<SourceInput, LaunchError> {
        let (repository, sha) = self.origin(request)?;
        self.source
            .archive(repository, sha)
            .await
            .map(SourceInput::Archive)
            .map_err(failed)
    }

    async fn digest_files(&self, request: &RunRequest, globs: &[String]) -> Result<Digest, LaunchError> {
        let (repository, sha) = self.origin(request)?;
        let wanted = Patterns::new(globs);
        let ids = self.source.content_ids(repository, sha).await.map_err(failed)?;
        let lines: String = ids
            .iter()
            .filter(|(path, _)| wanted.admit(path))
            .map(|(path, id)| format!("{id} {path}\n"))
            .collect();
        Ok(Digest::of(lines.as_bytes()))
    }

    async fn secrets(
        &self,
        _request: &RunRequest,
        wanted: &[Secret],
    ) -> Result<Vec<SecretValue>, LaunchError> {
        match wanted.first() {
            None => Ok(Vec::new()),
            Some(secret) => {
                let reason = format!("this server has no secret `{}`", secret.name);
                Err(LaunchError::Terminal { reason })
            }
        }
    }

    fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    fn cache_tiers(&self, request: &RunRequest) -> CacheTiers {
        let git_ref = request.context.event.revision.git_ref.as_ref();
        let is_protected = self
            .projects
            .get(&request.project)
            .zip(git_ref)
            .is_some_and(|(project, git_ref)| project.protects(git_ref));
        if is_protected {
            CacheTiers {
                writes: PROTECTED,
                reads: vec![PROTECTED],
            }
        } else {
            CacheTiers {
                writes: BRANCHES,
                reads: vec![BRANCHES, PROTECTED],
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

fn failed(error: SourceError) -> LaunchError {
    let reason = format!("failed to {error}");
    match error.permanence() {
        Permanence::Transient => LaunchError::Transient { reason },
        Permanence::Terminal => LaunchError::Terminal { reason },
    }
}
