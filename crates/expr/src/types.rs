//! The types of the expression language; entry type [`Type`].

use std::collections::BTreeMap;
use std::fmt;

use crate::value::Value;

/// The type of a value, as far as it is known before evaluation.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Only null.
    Null,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Float,
    /// Text.
    String,
    /// A list of one type.
    List(Box<Type>),
    /// A map from any text to one type.
    Map(Box<Type>),
    /// A map with fixed keys; naming another key is an error.
    Object(BTreeMap<String, Type>),
    /// Anything: known only when it is evaluated.
    Dyn,
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Self {
        Type::List(Box::new(element))
    }

    /// A map from any text to `element`.
    pub fn map(element: Type) -> Self {
        Type::Map(Box::new(element))
    }

    /// A map with fixed keys.
    pub fn object<K: Into<String>>(keys: impl IntoIterator<Item = (K, Type)>) -> Self {
        Type::Object(keys.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The type of a value that is already there.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Float(_) => Type::Float,
            Value::String(_) => Type::String,
            Value::List(items) => Type::list(Type::joined(items.iter().map(Type::of))),
            Value::Map(entries) => Type::object(entries.iter().map(|(key, value)| (key, Type::of(value)))),
        }
    }

    /// Whether a value of this type may be used where a bool stands, as in `if:`.
    pub fn is_bool_or_dyn(&self) -> bool {
        matches!(self, Type::Bool | Type::Dyn)
    }

    pub(crate) fn is_number_or_dyn(&self) -> bool {
        matches!(self, Type::Int | Type::Float | Type::Dyn)
    }

    /// The type that holds for all of `types`; of none, anything.
    pub(crate) fn joined(types: impl IntoIterator<Item = Type>) -> Type {
        types.into_iter().reduce(Type::join).unwrap_or(Type::Dyn)
    }

    /// The type that holds for both.
    pub(crate) fn join(self, other: Type) -> Type {
        match (self, other) {
            (a, b) if a == b => a,
            (Type::List(a), Type::List(b)) => Type::list(a.join(*b)),
            (Type::Map(a), Type::Map(b)) => Type::map(a.join(*b)),
            (Type::Object(a), Type::Object(b)) => {
                Type::map(Type::joined(a.into_values().chain(b.into_values())))
            }
            (Type::Object(keys), Type::Map(element)) | (Type::Map(element), Type::Object(keys)) => {
                Type::map(Type::joined(keys.into_values().chain([*element])))
            }
            _ => Type::Dyn,
        }
    }

    /// Whether a value of one type can ever equal one of the other.
    pub(crate) fn may_equal(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Dyn | Type::Null, _) | (_, Type::Dyn | Type::Null) => true,
            (Type::Int | Type::Float, Type::Int | Type::Float) => true,
            (Type::List(_), Type::List(_)) => true,
            (Type::Map(_) | Type::Object(_), Type::Map(_) | Type::Object(_)) => true,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Float => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::List(element) => write!(f, "list({element})"),
            Type::Map(element) => write!(f, "map({element})"),
            Type::Object(_) => f.write_str("map"),
            Type::Dyn => f.write_str("dyn"),
        }
    }
}
