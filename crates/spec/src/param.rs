//! Typed parameters of a pipeline.

use pipekeeper_model::{Name, ParamValue};

/// A parameter as the file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
