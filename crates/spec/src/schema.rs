//! The JSON Schema of the pipeline file and the table of its keys, both made from the [`grammar`](crate::grammar).

use serde_json::{Map, Value, json};

use crate::grammar::{DEFINING, ENTRY, FILE, Object, Presence, Shape, Text, Treatment};

/// The JSON Schema (draft-07) of the pipeline file.
pub fn schema() -> Value {
    let mut entry = object(&ENTRY);
    let defining = DEFINING.iter().map(|(key, _)| json!({ "required": [key] }));
    insert(&mut entry, "anyOf", defining.collect());
    let mut root = object(&FILE);
    insert(
        &mut root,
        "$schema",
        json!("http://json-schema.org/draft-07/schema#"),
    );
    insert(&mut root, "title", json!("Pipekeeper pipeline"));
    insert(&mut root, "definitions", json!({ "entry": entry }));
    root
}

/// Every key of the file with what it leads to: `[]` stands for an item, `*` for a key of the user's choice.
///
/// Entries are listed once, under `actions[]`; they look the same everywhere. Where one value or a list may stand, there is no `[]`.
pub fn key_table() -> Vec<(String, Treatment)> {
    let mut table = Vec::new();
    object_keys("", &FILE, &mut table);
    object_keys("actions[].", &ENTRY, &mut table);
    table.sort_by(|a, b| a.0.cmp(&b.0));
    table.dedup();
    table
}

pub(crate) fn object_keys(prefix: &str, object: &Object, table: &mut Vec<(String, Treatment)>) {
    for key in object.keys {
        let path = format!("{prefix}{}", key.name);
        shape_keys(&path, &key.shape, table);
        table.push((path, key.treatment));
    }
}

fn shape_keys(path: &str, shape: &Shape, table: &mut Vec<(String, Treatment)>) {
    match shape {
        Shape::List(of) => shape_keys(&format!("{path}[]"), of, table),
        Shape::Map { of, .. } => shape_keys(&format!("{path}.*"), of, table),
        Shape::Object(object) | Shape::Choice { object, .. } => {
            object_keys(&format!("{path}."), object, table);
        }
        Shape::AnyOf(shapes) => {
            for shape in *shapes {
                // One value or a list of them: the keys are the same.
                let shape = if let Shape::List(of) = shape { of } else { shape };
                shape_keys(path, shape, table);
            }
        }
        Shape::Text(_) | Shape::Bool | Shape::Int { .. } | Shape::Words(_) | Shape::Entries => {}
    }
}

pub(crate) fn object(object: &Object) -> Value {
    let properties: Map<String, Value> = object
        .keys
        .iter()
        .map(|key| {
            let mut value = value(&key.shape);
            insert(&mut value, "description", json!(key.help));
            (key.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = object
        .keys
        .iter()
        .filter(|key| key.presence == Presence::Required)
        .map(|key| key.name)
        .collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        insert(&mut schema, "required", json!(required));
    }
    schema
}

fn value(shape: &Shape) -> Value {
    match shape {
        Shape::Text(kind) => text(*kind),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Int { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Words(words) => {
            let words: Vec<&str> = words.iter().map(|word| word.text).collect();
            json!({ "enum": words })
        }
        Shape::List(of) => json!({ "type": "array", "minItems": 1, "items": value(of) }),
        Shape::Map { key, of } => {
            let mut schema = json!({ "type": "object", "additionalProperties": value(of) });
            if let Some(pattern) = pattern(*key) {
                insert(&mut schema, "propertyNames", json!({ "pattern": pattern }));
            }
            schema
        }
        Shape::Object(fields) => object(fields),
        Shape::Choice { object: fields, of } => {
            let mut schema = object(fields);
            let ways = of.iter().map(|key| json!({ "required": [key] }));
            insert(&mut schema, "oneOf", ways.collect());
            schema
        }
        Shape::AnyOf(shapes) => json!({ "anyOf": shapes.iter().map(value).collect::<Vec<_>>() }),
        Shape::Entries => {
            json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/definitions/entry" } })
        }
    }
}

/// YAML readers turn `1.10` and `true` into other types; where text is wanted they are text.
fn text(kind: Text) -> Value {
    let mut schema = json!({ "type": ["string", "number", "boolean"] });
    if let Some(pattern) = pattern(kind) {
        insert(&mut schema, "pattern", json!(pattern));
    }
    schema
}

fn pattern(kind: Text) -> Option<&'static str> {
    match kind {
        Text::Name => Some("^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"),
        Text::Identifier => Some("^[A-Za-z_][A-Za-z0-9_]{0,62}$"),
        Text::Variable => Some("^[A-Za-z_][A-Za-z0-9_]{0,254}$"),
        Text::Length => Some("^([0-9]+(d|h|ms|m|s))+$"),
        Text::Clock => Some("^([01][0-9]|2[0-3]):[0-5][0-9]$"),
        Text::Cell => Some("^[A-Za-z0-9_.+:@/ ~-]{1,63}$"),
        Text::Fixed(kind) => kind.pattern(),
        Text::Free
        | Text::Script
        | Text::Condition
        | Text::PlanCondition
        | Text::Runtime
        | Text::PlanTime
        | Text::PlanName
        | Text::Duration
        | Text::Glob
        | Text::Path
        | Text::Zone
        | Text::Cron
        | Text::Cpu
        | Text::Memory
        | Text::Size
        | Text::Label
        | Text::Credential => None,
    }
}

pub(crate) fn insert(schema: &mut Value, key: &str, value: Value) {
    if let Some(map) = schema.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}
