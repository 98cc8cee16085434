//! What is wrong with a file: code, place, message and what to do. Rendering is in [`crate::render`].

use std::{fmt, ops::Range};

use pipekeeper_model::plan::Place;
use serde::{Serialize, Serializer};

use crate::{
    dialect::Dialect,
    source::{Lines, SourceFile},
};

/// A stable code such as `PK0010`; [`crate::explain`] has its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub(crate) &'static str);

impl Code {
    /// The code's text.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file works, but perhaps not as meant.
    Warning,
}

impl Severity {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A further place that explains a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// The bytes it is about.
    pub span: Range<usize>,
    /// Where they start.
    pub place: Place,
    /// What is there.
    pub text: String,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// Error or warning.
    pub severity: Severity,
    /// The key path, such as `actions[2].needs`; empty for the file as a whole.
    pub path: String,
    /// Where it is.
    pub place: Place,
    /// The bytes it is about.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Further places.
    pub labels: Vec<Label>,
}

/// Everything that is wrong with a file, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(crate) fn new(mut list: Vec<Diagnostic>) -> Self {
        list.sort_by(|a, b| {
            (a.span.start, a.code, &a.path, &a.message).cmp(&(b.span.start, b.code, &b.path, &b.message))
        });
        list.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
        Self(list)
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|one| one.severity == Severity::Error)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// They, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

/// Where the parts of a check put what they find.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    pub(crate) lines: Lines<'a>,
    pub(crate) dialect: Dialect,
    list: Vec<Diagnostic>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(file: &SourceFile<'a>, dialect: Dialect) -> Self {
        Self {
            lines: Lines::new(file.text),
            dialect,
            list: Vec::new(),
        }
    }

    /// Adds an error.
    pub(crate) fn error(
        &mut self,
        code: Code,
        path: &str,
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> Draft<'_, 'a> {
        self.add(code, Severity::Error, path, span, message.into())
    }

    /// Adds a warning.
    pub(crate) fn warning(
        &mut self,
        code: Code,
        path: &str,
        span: &Range<usize>,
        message: impl Into<String>,
    ) -> Draft<'_, 'a> {
        self.add(code, Severity::Warning, path, span, message.into())
    }

    /// Whether an error was found so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// How many errors were found so far.
    pub(crate) fn errors(&self) -> usize {
        let errors = self.list.iter().filter(|one| one.severity == Severity::Error);
        errors.count()
    }

    /// All that was found.
    pub(crate) fn finish(self) -> Diagnostics {
        Diagnostics::new(self.list)
    }

    fn add(
        &mut self,
        code: Code,
        severity: Severity,
        path: &str,
        span: &Range<usize>,
        message: String,
    ) -> Draft<'_, 'a> {
        let span = self.lines.fit(span.clone());
        self.list.push(Diagnostic {
            code,
            severity,
            path: path.to_owned(),
            place: self.lines.place(span.start),
            span,
            message,
            help: None,
            labels: Vec::new(),
        });
        Draft {
            lines: &self.lines,
            one: self.list.last_mut(),
        }
    }
}

/// A diagnostic just added, to be completed.
pub(crate) struct Draft<'s, 'a> {
    lines: &'s Lines<'a>,
    one: Option<&'s mut Diagnostic>,
}

impl Draft<'_, '_> {
    /// Says what to do.
    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        if let Some(one) = &mut self.one {
            one.help = Some(text.into());
        }
        self
    }

    /// Says what to do, where something is known.
    pub(crate) fn maybe_help(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// Points at a further place.
    pub(crate) fn label(mut self, span: &Range<usize>, text: impl Into<String>) -> Self {
        if let Some(one) = &mut self.one {
            let span = self.lines.fit(span.clone());
            one.labels.push(Label {
                place: self.lines.place(span.start),
                span,
                text: text.into(),
            });
        }
        self
    }
}
