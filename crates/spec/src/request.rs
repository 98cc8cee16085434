//! What a plan is asked for, and why it cannot be made.

use std::collections::BTreeMap;

use pipekeeper_model::{Name, TriggerEvent};
use thiserror::Error;

use crate::document::Environment;

/// What a run brings to its pipeline.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// What started it.
    pub event: &'a TriggerEvent,
    /// The parameters, given as text.
    pub params: &'a BTreeMap<Name, String>,
    /// The actions wanted: these and what they need; `finally` entries only by name. None means all.
    pub selected: Option<&'a [String]>,
    /// The environments that there are, as they are for the project. The plan keeps what they say.
    pub environments: &'a BTreeMap<Name, Environment>,
}

/// Why no plan can be made of a checked file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A parameter that the file does not declare.
    #[error("set the parameter `{name}`: the pipeline has {known}")]
    UnknownParam {
        /// The name.
        name: Name,
        /// The parameters there are.
        known: String,
    },
    /// A parameter without a default was not given.
    #[error("plan without the parameter `{name}`: it has no default; give {wanted}")]
    MissingParam {
        /// The name.
        name: Name,
        /// What it takes.
        wanted: String,
    },
    /// A parameter's value does not fit its type.
    #[error("set the parameter `{name}` to `{value}`: it takes {wanted}")]
    BadParam {
        /// The name.
        name: Name,
        /// The value given.
        value: String,
        /// What it takes.
        wanted: String,
    },
    /// No action of this name was found.
    #[error("select `{name}`: the pipeline has no such action{hint}")]
    UnknownAction {
        /// The name.
        name: String,
        /// A similar name, in words.
        hint: String,
    },
    /// An environment that there is not.
    #[error("plan `{action}` for the environment `{name}`: there is {known}")]
    UnknownEnvironment {
        /// The action that names it.
        action: Name,
        /// The environment.
        name: Name,
        /// The environments there are.
        known: String,
    },
    /// An action names another cluster than that of its environment.
    #[error(
        "run `{action}` on the cluster `{cluster}`: its environment `{environment}` is in `{own}`; remove `cluster`"
    )]
    OtherCluster {
        /// The action.
        action: Name,
        /// The cluster that it names.
        cluster: Name,
        /// Its environment.
        environment: Name,
        /// The cluster of that.
        own: Name,
    },
    /// An entry of `finally` would have to wait.
    #[error(
        "plan `{action}` for the environment `{environment}`: that has {what}, and nobody waits under `finally`"
    )]
    WaitsInFinally {
        /// The action.
        action: Name,
        /// The environment.
        environment: Name,
        /// What there is to wait for.
        what: &'static str,
    },
    /// A text that is fixed at plan time could not be worked out.
    #[error("work out `{path}`: {problem}")]
    BadValue {
        /// The key path.
        path: String,
        /// What is wrong.
        problem: String,
    },
}
