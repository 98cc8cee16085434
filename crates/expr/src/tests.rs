//! Tests of the whole way from text to value.

mod agreement;
mod cost;
mod hostile;
mod semantics;
mod templates;
mod typing;

use std::collections::BTreeMap;

use serde_json::json;

use crate::{EvalError, Expression, Fuel, Resolved, Scope, Value};

/// A scope over JSON whose `actions` is a branch two levels deep.
struct JsonScope(BTreeMap<String, Value>);

impl JsonScope {
    fn sample() -> Self {
        let Value::Map(variables) = Value::from(json!({
            "branch": "main",
            "nothing": null,
            "n": 3,
            "f": 1.5,
            "event": {"kind": "push", "n": 7, "labels": ["a", "b"], "parent": null},
            "params": {"profile": "debug"},
            "actions": {
                "build": {"outcome": "succeeded", "outputs": {"covered": "87.5"}},
                "unit-test": {"outcome": "failed", "outputs": {}},
            },
            "big": (0..100).collect::<Vec<i64>>(),
        })) else {
            panic!("not a map")
        };
        Self(variables)
    }
}

impl Scope for JsonScope {
    fn resolve(&self, path: &[&str]) -> Resolved<'_> {
        let mut value = self.0.get(path[0]);
        for name in &path[1..] {
            value = match value {
                Some(Value::Map(entries)) => entries.get(*name),
                _ => panic!("asked below {path:?}"),
            };
        }
        match value {
            None => Resolved::Missing,
            Some(_) if path[0] == "actions" && path.len() < 3 => Resolved::Branch,
            Some(value) => Resolved::Value(std::borrow::Cow::Borrowed(value)),
        }
    }

    fn changed(&self, patterns: &[String]) -> Option<bool> {
        Some(patterns.iter().any(|pattern| pattern == "src/**"))
    }
}

fn evaluate(text: &str) -> Result<Value, EvalError> {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    expression.evaluate(&JsonScope::sample(), &mut Fuel::default())
}

/// What an expression gives, or its error, as text.
fn show(text: &str) -> String {
    match evaluate(text) {
        Ok(value) => serde_json::to_string(&value).unwrap(),
        Err(error) => format!("error {}..{}: {error}", error.span.start, error.span.end),
    }
}
