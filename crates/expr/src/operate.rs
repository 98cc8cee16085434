//! Operators over values: comparison, arithmetic, membership; entry function [`binary`].

use std::cmp::Ordering;

use crate::ast::Operator;
use crate::error::EvalErrorKind;
use crate::fuel::Fuel;
use crate::value::Value;

/// The most bytes of one text.
pub(crate) const MAX_TEXT: usize = 64 * 1024;

/// Refuses a text that would be too large.
pub(crate) fn bounded(bytes: usize) -> Result<(), EvalErrorKind> {
    if bytes > MAX_TEXT {
        Err(EvalErrorKind::TooLarge { limit: MAX_TEXT })
    } else {
        Ok(())
    }
}

pub(crate) fn wrong_type(what: &'static str, expected: &'static str, found: &Value) -> EvalErrorKind {
    EvalErrorKind::WrongType {
        what,
        expected,
        found: found.type_name().to_owned(),
    }
}

/// The value of `left operator right`.
pub(crate) fn binary(
    operator: Operator,
    left: &Value,
    right: &Value,
    fuel: &mut Fuel,
) -> Result<Value, EvalErrorKind> {
    let ordered = |fuel: &mut Fuel, wanted: fn(Ordering) -> bool| -> Result<Value, EvalErrorKind> {
        Ok(compare(operator, left, right, fuel)?.is_some_and(wanted).into())
    };
    match operator {
        Operator::Equal => Ok(equal(left, right, fuel)?.into()),
        Operator::NotEqual => Ok((!equal(left, right, fuel)?).into()),
        Operator::Less => ordered(fuel, Ordering::is_lt),
        Operator::LessOrEqual => ordered(fuel, Ordering::is_le),
        Operator::Greater => ordered(fuel, Ordering::is_gt),
        Operator::GreaterOrEqual => ordered(fuel, Ordering::is_ge),
        Operator::In => contains(left, right, fuel).map(Value::Bool),
        Operator::Add => add(left, right, fuel),
        Operator::Subtract => arithmetic(operator, left, right, i64::checked_sub, |a, b| a - b),
        Operator::Multiply => arithmetic(operator, left, right, i64::checked_mul, |a, b| a * b),
        Operator::Divide => {
            divisible(right)?;
            arithmetic(operator, left, right, i64::checked_div, |a, b| a / b)
        }
        Operator::Remainder => {
            divisible(right)?;
            match (left, right) {
                (Value::Int(a), Value::Int(b)) => whole(operator, a.checked_rem(*b)),
                _ => Err(mismatch(operator, operands(operator), left, right)),
            }
        }
    }
}

/// Equality as CEL has it: numbers by value, other types never equal each other.
fn equal(left: &Value, right: &Value, fuel: &mut Fuel) -> Result<bool, EvalErrorKind> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            order(left, right) == Some(Ordering::Equal)
        }
        (Value::String(a), Value::String(b)) => {
            fuel.spend_text(a.len().min(b.len()))?;
            a == b
        }
        (Value::List(a), Value::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (a, b) in a.iter().zip(b) {
                fuel.spend(1)?;
                if !equal(a, b, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for ((key_a, a), (key_b, b)) in a.iter().zip(b) {
                fuel.spend(1)?;
                fuel.spend_text(key_a.len())?;
                if key_a != key_b || !equal(a, b, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => false,
    })
}

fn compare(
    operator: Operator,
    left: &Value,
    right: &Value,
    fuel: &mut Fuel,
) -> Result<Option<Ordering>, EvalErrorKind> {
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::String(a), Value::String(b)) => {
            fuel.spend_text(a.len().min(b.len()))?;
            Ok(Some(a.cmp(b)))
        }
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => Ok(order(left, right)),
        _ => Err(mismatch(operator, "two numbers, strings or bools", left, right)),
    }
}

/// The order of two numbers; none for NaN and for what is no number.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => order_mixed(*a, *b),
        (Value::Float(a), Value::Int(b)) => order_mixed(*b, *a).map(Ordering::reverse),
        _ => None,
    }
}

/// Exact, where turning the int into a double would round it.
fn order_mixed(int: i64, float: f64) -> Option<Ordering> {
    let limit = 2f64.powi(63);
    if float.is_nan() {
        None
    } else if float >= limit {
        Some(Ordering::Less)
    } else if float < -limit {
        Some(Ordering::Greater)
    } else {
        let whole = float.trunc();
        let order = int.cmp(&(whole as i64));
        if order.is_eq() {
            whole.partial_cmp(&float)
        } else {
            Some(order)
        }
    }
}

fn contains(item: &Value, of: &Value, fuel: &mut Fuel) -> Result<bool, EvalErrorKind> {
    match (item, of) {
        (_, Value::List(items)) => {
            for candidate in items {
                fuel.spend(1)?;
                if equal(item, candidate, fuel)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::String(key), Value::Map(entries)) => Ok(entries.contains_key(key)),
        (_, Value::Map(_)) => Ok(false),
        (_, other) => Err(wrong_type("in", "list or map", other)),
    }
}

fn add(left: &Value, right: &Value, fuel: &mut Fuel) -> Result<Value, EvalErrorKind> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => {
            bounded(a.len() + b.len())?;
            fuel.spend_text(a.len() + b.len())?;
            Ok(Value::String(format!("{a}{b}")))
        }
        (Value::List(a), Value::List(b)) => {
            fuel.spend_copy(left)?;
            fuel.spend_copy(right)?;
            Ok(Value::List(a.iter().chain(b).cloned().collect()))
        }
        _ => arithmetic(Operator::Add, left, right, i64::checked_add, |a, b| a + b),
    }
}

fn arithmetic(
    operator: Operator,
    left: &Value,
    right: &Value,
    ints: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Value, EvalErrorKind> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => whole(operator, ints(*a, *b)),
        (Value::Float(a), Value::Float(b)) => Ok(Value::Float(floats(*a, *b))),
        _ => Err(mismatch(operator, operands(operator), left, right)),
    }
}

/// What an arithmetic operator takes on both sides.
pub(crate) fn operands(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "two ints, doubles, strings or lists",
        Operator::Remainder => "two ints",
        Operator::Equal
        | Operator::NotEqual
        | Operator::Less
        | Operator::LessOrEqual
        | Operator::Greater
        | Operator::GreaterOrEqual
        | Operator::In
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide => "two ints or two doubles",
    }
}

fn whole(operator: Operator, result: Option<i64>) -> Result<Value, EvalErrorKind> {
    result
        .map(Value::Int)
        .ok_or(EvalErrorKind::Overflow(operator.symbol()))
}

fn divisible(by: &Value) -> Result<(), EvalErrorKind> {
    if *by == Value::Int(0) {
        Err(EvalErrorKind::DivisionByZero)
    } else {
        Ok(())
    }
}

fn mismatch(operator: Operator, expected: &'static str, left: &Value, right: &Value) -> EvalErrorKind {
    let found = format!("{} and {}", left.type_name(), right.type_name());
    EvalErrorKind::WrongType {
        what: operator.symbol(),
        expected,
        found,
    }
}
