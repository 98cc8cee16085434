//! The functions of the language, their signatures and what they do; entry type [`Function`].
//!
//! `changed` is listed here and answered by the scope.

use std::borrow::Cow;

use crate::ast::Style;
use crate::error::EvalErrorKind;
use crate::fuel::Fuel;
use crate::operate::{bounded, wrong_type};
use crate::pattern::Patterns;
use crate::types::Type;
use crate::value::Value;

/// A function that an expression may call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    LowerAscii,
    UpperAscii,
    Trim,
    Replace,
    Split,
    Join,
    Int,
    String,
    Double,
    Changed,
}

/// What a function takes at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Parameter {
    Text,
    Texts,
    Sized,
    Number,
    Scalar,
}

impl Parameter {
    pub(crate) fn accepts(self, of: &Type) -> bool {
        match (self, of) {
            (_, Type::Dyn) => true,
            (Parameter::Text, Type::String) => true,
            (Parameter::Texts, Type::List(element)) => matches!(**element, Type::String | Type::Dyn),
            (Parameter::Sized, Type::String | Type::List(_) | Type::Map(_) | Type::Object(_)) => true,
            (Parameter::Number, Type::String | Type::Int | Type::Float) => true,
            (Parameter::Scalar, Type::String | Type::Int | Type::Float | Type::Bool) => true,
            _ => false,
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Parameter::Text => "string",
            Parameter::Texts => "list(string)",
            Parameter::Sized => "string, list or map",
            Parameter::Number => "int, double or string",
            Parameter::Scalar => "string, int, double or bool",
        }
    }
}

impl Function {
    pub(crate) const ALL: [Function; 15] = [
        Function::Size,
        Function::Contains,
        Function::StartsWith,
        Function::EndsWith,
        Function::Matches,
        Function::LowerAscii,
        Function::UpperAscii,
        Function::Trim,
        Function::Replace,
        Function::Split,
        Function::Join,
        Function::Int,
        Function::String,
        Function::Double,
        Function::Changed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Function::Size => "size",
            Function::Contains => "contains",
            Function::StartsWith => "startsWith",
            Function::EndsWith => "endsWith",
            Function::Matches => "matches",
            Function::LowerAscii => "lowerAscii",
            Function::UpperAscii => "upperAscii",
            Function::Trim => "trim",
            Function::Replace => "replace",
            Function::Split => "split",
            Function::Join => "join",
            Function::Int => "int",
            Function::String => "string",
            Function::Double => "double",
            Function::Changed => "changed",
        }
    }

    /// The function called `name`, if it may be called in this style.
    pub(crate) fn named(name: &str, style: Style) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|function| function.name() == name && function.has(style))
    }

    pub(crate) fn has(self, style: Style) -> bool {
        match self {
            Function::Size | Function::Matches => true,
            Function::Int | Function::String | Function::Double | Function::Changed => style == Style::Global,
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::LowerAscii
            | Function::UpperAscii
            | Function::Trim
            | Function::Replace
            | Function::Split
            | Function::Join => style == Style::Method,
        }
    }

    /// The least number of arguments, what stands at each place (the last repeats for `changed`), the result.
    pub(crate) fn signature(self) -> (usize, &'static [Parameter], Type) {
        use Parameter::{Number, Scalar, Sized, Text, Texts};
        match self {
            Function::Size => (1, &[Sized], Type::Int),
            Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => {
                (2, &[Text, Text], Type::Bool)
            }
            Function::LowerAscii | Function::UpperAscii | Function::Trim => (1, &[Text], Type::String),
            Function::Replace => (3, &[Text, Text, Text], Type::String),
            Function::Split => (2, &[Text, Text], Type::list(Type::String)),
            Function::Join => (1, &[Texts, Text], Type::String),
            Function::Int => (1, &[Number], Type::Int),
            Function::Double => (1, &[Number], Type::Float),
            Function::String => (1, &[Scalar], Type::String),
            Function::Changed => (1, &[Text], Type::Bool),
        }
    }

    /// Calls the function; `changed` has no value of its own.
    pub(crate) fn apply(
        self,
        arguments: &[Cow<'_, Value>],
        patterns: &mut Patterns,
        fuel: &mut Fuel,
    ) -> Result<Value, EvalErrorKind> {
        let text = |at| self.text(arguments, at);
        for argument in arguments {
            if let Value::String(text) = &**argument {
                fuel.spend_text(text.len())?;
            }
        }
        Ok(match self {
            Function::Size => Value::Int(self.size(arguments)?),
            Function::Contains => text(0)?.contains(text(1)?).into(),
            Function::StartsWith => text(0)?.starts_with(text(1)?).into(),
            Function::EndsWith => text(0)?.ends_with(text(1)?).into(),
            Function::Matches => patterns.matches(text(0)?, text(1)?, fuel)?.into(),
            Function::LowerAscii => text(0)?.to_ascii_lowercase().into(),
            Function::UpperAscii => text(0)?.to_ascii_uppercase().into(),
            Function::Trim => text(0)?.trim().into(),
            Function::Replace => replace(text(0)?, text(1)?, text(2)?, fuel)?.into(),
            Function::Split => split(text(0)?, text(1)?, fuel)?,
            Function::Join => self.join(arguments, fuel)?.into(),
            Function::Int => Value::Int(self.int(arguments)?),
            Function::Double => Value::Float(self.double(arguments)?),
            Function::String => self.string(arguments)?.into(),
            Function::Changed => return Err(EvalErrorKind::ChangedUnknown),
        })
    }

    fn argument<'v>(self, arguments: &'v [Cow<'_, Value>], at: usize) -> Result<&'v Value, EvalErrorKind> {
        let missing = || EvalErrorKind::WrongType {
            what: self.name(),
            expected: "more arguments",
            found: arguments.len().to_string(),
        };
        arguments.get(at).map(|argument| &**argument).ok_or_else(missing)
    }

    pub(crate) fn text<'v>(
        self,
        arguments: &'v [Cow<'_, Value>],
        at: usize,
    ) -> Result<&'v str, EvalErrorKind> {
        let argument = self.argument(arguments, at)?;
        let Value::String(text) = argument else {
            return Err(wrong_type(self.name(), "string", argument));
        };
        Ok(text)
    }

    fn size(self, arguments: &[Cow<'_, Value>]) -> Result<i64, EvalErrorKind> {
        let size = match self.argument(arguments, 0)? {
            Value::String(text) => text.chars().count(),
            Value::List(items) => items.len(),
            Value::Map(entries) => entries.len(),
            other @ (Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
                return Err(wrong_type(self.name(), Parameter::Sized.describe(), other));
            }
        };
        i64::try_from(size).map_err(|_| EvalErrorKind::Overflow(self.name()))
    }

    fn join(self, arguments: &[Cow<'_, Value>], fuel: &mut Fuel) -> Result<String, EvalErrorKind> {
        let list = self.argument(arguments, 0)?;
        let Value::List(items) = list else {
            return Err(wrong_type(self.name(), Parameter::Texts.describe(), list));
        };
        let separator = if arguments.len() > 1 {
            self.text(arguments, 1)?
        } else {
            ""
        };
        fuel.spend(items.len())?;
        let mut joined = String::new();
        for (at, item) in items.iter().enumerate() {
            let Value::String(item) = item else {
                return Err(wrong_type(self.name(), Parameter::Texts.describe(), item));
            };
            let separator = if at == 0 { "" } else { separator };
            bounded(joined.len() + separator.len() + item.len())?;
            fuel.spend_text(separator.len() + item.len())?;
            joined.push_str(separator);
            joined.push_str(item);
        }
        Ok(joined)
    }

    fn int(self, arguments: &[Cow<'_, Value>]) -> Result<i64, EvalErrorKind> {
        match self.argument(arguments, 0)? {
            Value::Int(number) => Ok(*number),
            // Both bounds are exact as doubles; the upper one is the first that does not fit.
            Value::Float(number) if (-(2f64.powi(63))..2f64.powi(63)).contains(number) => Ok(*number as i64),
            Value::Float(_) => Err(EvalErrorKind::Overflow(self.name())),
            Value::String(text) => text.parse().map_err(|_| not_a_number(text, "a whole number")),
            other @ (Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_)) => {
                Err(wrong_type(self.name(), Parameter::Number.describe(), other))
            }
        }
    }

    fn double(self, arguments: &[Cow<'_, Value>]) -> Result<f64, EvalErrorKind> {
        match self.argument(arguments, 0)? {
            Value::Int(number) => Ok(*number as f64),
            Value::Float(number) => Ok(*number),
            Value::String(text) => text.parse().map_err(|_| not_a_number(text, "a number")),
            other @ (Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_)) => {
                Err(wrong_type(self.name(), Parameter::Number.describe(), other))
            }
        }
    }

    fn string(self, arguments: &[Cow<'_, Value>]) -> Result<String, EvalErrorKind> {
        match self.argument(arguments, 0)? {
            value @ (Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_)) => {
                Ok(value.to_string())
            }
            other @ (Value::Null | Value::List(_) | Value::Map(_)) => {
                Err(wrong_type(self.name(), Parameter::Scalar.describe(), other))
            }
        }
    }
}

fn replace(text: &str, from: &str, to: &str, fuel: &mut Fuel) -> Result<String, EvalErrorKind> {
    let length = text.len() + text.matches(from).count() * to.len();
    bounded(length)?;
    fuel.spend_text(length)?;
    Ok(text.replace(from, to))
}

fn split(text: &str, separator: &str, fuel: &mut Fuel) -> Result<Value, EvalErrorKind> {
    // CEL splits by nothing into characters, without the empty ends that Rust gives.
    let parts: Vec<Value> = if separator.is_empty() {
        fuel.spend(text.len())?;
        text.chars().map(|c| Value::String(c.into())).collect()
    } else {
        fuel.spend(text.matches(separator).count())?;
        text.split(separator).map(Value::from).collect()
    };
    Ok(Value::List(parts))
}

fn not_a_number(text: &str, kind: &'static str) -> EvalErrorKind {
    const SHOWN: usize = 40;
    EvalErrorKind::NotANumber {
        text: text.chars().take(SHOWN).collect(),
        kind,
    }
}
