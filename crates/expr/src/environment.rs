//! What an expression may name before it is evaluated; entry type [`Environment`].

use std::collections::BTreeMap;

use crate::types::Type;

/// The variables and functions that an expression may name.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Type>,
    changed: Changed,
}

/// Whether the place of the expression knows which files changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Changed {
    #[default]
    Unknown,
    Known,
}

impl Environment {
    /// An environment without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The environment with one variable more.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, of: Type) -> Self {
        self.variables.insert(name.into(), of);
        self
    }

    /// The environment with the function `changed("glob", ..)`.
    #[must_use]
    pub fn with_changed(mut self) -> Self {
        self.changed = Changed::Known;
        self
    }

    pub(crate) fn type_of(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    pub(crate) fn changed(&self) -> Changed {
        self.changed
    }
}
