//! Where an evaluation finds its variables; entry type [`Scope`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::value::Value;

/// The answer of a [`Scope`] about a path.
#[derive(Debug)]
pub enum Resolved<'a> {
    /// The value that stands at the path; its members are read from it.
    Value(Cow<'a, Value>),
    /// The path exists and is not built as a whole: the scope wants to be asked for its members.
    Branch,
    /// Something stands there that expressions cannot use, with the reason for people.
    Refused(String),
    /// Nothing stands there.
    Missing,
}

/// The variables of one evaluation, asked lazily.
pub trait Scope {
    /// What stands at a path such as `["branch"]` or `["actions", "build", "outcome"]`; never empty.
    ///
    /// The evaluator asks for the variable first and goes deeper only where the answer was [`Resolved::Branch`].
    fn resolve(&self, path: &[&str]) -> Resolved<'_>;

    /// Whether a changed file matches one of the globs; `None` where that is not known.
    fn changed(&self, patterns: &[String]) -> Option<bool> {
        let _ = patterns;
        None
    }
}

impl Scope for BTreeMap<String, Value> {
    fn resolve(&self, path: &[&str]) -> Resolved<'_> {
        match path {
            [name] => self
                .get(*name)
                .map_or(Resolved::Missing, |value| Resolved::Value(Cow::Borrowed(value))),
            _ => Resolved::Missing,
        }
    }
}
