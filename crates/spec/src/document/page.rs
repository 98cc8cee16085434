//! What people and editors are told of the kinds, made from their keys: schemas, tables and pages.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Kind;
use crate::{
    grammar::{Key, Object, Presence, Shape},
    schema::{insert, object},
    shape::join,
};

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$";

/// The JSON Schema (draft-07) of documents of one kind.
pub fn document_schema(kind: Kind) -> Value {
    let mut schema = bare_schema(kind);
    head(&mut schema, &format!("Pipekeeper {kind}"));
    schema
}

/// The JSON Schema (draft-07) of documents of any kind.
pub fn documents_schema() -> Value {
    let definitions = Kind::ALL
        .iter()
        .map(|kind| (kind.to_string(), bare_schema(*kind)));
    let definitions: serde_json::Map<String, Value> = definitions.collect();
    let references = Kind::ALL
        .iter()
        .map(|kind| json!({ "$ref": format!("#/definitions/{kind}") }));
    let mut schema = json!({ "oneOf": references.collect::<Vec<_>>(), "definitions": definitions });
    head(&mut schema, "Pipekeeper document");
    schema
}

fn head(schema: &mut Value, title: &str) {
    insert(
        schema,
        "$schema",
        json!("http://json-schema.org/draft-07/schema#"),
    );
    insert(schema, "title", json!(title));
}

fn bare_schema(kind: Kind) -> Value {
    let mut schema = object(kind.keys());
    if let Some(properties) = schema.get_mut("properties") {
        let description = "What the document is about.";
        insert(
            properties,
            "kind",
            json!({ "const": kind.as_str(), "description": description }),
        );
        let name = json!({
            "type": ["string", "number", "boolean"],
            "pattern": NAME,
            "description": "What other documents call it.",
        });
        insert(properties, "name", name);
    }
    let required = kind.keys().keys.iter().filter(|key| is_required(key));
    let required: Vec<&str> = ["kind", "name"]
        .into_iter()
        .chain(required.map(|key| key.name))
        .collect();
    insert(&mut schema, "required", json!(required));
    schema
}

fn is_required(key: &Key) -> bool {
    key.presence == Presence::Required
}

/// One key of a kind, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its path: `[]` stands for an item, `*` for a key of the user's choice.
    pub path: String,
    /// What it takes.
    pub takes: String,
    /// What it means.
    pub help: &'static str,
}

/// Every key of a kind beside `kind` and `name`.
pub fn document_table(kind: Kind) -> Vec<KeyRow> {
    let mut rows = Vec::new();
    object_rows("", kind.keys(), &mut rows);
    rows
}

fn object_rows(path: &str, object: &Object, rows: &mut Vec<KeyRow>) {
    for key in object.keys {
        let path = join(path, key.name);
        rows.push(KeyRow {
            path: path.clone(),
            takes: takes(&key.shape),
            help: key.help,
        });
        shape_rows(&path, &key.shape, rows);
    }
}

fn shape_rows(path: &str, shape: &Shape, rows: &mut Vec<KeyRow>) {
    match shape {
        Shape::List(of) => shape_rows(&format!("{path}[]"), of, rows),
        Shape::Map { of, .. } => shape_rows(&format!("{path}.*"), of, rows),
        Shape::Object(object) | Shape::Choice { object, .. } => object_rows(path, object, rows),
        Shape::Text(_)
        | Shape::Bool
        | Shape::Int { .. }
        | Shape::Words(_)
        | Shape::AnyOf(_)
        | Shape::Entries => {}
    }
}

fn takes(shape: &Shape) -> String {
    match shape {
        Shape::Text(_) => "text".to_owned(),
        Shape::Bool => "`true`, `false`".to_owned(),
        Shape::Int { min, max } => format!("{min} to {max}"),
        Shape::Words(words) => {
            let words = words.iter().map(|word| format!("`{}`", word.text));
            words.collect::<Vec<_>>().join(", ")
        }
        Shape::List(of) => format!("list: {}", takes(of)),
        Shape::Map { of, .. } => format!("for each name: {}", takes(of)),
        Shape::Object(_) => "keys".to_owned(),
        Shape::Choice { of, .. } => format!("keys, one of `{}`", of.join("`, `")),
        // Of one value and a list of such, the list says both.
        Shape::AnyOf(shapes) => shapes.last().map(takes).unwrap_or_default(),
        Shape::Entries => "list".to_owned(),
    }
}

/// The page of a kind (`Environment`) or of one of its keys (`Environment.approvals`), in any case of letters.
pub fn explain_key(text: &str) -> Option<String> {
    let (kind, rest) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let kind = Kind::ALL
        .iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(kind))?;
    let rows = document_table(*kind);
    let plain = |path: &str| path.replace("[]", "").replace(".*", "");
    let is_below = |path: &str| {
        plain(path)
            .strip_prefix(rest)
            .is_some_and(|tail| rest.is_empty() || tail.is_empty() || tail.starts_with('.'))
    };
    let rows: Vec<_> = rows.into_iter().filter(|row| is_below(&row.path)).collect();
    if rows.is_empty() {
        return None;
    }
    let mut page = format!("# {kind}\n\n{}\n\n", kind.help());
    let width = |column: fn(&KeyRow) -> &str| {
        let widths = rows.iter().map(|row| column(row).chars().count());
        widths.max().unwrap_or(0)
    };
    let (paths, taken) = (width(|row| &row.path), width(|row| &row.takes));
    for KeyRow { path, takes, help } in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{path:paths$}  {takes:taken$}  {help}");
    }
    Some(page)
}
