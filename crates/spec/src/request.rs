//! What a plan is asked for, and why it cannot be made.

use std::collections::BTreeMap;

use pipekeeper_model::{Name, TriggerEvent};
use thiserror::Error;

/// What a run brings to its pipeline.
#[derive(Clone, Copy, Debug)]
pub struct PlanRequest<'a> {
    /// What started it.
    pub event: &'a TriggerEvent,
    /// The parameters, given as text.
    pub params: &'a BTreeMap<Name, String>,
    /// The actions wanted: these and what they need; `finally` entries only by name. None means all.
    pub selected: Option<&'a [String]>,
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
    /// A text that is fixed at plan time could not be worked out.
    #[error("work out `{path}`: {problem}")]
    BadValue {
        /// The key path.
        path: String,
        /// What is wrong.
        problem: String,
    },
}
