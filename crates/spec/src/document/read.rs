//! From a tree that fits its shape to a typed document.
//!
//! Scalars become what their shape wants of them, and one value becomes a list where a list may stand, so that two ways to
//! write the same come to the same.

use pipekeeper_model::Name;
use serde_json::{Map, Value};

use super::Document;
use crate::{
    grammar::{Object, Shape},
    shape::choose,
    yaml::Node,
};

/// A document of this kind's keys; an error means that keys and types disagree.
pub(super) fn read(kind: super::Kind, name: &Name, node: &Node) -> Result<Document, serde_json::Error> {
    let mut map = object(node, kind.keys());
    map.insert("kind".to_owned(), Value::from(kind.as_str()));
    map.insert("name".to_owned(), Value::from(name.as_str()));
    serde_json::from_value(Value::Object(map))
}

fn object(node: &Node, object: &Object) -> Map<String, Value> {
    let known = node.pairs().iter().filter_map(|pair| {
        let key = object.keys.iter().find(|key| key.name == &*pair.key)?;
        Some((pair.key.to_string(), value(&pair.value, &key.shape)?))
    });
    known.collect()
}

fn value(node: &Node, shape: &Shape) -> Option<Value> {
    match shape {
        Shape::Text(_) | Shape::Words(_) => node.text().map(Value::from),
        Shape::Bool => node.bool().map(Value::from),
        Shape::Int { .. } => node.int().map(Value::from),
        Shape::List(of) => Some(node.items().iter().filter_map(|item| value(item, of)).collect()),
        Shape::Map { of, .. } => {
            let pairs = node.pairs().iter();
            let values = pairs.filter_map(|pair| Some((pair.key.to_string(), value(&pair.value, of)?)));
            Some(Value::Object(values.collect()))
        }
        Shape::Object(fields) | Shape::Choice { object: fields, .. } => {
            Some(Value::Object(object(node, fields)))
        }
        Shape::AnyOf(shapes) => {
            let list = shapes.iter().find(|shape| matches!(shape, Shape::List(_)));
            value(node, list.or_else(|| choose(node, shapes))?)
        }
        // No document has entries.
        Shape::Entries => None,
    }
}
