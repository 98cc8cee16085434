//! An attempt's values: templates filled from what the run knows. Settled nodes never change, so asking again gives the
//! same answer.

use std::collections::BTreeMap;

use pipekeeper_expr::{Expression, Fuel, Template, Value};
use pipekeeper_model::{
    AttemptId, Digest, Name, NodeId, Outcome, OutputFile, RunId,
    plan::{Body as NodeBody, Script},
};
use thiserror::Error;

use crate::{
    Run,
    run::Body,
    scope::{NodeScope, View},
    state::NodeState,
};

/// The values of one attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The variables of every step.
    pub env: BTreeMap<String, String>,
    /// The variables of every step that are paths of files.
    pub env_files: BTreeMap<String, OutputFile>,
    /// Each step's own variables and arguments.
    pub steps: Vec<ResolvedStep>,
    /// The key texts of the caches it uses, by the caches' order.
    pub cache_texts: Vec<String>,
    /// The artifacts it gets, by the order of its `use`.
    pub inputs: Vec<Digest>,
    /// The services whose conditions hold, each with its variables.
    pub services: BTreeMap<Name, BTreeMap<String, String>>,
}

/// The values of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedStep {
    /// Its variables.
    pub env: BTreeMap<String, String>,
    /// Its variables that are paths of files.
    pub env_files: BTreeMap<String, OutputFile>,
    /// The arguments of a `command:`; empty for a script.
    pub argv: Vec<String>,
}

/// An attempt's values cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// It is not an attempt of a work node of this run.
    #[error("resolve `{0}`: the run has no such attempt")]
    Unknown(AttemptId),
    /// A template has no value.
    #[error("fill in `{text}`: {reason}")]
    Template {
        /// Its text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// An artifact was never made.
    #[error("use the artifact `{artifact}` of `{node}`: that node did not make it")]
    NoArtifact {
        /// The node that should have.
        node: String,
        /// The artifact.
        artifact: String,
    },
}

/// Resolves every template of an attempt.
///
/// # Errors
/// If a template has no value, an artifact is missing, or the attempt is none of this run's.
pub fn resolve(run: &Run, attempt: AttemptId) -> Result<Resolved, ResolveError> {
    let body = run.existing().ok_or(ResolveError::Unknown(attempt))?;
    let node = body
        .request
        .plan
        .node(attempt.node)
        .ok_or(ResolveError::Unknown(attempt))?;
    let NodeBody::Work(work) = &node.body else {
        return Err(ResolveError::Unknown(attempt));
    };
    let view = Existing { run: run.id, body };
    let scope = NodeScope { view: &view, node };
    let fill = |text: &String| fill(&scope, text);
    let fill_all = |map: &BTreeMap<String, String>| -> Result<BTreeMap<_, _>, _> {
        map.iter()
            .map(|(key, text)| Ok((key.clone(), fill(text)?)))
            .collect()
    };
    let steps = work.steps.iter().map(|step| {
        let argv = match &step.script {
            Script::Command { argv } => argv.iter().map(fill).collect::<Result<_, _>>()?,
            Script::Shell { .. } | Script::Build(_) => Vec::new(),
        };
        let (env, env_files) = fill_env(&scope, &step.env)?;
        Ok(ResolvedStep { env, env_files, argv })
    });
    let cache_texts = work.caches.iter().map(|name| {
        let text = body
            .request
            .plan
            .caches
            .get(name)
            .and_then(|cache| cache.key.text.as_ref());
        text.map_or_else(|| Ok(String::new()), fill)
    });
    let inputs = work.uses.iter().map(|used| {
        let ended = run.node(used.from).and_then(NodeState::ended);
        let made = ended.and_then(|ended| ended.artifacts().find(|made| made.name == used.artifact));
        let digest = made.map(|made| made.digest.clone());
        digest.ok_or_else(|| ResolveError::NoArtifact {
            node: body
                .request
                .plan
                .node(used.from)
                .map(|node| node.name.clone())
                .unwrap_or_default(),
            artifact: used.artifact.to_string(),
        })
    });
    let services = work.services.iter().filter_map(|(name, service)| {
        match holds(&scope, service.condition.as_deref()) {
            Ok(true) => Some(fill_all(&service.env).map(|env| (name.clone(), env))),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    });
    let (env, env_files) = fill_env(&scope, &work.env)?;
    Ok(Resolved {
        env,
        env_files,
        steps: steps.collect::<Result<_, _>>()?,
        cache_texts: cache_texts.collect::<Result<_, _>>()?,
        inputs: inputs.collect::<Result<_, _>>()?,
        services: services.collect::<Result<_, _>>()?,
    })
}

/// Whether a condition holds; one that is not there does.
fn holds(scope: &NodeScope<'_, Existing<'_>>, condition: Option<&str>) -> Result<bool, ResolveError> {
    let Some(text) = condition else {
        return Ok(true);
    };
    let error = |reason: String| ResolveError::Template {
        text: text.to_owned(),
        reason,
    };
    let expression = Expression::parse(text).map_err(|problem| error(problem.to_string()))?;
    match expression.evaluate(scope, &mut Fuel::default()) {
        Ok(Value::Bool(holds)) => Ok(holds),
        Ok(other) => Err(error(format!("it is {} and not a bool", other.type_name()))),
        Err(problem) => Err(error(problem.to_string())),
    }
}

type Env = (BTreeMap<String, String>, BTreeMap<String, OutputFile>);

/// The variables of steps: those that are nothing but an output which is a file become that file's path.
fn fill_env(
    scope: &NodeScope<'_, Existing<'_>>,
    env: &BTreeMap<String, String>,
) -> Result<Env, ResolveError> {
    let (mut texts, mut files) = Env::default();
    for (name, text) in env {
        match file_of(scope, text) {
            Some(file) => drop(files.insert(name.clone(), file)),
            None => drop(texts.insert(name.clone(), fill(scope, text)?)),
        }
    }
    Ok((texts, files))
}

/// The file that a text is nothing but the name of; what cannot be parsed is told by [`fill`].
fn file_of(scope: &NodeScope<'_, Existing<'_>>, text: &str) -> Option<OutputFile> {
    if !text.contains("${{") {
        return None;
    }
    scope.output_file(&Template::parse(text).ok()?.path()?)
}

fn fill(scope: &NodeScope<'_, Existing<'_>>, text: &str) -> Result<String, ResolveError> {
    if !text.contains("${{") {
        return Ok(text.to_owned());
    }
    let error = |reason: String| ResolveError::Template {
        text: text.to_owned(),
        reason,
    };
    let template = Template::parse(text).map_err(|problem| error(problem.to_string()))?;
    let value = template
        .evaluate(scope, &mut Fuel::default())
        .map_err(|problem| error(problem.to_string()))?;
    Ok(value.to_string())
}

/// An existing run as expressions see it.
struct Existing<'a> {
    run: RunId,
    body: &'a Body,
}

impl View for Existing<'_> {
    fn run(&self) -> RunId {
        self.run
    }

    fn body(&self) -> &Body {
        self.body
    }

    fn node_state(&self, node: NodeId) -> Option<&NodeState> {
        self.body.nodes.get(node.index())
    }

    fn outcome_so_far(&self) -> Outcome {
        self.body.outcome_so_far()
    }
}
