//! The environments that people applied, as whoever plans a run wants them. Entry: [`KeptEnvironments`].

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use pipekeeper_controller::{Environments, EnvironmentsAway};
use pipekeeper_model::Name;
use pipekeeper_spec::document::Environment;
use pipekeeper_store::Registry;

use crate::documents;

/// Those of a registry, read whenever they are asked for: what is changed there holds for the next run.
pub struct KeptEnvironments {
    registry: Arc<dyn Registry>,
}

impl KeptEnvironments {
    /// Those of a registry.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl Environments for KeptEnvironments {
    async fn of(&self, project: &Name) -> Result<BTreeMap<Name, Environment>, EnvironmentsAway> {
        let kept = documents::environments(self.registry.as_ref()).await;
        let kept = kept.map_err(|error| EnvironmentsAway {
            reason: error.detail().to_owned(),
        })?;
        let as_theirs = kept
            .into_iter()
            .map(|(name, environment)| (name, environment.of_project(project)));
        Ok(as_theirs.collect())
    }
}
