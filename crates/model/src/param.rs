//! Typed parameters, of pipelines and of gates, and their values.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::Name;

/// A parameter as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// What it takes.
    pub kind: ParamKind,
    /// What it is when a run does not say; without one, every run must say.
    pub default: Option<ParamValue>,
    /// A line for people.
    pub help: Option<String>,
}

/// What a parameter takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "values", rename_all = "snake_case")]
pub enum ParamKind {
    /// Any text.
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// One of these words.
    Enum(Vec<String>),
}

impl ParamKind {
    /// What it takes, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Int => "a whole number".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Enum(values) => format!("one of `{}`", values.join("`, `")),
        }
    }

    /// Reads a value given as text; none if it does not fit.
    pub fn read(&self, text: &str) -> Option<ParamValue> {
        match self {
            Self::Text => Some(ParamValue::Text(text.to_owned())),
            Self::Int => text.parse().ok().map(ParamValue::Int),
            Self::Bool => text.parse().ok().map(ParamValue::Bool),
            Self::Enum(values) => values
                .iter()
                .any(|value| value == text)
                .then(|| ParamValue::Text(text.to_owned())),
        }
    }
}

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

/// What a system takes as one variable is little more.
pub const MAX_PARAM: usize = 64 << 10;

impl Param {
    /// The value that is meant, given as text or left out; else what is wrong, for people.
    ///
    /// # Errors
    /// If the text does not fit, or there is none and no default.
    pub fn value(&self, given: Option<&str>) -> Result<ParamValue, String> {
        let (name, wanted) = (&self.name, self.kind.describe());
        match (given, &self.default) {
            (Some(text), _) if text.contains('\0') || text.len() > MAX_PARAM => Err(format!(
                "`{name}` takes text of at most 64 KiB without NUL characters"
            )),
            (Some(text), _) => self
                .kind
                .read(text)
                .ok_or_else(|| format!("`{name}` takes {wanted}, and `{text}` is not that")),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => Err(format!("`{name}` is missing: it takes {wanted}")),
        }
    }
}

/// The values of all parameters; else everything that is wrong, for people.
///
/// # Errors
/// If one is unknown, missing or does not fit.
pub fn param_values(
    params: &BTreeMap<Name, Param>,
    given: &BTreeMap<Name, String>,
) -> Result<BTreeMap<Name, ParamValue>, String> {
    let unknown = given.keys().filter(|name| !params.contains_key(*name));
    let mut problems: Vec<String> = unknown.map(|name| format!("`{name}` is not asked for")).collect();
    let mut values = BTreeMap::new();
    for (name, param) in params {
        match param.value(given.get(name).map(String::as_str)) {
            Ok(value) => {
                values.insert(name.clone(), value);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(values)
    } else {
        Err(problems.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::ParamKind;

    #[test]
    fn values_are_read_by_type() {
        assert!(ParamKind::Int.read("12").is_some());
        assert!(ParamKind::Int.read("1.5").is_none());
        assert!(ParamKind::Bool.read("yes").is_none());
        let kind = ParamKind::Enum(vec!["debug".to_owned()]);
        assert!(kind.read("debug").is_some());
        assert!(kind.read("release").is_none());
    }
}
