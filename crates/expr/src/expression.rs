//! A parsed expression; entry type [`Expression`].

use std::collections::BTreeSet;

use crate::ast::Node;
use crate::check;
use crate::environment::Environment;
use crate::error::{CheckError, EvalError, ParseError, Span};
use crate::eval;
use crate::fuel::Fuel;
use crate::parse::{self, Ending};
use crate::reference::{self, Reference};
use crate::scope::Scope;
use crate::types::Type;
use crate::value::Value;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    root: Node,
    references: BTreeSet<Reference>,
}

impl Expression {
    /// Parses a text of at most 1 KiB.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > parse::MAX_LENGTH {
            let message = format!(
                "an expression is at most {} bytes, this one has {}",
                parse::MAX_LENGTH,
                text.len()
            );
            return Err(ParseError {
                span: Span {
                    start: 0,
                    end: text.len(),
                },
                message,
                hint: None,
            });
        }
        Self::parse_at(text, 0, Ending::Text).map(|(expression, _)| expression)
    }

    /// Parses what starts at a byte of a longer text, which its spans count from; also tells where it ends.
    pub(crate) fn parse_at(text: &str, start: usize, ending: Ending) -> Result<(Self, usize), ParseError> {
        let (root, end) = parse::expression(text, start, ending)?;
        let references = reference::references(&root);
        let text = text.get(start..end).unwrap_or_default().trim().to_owned();
        Ok((
            Self {
                text,
                root,
                references,
            },
            end,
        ))
    }

    /// The expression as it was written, without blanks around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the expression names.
    pub fn references(&self) -> &BTreeSet<Reference> {
        &self.references
    }

    /// The names, if the expression is nothing but a variable and fixed names after it, such as `actions.a.outcome`.
    pub fn path(&self) -> Option<Vec<&str>> {
        let (variable, names) = reference::path(&self.root)?;
        Some(std::iter::once(variable).chain(names).collect())
    }

    /// The type of the expression, or everything that is wrong with it.
    pub fn check(&self, environment: &Environment) -> Result<Type, Vec<CheckError>> {
        check::check(&self.root, environment)
    }

    /// The value of the expression.
    pub fn evaluate(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Value, EvalError> {
        eval::evaluate(&self.root, scope, fuel)
    }
}
