//! The JSON Schema of the pipeline file.
use serde_json::{Value, json};

use crate::grammar::Treatment;

/// The JSON Schema (draft-07) of the pipeline file.
pub fn schema() -> Value {
    json!({})
}

/// Every key path of the schema with what it leads to.
pub fn key_table() -> Vec<(String, Treatment)> {
    Vec::new()
}
