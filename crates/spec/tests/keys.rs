//! Nothing that a file says is silently ignored: every key of the schema acts, or is recorded as a feature.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic like tests")]

use std::collections::{BTreeMap, BTreeSet};

use pipekeeper_model::{EventKind, GitRef, Name, Revision, TriggerEvent, plan::Feature};
use pipekeeper_spec::{PlanRequest, SourceFile, Treatment, check, document::Environment, key_table, schema};
use serde_json::{Value, json};

/// Files that use every key; JSON is YAML.
fn samples() -> Vec<Value> {
    vec![
        serde_json::from_str(include_str!("keys.json")).unwrap(),
        json!({
            "name": "other",
            "on": { "pull_request": { "into": ["main"], "test": "merged" } },
            "actions": [{ "run": "x" }]
        }),
    ]
}

/// Those that the samples name on work.
fn environments() -> BTreeMap<Name, Environment> {
    let read = |name: &str| {
        let environment = json!({ "vars": { "BASE_URL": format!("https://{name}.shop") } });
        (
            name.parse().unwrap(),
            serde_json::from_value(environment).unwrap(),
        )
    };
    ["dev", "test"].map(read).into()
}

/// What a file comes to but for places; none if it is refused.
fn meaning(file: &Value) -> Option<(Value, BTreeSet<(Feature, String)>)> {
    let text = file.to_string();
    let source = SourceFile {
        path: "a.yaml",
        text: &text,
    };
    let (pipeline, _) = check(&source).ok()?;
    let event = TriggerEvent {
        kind: EventKind::Push,
        revision: Revision {
            repository: "a/b".to_owned(),
            sha: None,
            git_ref: Some(GitRef::Branch("main".to_owned())),
            subject: String::new(),
        },
        schedule: None,
    };
    let plan = pipeline
        .plan(&PlanRequest {
            event: &event,
            params: &BTreeMap::new(),
            selected: None,
            environments: &environments(),
        })
        .ok()?;
    let features = plan.features.iter().map(|used| (used.feature, used.path.clone()));
    let features = features.collect();
    let mut plan = serde_json::to_value(&plan).unwrap();
    plan.as_object_mut().unwrap().remove("features");
    drop_places(&mut plan);
    let rest = format!("{:?} {:?}", pipeline.triggers(), pipeline.params());
    Some((json!([plan, rest]), features))
}

fn drop_places(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("place");
            map.values_mut().for_each(drop_places);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_places),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The JSON pointers of a key path in a file.
fn pointers(value: &Value, path: &[&str], at: &str, found: &mut Vec<String>) {
    let Some((part, rest)) = path.split_first() else {
        found.push(at.to_owned());
        return;
    };
    let (key, is_list) = part.strip_suffix("[]").map_or((*part, false), |key| (key, true));
    let Some(map) = value.as_object() else {
        if let Some(items) = value.as_array() {
            for (index, item) in items.iter().enumerate() {
                pointers(item, path, &format!("{at}/{index}"), found);
            }
        }
        return;
    };
    for (name, inner) in map {
        if key != "*" && key != name {
            continue;
        }
        let at = format!("{at}/{name}");
        match inner.as_array() {
            Some(items) if is_list && !rest.is_empty() => {
                for (index, item) in items.iter().enumerate() {
                    pointers(item, rest, &format!("{at}/{index}"), found);
                }
            }
            _ => pointers(inner, rest, &at, found),
        }
    }
}

fn without(file: &Value, pointer: &str) -> Value {
    let mut file = file.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    file.pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .remove(key);
    file
}

#[test]
fn every_key_acts_or_is_a_feature() {
    let samples: Vec<_> = samples()
        .into_iter()
        .map(|file| {
            let meaning = meaning(&file);
            assert!(meaning.is_some(), "{:?}", {
                let text = file.to_string();
                check(&SourceFile {
                    path: "a.yaml",
                    text: &text,
                })
                .map(|_| ())
            });
            (file, meaning.unwrap())
        })
        .collect();
    let mut ignored = Vec::new();
    for (path, treatment) in key_table() {
        let parts: Vec<&str> = path.split('.').collect();
        let is_seen = samples.iter().any(|(file, (whole, features))| {
            let mut found = Vec::new();
            pointers(file, &parts, "", &mut found);
            found.iter().any(|pointer| match treatment {
                Treatment::Acts => meaning(&without(file, pointer)).is_none_or(|(less, _)| less != *whole),
                Treatment::Needs(feature) => features.iter().any(|(used, _)| *used == feature),
            })
        });
        if !is_seen {
            ignored.push(path);
        }
    }
    assert!(ignored.is_empty(), "neither act nor are refused: {ignored:#?}");
}

#[test]
fn the_table_is_known() {
    let lines: Vec<String> = key_table()
        .into_iter()
        .map(|(path, treatment)| match treatment {
            Treatment::Acts => format!("{path}: acts"),
            Treatment::Needs(feature) => format!("{path}: needs {feature:?}"),
        })
        .collect();
    insta::assert_snapshot!("table", lines.join("\n"));
}

#[test]
fn every_key_of_the_schema_is_in_the_table() {
    fn walk(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            };
            found.insert(path.clone());
            walk(inner, &path, found);
        }
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], &format!("{path}.*"), found);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"), found);
        }
        for one in schema["anyOf"].as_array().into_iter().flatten() {
            let one = if one["items"].is_object() {
                &one["items"]
            } else {
                one
            };
            walk(one, path, found);
        }
    }
    let schema = schema();
    let mut found = BTreeSet::new();
    walk(&schema, "", &mut found);
    walk(&schema["definitions"]["entry"], "actions[]", &mut found);
    let table: BTreeSet<String> = key_table().into_iter().map(|(path, _)| path).collect();
    assert_eq!(found, table);
    assert!(table.len() > 150, "{}", table.len());
}

#[test]
fn schema_and_check_agree() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for file in samples() {
        let errors: Vec<String> = validator
            .iter_errors(&file)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    for (file, is_good) in [
        (json!({ "actions": [{ "run": "x" }] }), true),
        (
            json!({ "actions": [{ "run": "x", "env": { "A": 1.5, "B": true } }] }),
            true,
        ),
        (
            json!({ "actions": [{ "approve": "ok?" }], "on": { "push": true, "tag": "v*" } }),
            true,
        ),
        (json!({ "actions": [] }), false),
        (json!({}), false),
        (json!({ "actions": [{ "name": "x" }] }), false),
        (json!({ "actions": [{ "run": ["x"] }] }), false),
        (json!({ "actions": [{ "run": null }] }), false),
        (json!({ "actions": [{ "run": "x", "rum": "y" }] }), false),
        (json!({ "actions": [{ "run": "x", "name": "a b" }] }), false),
        (
            json!({ "actions": [{ "run": "x", "retry": { "attempts": 0 } }] }),
            false,
        ),
        (json!({ "actions": [{ "run": "x", "checkout": "no" }] }), false),
        (json!({ "actions": [{ "wait": { "until": "25:00" } }] }), false),
        (json!({ "actions": [{ "run": "x", "env": { "1": "x" } }] }), false),
        (
            json!({ "actions": [{ "steps": [{ "run": "x", "timeout": "soon" }] }] }),
            false,
        ),
        (
            json!({ "actions": [{ "run": "x" }], "on_failure": "stopp" }),
            false,
        ),
        (
            json!({ "actions": [{ "run": "x" }], "max_parallel": "3 or so" }),
            false,
        ),
    ] {
        assert_eq!(validator.is_valid(&file), is_good, "schema: {file}");
        assert_eq!(meaning(&file).is_some(), is_good, "check: {file}");
    }
}
