//! The values of the expression language and how they look in text; entry type [`Value`].
//!
//! Operators and functions over values are in `operate` and `function`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A value of the expression language, shaped like JSON with ordered keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    String(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values by key.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The name of the value's type, as messages say it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "double",
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }
}

/// How the value looks when it is mixed into text: null is empty, a list or map is compact JSON.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => Ok(()),
            Value::Bool(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::String(value) => f.write_str(value),
            Value::List(_) | Value::Map(_) => {
                f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(value) => Value::Int(value),
                // A number beyond i64 keeps its size and loses digits, as JSON readers commonly do.
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(value) => Value::String(value),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Value::from).collect()),
            serde_json::Value::Object(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, Value::from(value)))
                    .collect(),
            ),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_goes_through_both_ways() {
        let json = json!({"n": 1, "f": 1.5, "big": 18446744073709551615u64, "l": [null, true, "x"], "m": {}});
        let value = Value::from(json.clone());
        assert_eq!(serde_json::from_value::<Value>(json).unwrap(), value);
        let Value::Map(entries) = &value else {
            panic!("not a map")
        };
        assert_eq!(entries["n"], Value::Int(1));
        assert_eq!(entries["big"], Value::Float(18446744073709551615.0));
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"big":1.8446744073709552e+19,"f":1.5,"l":[null,true,"x"],"m":{},"n":1}"#
        );
    }

    #[test]
    fn text_shows_scalars_bare_and_the_rest_as_json() {
        let show = |json| Value::from(json).to_string();
        assert_eq!(show(json!(null)), "");
        assert_eq!(show(json!("a\"b")), "a\"b");
        assert_eq!(show(json!(87.5)), "87.5");
        assert_eq!(show(json!(true)), "true");
        assert_eq!(show(json!([1, "a"])), r#"[1,"a"]"#);
    }
}
