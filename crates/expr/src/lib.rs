//! Expressions of the pipeline language: parse, type check, fuel-counted evaluation.
//!
//! The language is CEL (the Common Expression Language) without bytes, unsigned numbers, dates and messages.
//! [`Expression`] is what stands in `if:`, [`Template`] a YAML value with `${{ }}` in it. Both are parsed once,
//! checked against an [`Environment`] and evaluated over a [`Scope`] with [`Fuel`] that bounds the work.
//!
//! This crate knows no I/O, clock, thread or YAML, and nothing of what its variables mean.

mod ast;
mod check;
mod environment;
mod error;
mod eval;
mod expression;
mod fuel;
mod function;
mod operate;
mod parse;
mod pattern;
mod reference;
mod scope;
mod template;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use environment::Environment;
pub use error::{CheckError, EvalError, EvalErrorKind, ParseError, Span, TemplateError};
pub use expression::Expression;
pub use fuel::{Exhausted, Fuel};
pub use reference::Reference;
pub use scope::{Resolved, Scope};
pub use template::Template;
pub use types::Type;
pub use value::Value;
