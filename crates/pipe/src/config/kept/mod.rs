//! Documents as parts of a configuration: each becomes what a table of the file does, by the same checks.

mod cluster;
mod kubeconfig;
mod project;
mod registry;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use pipekeeper_model::Name;
use pipekeeper_server::Unusable;
use pipekeeper_spec::document::{Body, Document, Kind, ValueSource};

use super::{ClusterConfig, Config, Lending, ProjectConfig};
use crate::failure::Failure;

/// What is known of the values that documents name.
pub(crate) trait Values {
    /// The value, or why it cannot be had; none where it does not matter what it is.
    fn value(&self, source: &ValueSource) -> Option<Result<String, String>>;
}

/// What documents add to a configuration.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub(crate) clusters: Vec<ClusterConfig>,
    pub(crate) projects: Vec<ProjectConfig>,
    pub(crate) lending: Lending,
    /// What of them cannot be used, as a whole or in part.
    pub(crate) unusable: Vec<Unusable>,
}

impl Config {
    /// What these documents add to it. What the file says goes first.
    pub(crate) fn kept(&self, documents: &[Document], values: &dyn Values) -> Additions {
        let mut made = Additions::default();
        made.add_clusters(self, documents, values);
        made.add_projects(self, documents, values);
        made.add_registries(documents, values);
        made
    }

    /// Makes that a part of it.
    pub(crate) fn extend(&mut self, made: Additions) {
        self.clusters.extend(made.clusters);
        self.projects.extend(made.projects);
        self.lending = made.lending;
        for cluster in &mut self.clusters {
            cluster.options.pull_config = self.lending.pull_config.clone();
        }
    }
}

impl Additions {
    fn cannot(&mut self, kind: Kind, name: &Name, reason: String) {
        self.unusable.push(Unusable {
            kind,
            name: name.clone(),
            reason,
        });
    }
}

/// The documents of one kind.
fn of<'a, T>(
    documents: &'a [Document],
    body: impl Fn(&'a Body) -> Option<&'a T>,
) -> BTreeMap<&'a Name, &'a T> {
    let all = documents.iter();
    all.filter_map(|document| Some((&document.name, body(&document.body)?)))
        .collect()
}

pub(crate) use self::registry::docker_config;

/// A failure in one line.
pub(crate) fn reason(failure: Failure) -> String {
    match failure.hint {
        Some(hint) => format!("{}; hint: {hint}", failure.message),
        None => failure.message,
    }
}
