//! The one form of a document, and what differs between two.

use serde::Serialize;
use serde_json::Value;

use super::Document;

/// One key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key path, such as `approvals.count`.
    pub path: String,
    /// The value before; none where the key was not there.
    pub old: Option<Value>,
    /// The value now; none where the key is not there.
    pub new: Option<Value>,
}

impl Document {
    /// The document as JSON: sorted keys, defaults left out. Two texts of the same meaning have the same one.
    ///
    /// # Errors
    ///
    /// Only if a document cannot be JSON, which none of ours is.
    pub fn to_canonical(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }
}

/// What differs between two canonical documents, by key. Lists are compared as a whole.
pub fn diff(old: &Value, new: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    found
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Change>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(before)), Some(Value::Object(now))) = (old, new) {
        let added = now.keys().filter(|key| !before.contains_key(*key));
        let mut keys: Vec<&String> = before.keys().chain(added).collect();
        keys.sort();
        for key in keys {
            compare(
                &crate::shape::join(path, key),
                before.get(key),
                now.get(key),
                found,
            );
        }
        return;
    }
    found.push(Change {
        path: path.to_owned(),
        old: old.cloned(),
        new: new.cloned(),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::diff;

    #[test]
    fn changes_are_told_by_key_with_both_values() {
        let old =
            json!({ "kind": "Environment", "approvals": { "count": 2, "by": ["role:ops"] }, "soak": "4h" });
        let new =
            json!({ "kind": "Environment", "approvals": { "by": ["role:ops", "user:ann"] }, "auto": true });
        let lines: Vec<String> = diff(&old, &new)
            .into_iter()
            .map(|change| {
                let show = |value: Option<serde_json::Value>| {
                    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
                };
                format!("{}: {} → {}", change.path, show(change.old), show(change.new))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "approvals.by: [\"role:ops\"] → [\"role:ops\",\"user:ann\"]",
                "approvals.count: 2 → -",
                "auto: - → true",
                "soak: \"4h\" → -",
            ]
        );
        assert_eq!(diff(&old, &old), []);
    }
}
