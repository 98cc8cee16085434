//! What can be wrong with an expression or template, with its place; entry types [`ParseError`],
//! [`CheckError`], [`EvalError`].

use crate::fuel::Exhausted;

/// A range of bytes in the text that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A text is no expression.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// An expression does not fit its environment.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct CheckError {
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A text is no template.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// A `${{` has no `}}`.
    #[error("`${{{{` is not closed")]
    Unclosed {
        /// The byte where the `${{` stands.
        offset: usize,
    },
    /// What stands in a `${{ }}` is no expression.
    #[error(transparent)]
    Expression(#[from] ParseError),
}

impl TemplateError {
    /// The byte of the text where the error stands.
    pub fn offset(&self) -> usize {
        match self {
            TemplateError::Unclosed { offset } => *offset,
            TemplateError::Expression(error) => error.span.start,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            TemplateError::Unclosed { .. } => Some("close it with `}}`, or write `$${{` for the text `${{`"),
            TemplateError::Expression(error) => error.hint.as_deref(),
        }
    }
}

/// An expression has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{kind}")]
pub struct EvalError {
    /// Where.
    pub span: Span,
    /// Why.
    pub kind: EvalErrorKind,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalErrorKind {
    /// No such variable stands in the scope.
    #[error("unknown variable `{0}`")]
    UnknownVariable(String),
    /// No such function exists.
    #[error("unknown function `{0}`")]
    UnknownFunction(String),
    /// A map has no such key.
    #[error("no key `{0}`")]
    MissingKey(String),
    /// A key was given twice.
    #[error("key `{0}` is given twice")]
    DuplicateKey(String),
    /// A member was asked of null.
    #[error("null has no member `{0}`")]
    NullMember(String),
    /// A variable that is only reachable by its members was used as a whole.
    #[error("`{0}` has no value as a whole")]
    Whole(String),
    /// What was named cannot be used here.
    #[error("{0}")]
    Refused(String),
    /// A list has no such place.
    #[error("no element {index} in a list of {length}")]
    OutOfRange {
        /// The place asked for.
        index: i64,
        /// The list's length.
        length: usize,
    },
    /// A value has the wrong type.
    #[error("`{what}` needs {expected}, found {found}")]
    WrongType {
        /// The operator or function.
        what: &'static str,
        /// The types it takes.
        expected: &'static str,
        /// The type it got.
        found: String,
    },
    /// A number left the range of 64 bits.
    #[error("the result of `{0}` is out of range")]
    Overflow(&'static str),
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A text or number cannot be converted.
    #[error("`{text}` is not {kind}")]
    NotANumber {
        /// The text.
        text: String,
        /// What it should have been.
        kind: &'static str,
    },
    /// A pattern is no regular expression.
    #[error("`{pattern}` is not a usable regular expression")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// Which files changed is not known here.
    #[error("which files changed is not known here")]
    ChangedUnknown,
    /// A value grew too large.
    #[error("a value grew over {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The evaluation took more work than it may.
    #[error("the expression is too costly")]
    TooCostly,
}

impl From<Exhausted> for EvalErrorKind {
    fn from(Exhausted: Exhausted) -> Self {
        EvalErrorKind::TooCostly
    }
}

/// The candidate that `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (name.len().max(candidate.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The hint that names what was probably meant, or else what there is.
pub(crate) fn suggestion<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str> + Clone,
) -> Option<String> {
    const SHOWN: usize = 8;
    if let Some(meant) = nearest(name, candidates.clone()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    let known: Vec<String> = candidates
        .map(|candidate| format!("`{candidate}`"))
        .take(SHOWN + 1)
        .collect();
    match known.len() {
        0 => None,
        1..=SHOWN => Some(format!("there is {}", known.join(", "))),
        _ => None,
    }
}
