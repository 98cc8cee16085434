//! Generated expressions: the check agrees with the evaluator, and both with CEL.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::json;

use super::JsonScope;
use crate::{Environment, EvalErrorKind, Expression, Fuel, Type, Value};

/// Which expressions to generate.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    /// Of any and often of no type.
    Any,
    /// Without what the check knows only when it is evaluated.
    Typed,
}

/// Expressions over the sample scope.
fn expressions(wanted: Wanted) -> impl Strategy<Value = String> {
    const LEAVES: &[&str] = &[
        "1",
        "0",
        "-2",
        "2.5",
        "'a'",
        "'ab'",
        "true",
        "false",
        "n",
        "f",
        "branch",
        "[1, 2]",
        "['a', 'b']",
        "event.labels",
        "event.n",
        "event.kind",
        "{'a': 1}",
        "params",
        "params.profile",
        "[]",
    ];
    const OPERATORS: &[&str] = &[
        "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||",
    ];
    let leaves = if wanted == Wanted::Any {
        LEAVES
    } else {
        &LEAVES[..LEAVES.len() - 1]
    };
    proptest::sample::select(leaves).prop_map(str::to_owned).prop_recursive(3, 16, 3, move |inner| {
        let operator = proptest::sample::select(OPERATORS);
        let method = proptest::sample::select(&["contains", "startsWith", "endsWith"][..]);
        let each = proptest::sample::select(&["all", "exists", "exists_one", "map", "filter"][..]);
        let pair = (inner.clone(), inner.clone());
        let pair = pair.prop_map(move |(a, b)| if wanted == Wanted::Any { (a, b) } else { (a.clone(), a) }).boxed();
        prop_oneof![
            6 => (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => inner.clone().prop_map(|a| format!("-({a})")),
            1 => (inner.clone(), pair.clone()).prop_map(|(a, (b, c))| format!("({a} ? {b} : {c})")),
            1 => pair.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => (pair, inner.clone()).prop_map(|((a, b), c)| format!("[{a}, {b}][{c}]")),
            1 => inner.clone().prop_map(|a| format!("size({a})")),
            1 => (inner.clone(), method, inner.clone()).prop_map(|(a, f, b)| format!("({a}).{f}({b})")),
            1 => (inner.clone(), each, inner).prop_map(|(a, f, b)| format!("({a}).{f}(x, {b} == x || x == {b})")),
        ]
    })
}

fn environment() -> Environment {
    JsonScope::sample()
        .0
        .iter()
        .fold(Environment::new(), |environment, (name, value)| {
            environment.variable(name.as_str(), Type::of(value))
        })
}

/// Whether a value is one of the type.
fn is_of(value: &Value, of: &Type) -> bool {
    match (value, of) {
        (_, Type::Dyn) => true,
        (Value::List(items), Type::List(element)) => items.iter().all(|item| is_of(item, element)),
        (Value::Map(entries), Type::Map(element)) => entries.values().all(|value| is_of(value, element)),
        (Value::Map(entries), Type::Object(keys)) => entries
            .iter()
            .all(|(key, value)| keys.get(key).is_some_and(|of| is_of(value, of))),
        (value, of) => Type::of(value) == *of,
    }
}

/// The value that the `cel` crate gives.
fn oracle(text: &str) -> Option<Value> {
    let mut context = cel::Context::default();
    for (name, value) in JsonScope::sample().0 {
        context.add_variable(name, value).ok()?;
    }
    let value = cel::Program::compile(text).ok()?.execute(&context).ok()?;
    from_cel(value)
}

fn from_cel(value: cel::Value) -> Option<Value> {
    Some(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(value) => Value::Bool(value),
        cel::Value::Int(value) => Value::Int(value),
        cel::Value::Float(value) => Value::Float(value),
        cel::Value::String(value) => Value::String(value.to_string()),
        cel::Value::List(items) => Value::List(items.iter().cloned().map(from_cel).collect::<Option<_>>()?),
        cel::Value::Map(_)
        | cel::Value::Function(..)
        | cel::Value::UInt(_)
        | cel::Value::Bytes(_)
        | cel::Value::Opaque(_)
        | cel::Value::Struct(_) => return None,
    })
}

/// Equal, where no number is not a number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn a_checked_expression_has_a_value_of_its_type(text in expressions(Wanted::Any)) {
        let Ok(expression) = Expression::parse(&text) else { return Ok(()) };
        let Ok(of) = expression.check(&environment()) else { return Ok(()) };
        if let Ok(value) = expression.evaluate(&JsonScope::sample(), &mut Fuel::new(1_000_000)) {
            prop_assert!(is_of(&value, &of), "{text}: {value:?} is no {of}");
        }
    }

    #[test]
    fn a_checked_expression_has_no_error_of_type(text in expressions(Wanted::Typed)) {
        let Ok(expression) = Expression::parse(&text) else { return Ok(()) };
        if expression.check(&environment()).is_err() {
            return Ok(());
        }
        if let Err(error) = expression.evaluate(&JsonScope::sample(), &mut Fuel::new(1_000_000)) {
            let arithmetic = matches!(
                error.kind,
                EvalErrorKind::DivisionByZero | EvalErrorKind::Overflow(_) | EvalErrorKind::OutOfRange { .. }
            );
            prop_assert!(arithmetic, "{text}: {error}");
        }
    }

    #[test]
    fn a_value_is_the_one_that_cel_gives(text in expressions(Wanted::Any)) {
        let Some(expected) = oracle(&text) else { return Ok(()) };
        let expression = match Expression::parse(&text) {
            Ok(expression) => expression,
            Err(error) => {
                prop_assert!(error.message.contains("at most"), "{text}: {error}");
                return Ok(());
            }
        };
        // The crate also gives values to what has no type, such as a list plus a map.
        if expression.check(&environment()).is_err() {
            return Ok(());
        }
        match expression.evaluate(&JsonScope::sample(), &mut Fuel::new(1_000_000)) {
            Ok(value) => prop_assert!(same(&value, &expected), "{text}: {value:?}, cel: {expected:?}"),
            Err(error) => prop_assert!(false, "{text}: {error}, cel: {expected:?}"),
        }
    }

    #[test]
    fn what_parses_is_cel(text in super::hostile::pieces()) {
        if Expression::parse(&text).is_ok() {
            prop_assert!(cel::Program::compile(&text).is_ok(), "{text}");
        }
    }
}

/// The properties above say something only if enough of what is generated passes the check.
#[test]
fn enough_expressions_are_well_typed() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = expressions(Wanted::Typed);
    let checked = (0..300).filter(|_| {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        text.len() > 10 && Expression::parse(&text).is_ok_and(|parsed| parsed.check(&environment()).is_ok())
    });
    let count = checked.count();
    assert!(count > 30, "{count}");
}

#[test]
fn the_oracle_answers() {
    assert_eq!(oracle("n + 1"), Some(Value::Int(4)));
    assert_eq!(
        oracle("event.labels.map(x, x + branch)"),
        Some(Value::from(json!(["amain", "bmain"])))
    );
}
