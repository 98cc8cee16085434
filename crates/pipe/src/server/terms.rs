//! How long a server keeps what its projects' runs left, as its configuration and their documents say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use pipekeeper_controller::{Retention, Terms, TermsAway};
use pipekeeper_model::{Name, RunId};
use pipekeeper_store::{RecordKind, Registry};

use crate::config::Config;

/// The same for all projects but those that say otherwise, and but for runs that somebody keeps.
pub(crate) struct ServerTerms {
    retention: Retention,
    /// None if what they say cannot be read.
    retention_of: Option<BTreeMap<Name, Retention>>,
    projects: Vec<Name>,
    registry: Arc<dyn Registry>,
}

impl ServerTerms {
    /// Those of a configuration, with the runs that are kept in this registry.
    pub(crate) fn new(config: &Config, registry: Arc<dyn Registry>) -> Self {
        Self {
            retention: config.retention,
            retention_of: config.retention_of.clone(),
            projects: (config.projects.iter())
                .map(|one| one.project.name.clone())
                .collect(),
            registry,
        }
    }
}

#[async_trait]
impl Terms for ServerTerms {
    async fn of(&self, project: &Name) -> Result<Retention, TermsAway> {
        let own = self.retention_of.as_ref().ok_or_else(|| TermsAway {
            reason: "a Project cannot be read".to_owned(),
        })?;
        Ok(own.get(project).copied().unwrap_or(self.retention))
    }

    async fn projects(&self) -> Result<Vec<Name>, TermsAway> {
        Ok(self.projects.clone())
    }

    async fn kept_runs(&self) -> Result<BTreeSet<RunId>, TermsAway> {
        let kept = self.registry.records(RecordKind::KeptRun, None).await;
        let kept = kept.map_err(|error| TermsAway {
            reason: error.to_string(),
        })?;
        let run = |name: &str| name.parse().ok().map(RunId);
        Ok(kept.iter().filter_map(|record| run(&record.name)).collect())
    }
}
