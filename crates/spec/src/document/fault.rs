//! What is wrong with a document or a set of them, before it has a place in a file.

use pipekeeper_model::Name;

use super::Kind;
use crate::{
    codes,
    diagnostic::{Code, Severity},
};

/// One thing that is wrong with a document of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The document's index in the set.
    pub document: usize,
    /// The stable code.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// The key path in the document, such as `after.all`; empty for the document as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    pub(super) spot: Spot,
}

/// A place in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spot {
    /// The keys that lead there.
    pub(super) keys: Vec<String>,
    /// The item of the list that stands there, or its text.
    pub(super) word: Option<String>,
}

impl Spot {
    pub(super) fn of(keys: &[&str]) -> Self {
        Self {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            word: None,
        }
    }

    pub(super) fn path(&self) -> String {
        self.keys.join(".")
    }
}

/// What is wrong with one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) code: Code,
    pub(super) spot: Spot,
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl Doubt {
    pub(super) fn new(code: Code, keys: &[&str], message: impl Into<String>, help: &'static str) -> Self {
        Self {
            code,
            spot: Spot::of(keys),
            message: message.into(),
            help,
        }
    }

    /// A rule that no set of people can fulfil.
    pub(super) fn nobody(keys: &[&str], message: impl Into<String>, help: &'static str) -> Self {
        Self::new(codes::NOBODY, keys, message, help)
    }

    pub(super) fn at(self, document: usize) -> Fault {
        Fault {
            document,
            code: self.code,
            severity: Severity::Error,
            path: self.spot.path(),
            message: self.message,
            help: Some(self.help.to_owned()),
            spot: self.spot,
        }
    }
}

/// A document that another one names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) name: Name,
    pub(super) spot: Spot,
}

/// References to documents of a kind that stand under a key.
pub(super) fn refer<'a, N: IntoIterator<Item = &'a Name>>(
    kind: Kind,
    names: N,
    keys: &[&str],
) -> impl Iterator<Item = Reference> + use<N> {
    let of = |name: &Name| Reference {
        kind,
        name: name.clone(),
        spot: Spot {
            word: Some(name.to_string()),
            ..Spot::of(keys)
        },
    };
    let references: Vec<_> = names.into_iter().map(of).collect();
    references.into_iter()
}
