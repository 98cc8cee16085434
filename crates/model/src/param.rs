//! Values of a pipeline's typed parameters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The value of one parameter of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum ParamValue {
    /// `type: bool`.
    Bool(bool),
    /// `type: int`.
    Int(i64),
    /// `type: string` and `type: enum`.
    Text(String),
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}
