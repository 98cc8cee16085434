//! The checked pipeline: the way in for everybody who has a file's text.

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{Name, Param, Plan, plan::FeatureUse};

use crate::{
    definition::Definition,
    diagnostic::{Diagnostics, Sink},
    dialect::Dialect,
    document::Environment,
    lower, outline, planning,
    request::{PlanError, PlanRequest},
    source::SourceFile,
    triggers::Triggers,
    yaml,
};

/// A pipeline file without errors.
#[derive(Clone, Debug)]
pub struct Pipeline {
    definition: Definition,
}

/// Checks a file: the pipeline and its warnings, or everything that is wrong with it.
pub fn check(file: &SourceFile<'_>) -> Result<(Pipeline, Diagnostics), Diagnostics> {
    let mut sink = Sink::new(file, Dialect::Pipeline);
    let definition = yaml::load(file, &mut sink).and_then(|root| lower::lower(file, &root, &mut sink));
    let found = sink.finish();
    match definition {
        Some(definition) if !found.has_errors() => Ok((Pipeline { definition }, found)),
        Some(_) | None => Err(found),
    }
}

impl Pipeline {
    /// Its name.
    pub fn name(&self) -> &Name {
        &self.definition.name
    }

    /// What starts it.
    pub fn triggers(&self) -> &Triggers {
        &self.definition.triggers
    }

    /// Its parameters.
    pub fn params(&self) -> &BTreeMap<Name, Param> {
        &self.definition.params
    }

    /// What the file asks of backends and of this version, by name and place.
    pub fn features(&self) -> impl Iterator<Item = &FeatureUse> {
        self.definition.features.iter().map(|feature| &feature.used)
    }

    /// What these actions themselves ask, whatever they need asks, and what the whole file asks.
    pub fn features_of(&self, actions: &BTreeSet<&Name>) -> Vec<FeatureUse> {
        planning::features_of(&self.definition, actions)
    }

    /// The names of its actions, `finally` last.
    pub fn actions(&self) -> impl Iterator<Item = &Name> {
        self.definition.actions.iter().map(|action| &action.node.action)
    }

    /// The plan of one run.
    pub fn plan(&self, request: &PlanRequest<'_>) -> Result<Plan, Vec<PlanError>> {
        planning::plan(&self.definition, request)
    }

    /// The compiled graph as an indented tree with needs and gates, also those of the environments that are known.
    pub fn graph_text(&self, environments: &BTreeMap<Name, Environment>) -> String {
        outline::outline(&self.definition, environments)
    }
}
