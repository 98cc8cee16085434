//! A text with `${{ }}` in it; entry type [`Template`].

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::environment::Environment;
use crate::error::{CheckError, EvalError, EvalErrorKind, Span, TemplateError};
use crate::expression::Expression;
use crate::fuel::Fuel;
use crate::operate::bounded;
use crate::parse::Ending;
use crate::reference::Reference;
use crate::scope::Scope;
use crate::types::Type;
use crate::value::Value;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// A text with `${{ }}` in it.
///
/// One whole `${{ }}` keeps the type of its value; mixed with text it makes text. `$${{` stands for the text
/// `${{`. All places in errors are bytes of the template's text.
#[derive(Clone, Debug)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Expression(usize, Expression),
}

impl Template {
    /// Parses a text; a text without `${{` is never an error.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find(OPEN)) {
            let open = at + found;
            let before = text.get(at..open).unwrap_or_default();
            let start = open + OPEN.len();
            if let Some(before) = before.strip_suffix('$') {
                literal.push_str(before);
                literal.push_str(OPEN);
                at = start;
                continue;
            }
            literal.push_str(before);
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            let (expression, end) = match Expression::parse_at(text, start, Ending::Braces) {
                Ok(parsed) => parsed,
                Err(_) if !text.get(start..).is_some_and(|rest| rest.contains(CLOSE)) => {
                    return Err(TemplateError::Unclosed { offset: open });
                }
                Err(error) => return Err(error.into()),
            };
            parts.push(Part::Expression(start, expression));
            at = end + CLOSE.len();
        }
        literal.push_str(text.get(at..).unwrap_or_default());
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The text, if it holds no expression.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether the text holds no expression.
    pub fn is_literal(&self) -> bool {
        self.literal().is_some()
    }

    /// The expressions, each with the byte after its `${{`.
    pub fn expressions(&self) -> impl Iterator<Item = (usize, &Expression)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(start, expression) => Some((*start, expression)),
        })
    }

    /// The names, if the text is one whole `${{ }}` that holds nothing but them.
    pub fn path(&self) -> Option<Vec<&str>> {
        match self.parts.as_slice() {
            [Part::Expression(_, expression)] => expression.path(),
            _ => None,
        }
    }

    /// What the expressions name.
    pub fn references(&self) -> BTreeSet<Reference> {
        self.expressions()
            .flat_map(|(_, expression)| expression.references())
            .cloned()
            .collect()
    }

    /// The type of the template's value, or everything that is wrong with its expressions.
    pub fn check(&self, environment: &Environment) -> Result<Type, Vec<CheckError>> {
        let mut types = Vec::new();
        let mut errors = Vec::new();
        for (_, expression) in self.expressions() {
            match expression.check(environment) {
                Ok(of) => types.push(of),
                Err(wrong) => errors.extend(wrong),
            }
        }
        match types.pop() {
            _ if !errors.is_empty() => Err(errors),
            Some(only) if self.parts.len() == 1 => Ok(only),
            _ => Ok(Type::String),
        }
    }

    /// The value: that of the one expression, or text.
    pub fn evaluate(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Value, EvalError> {
        if let [Part::Expression(_, expression)] = self.parts.as_slice() {
            return expression.evaluate(scope, fuel);
        }
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Expression(start, expression) => {
                    let value = expression.evaluate(scope, fuel)?;
                    let at = |kind: EvalErrorKind| EvalError {
                        span: Span {
                            start: *start,
                            end: start + expression.text().len(),
                        },
                        kind,
                    };
                    let before = text.len();
                    // Writing to a text fails only where a value cannot be shown, which none of ours does.
                    let _ = write!(text, "{value}");
                    fuel.spend_text(text.len() - before)
                        .map_err(|error| at(error.into()))?;
                    bounded(text.len()).map_err(at)?;
                }
            }
        }
        Ok(Value::String(text))
    }
}
