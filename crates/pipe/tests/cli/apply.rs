//! `pipe apply`, `pipe schema --kinds`, `pipe explain KIND`.

use std::{io::Write as _, path::Path, process::Stdio};

use serde_json::Value;

use crate::support::User;

const CLUSTER: &str = "kind: Cluster\nname: eks\nnamespaces: { protected: ci }\n";
const PROD: &str = "kind: Environment\nname: prod\ncluster: eks\nsoak: 4h\nafter: { all: test }\n---\n{ kind: Environment, name: test }\n";
const WRONG: &str = "kind: Environment\nname: prod\ncluster: ekz\nafter: { all: [prod] }\ntga: prod\n";

fn apply<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    let files = paths.iter().flat_map(|path| ["-f", path]);
    ["apply", "--dry-run=offline"].into_iter().chain(files).collect()
}

#[test]
fn a_folder_is_checked_as_one_set() {
    let user = User::new();
    user.write("kinds/b.yaml", CLUSTER);
    user.write("kinds/a.yml", PROD);
    user.write("kinds/notes.txt", "no document");
    let called = user.call(&apply(&["kinds"])).expect(0);
    assert_eq!(
        called.out,
        "✓ Environment/prod\n✓ Environment/test\n✓ Cluster/eks\n"
    );
    assert_eq!(called.err, "");
    let twice = user.call(&apply(&["kinds", "kinds/b.yaml"])).expect(2);
    assert!(twice.err.contains("PK0071"), "{}", twice.err);
}

#[test]
fn every_error_of_every_file_is_shown_with_its_place() {
    let user = User::new();
    user.write("prod.yaml", WRONG);
    user.write("test.yaml", "kind: Enviroment\nname: test\n");
    let called = user.call(&apply(&["prod.yaml", "test.yaml"])).expect(2);
    for place in ["prod.yaml:5:1", "test.yaml:1:7"] {
        assert!(called.err.contains(place), "{place}: {}", called.err);
    }
    assert_eq!(called.out, "✗ 2 found\n");
    let mut json = apply(&["prod.yaml", "test.yaml"]);
    json.extend(["--output", "json"]);
    let json = user.call(&json).expect(2);
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["documents"], Value::Array(Vec::new()));
    assert_eq!(json["diagnostics"][0]["key_path"], "Environment/prod.tga");
    assert_eq!(json["diagnostics"][0]["hint"], "did you mean `tag`?");
    assert_eq!(json["diagnostics"][1]["code"], "PK0070");
}

#[test]
fn the_form_for_programs_is_canonical() {
    let user = User::new();
    user.write("prod.yaml", PROD);
    let mut args = apply(&["prod.yaml"]);
    args.extend(["--output", "json"]);
    let called = user.call(&args).expect(0);
    let json: Value = serde_json::from_str(&called.out).unwrap();
    assert_eq!(
        json["documents"][0].to_string(),
        r#"{"after":{"all":["test"]},"cluster":"eks","kind":"Environment","name":"prod","soak":"4h"}"#
    );
}

#[test]
fn standard_input_is_a_file_too() {
    let user = User::new();
    let mut child = user
        .command(&apply(&["-"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(WRONG.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(errors.contains("standard input:5:1"), "{errors}");
}

#[test]
fn what_cannot_be_read_is_the_users_mistake() {
    let user = User::new();
    user.call(&apply(&["no.yaml"])).expect(2);
    user.write("empty/notes.txt", "");
    let called = user.call(&apply(&["empty"])).expect(2);
    assert!(called.err.contains("there is no `*.yaml`"), "{}", called.err);
    user.call(&["apply", "-f", "empty"]).expect(2);
}

#[test]
fn the_examples_are_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines-examples/kinds");
    let called = User::new().call(&apply(&[folder.to_str().unwrap()])).expect(0);
    assert!(called.out.contains("✓ Environment/prod"), "{}", called.out);
    assert_eq!(called.err, "");
}

#[test]
fn kinds_have_schemas_and_pages() {
    let user = User::new();
    let all = user.call(&["schema", "--kinds"]).expect(0);
    let all: Value = serde_json::from_str(&all.out).unwrap();
    assert!(all["definitions"]["Cluster"]["properties"]["namespaces"].is_object());
    let one = user.call(&["schema", "--kinds=Environment"]).expect(0);
    let one: Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!(one["properties"]["kind"]["const"], "Environment");
    user.call(&["schema", "--kinds=Enviroment"]).expect(2);
    let page = user.call(&["explain", "Environment.soak"]).expect(0);
    assert!(page.out.contains("soak  text  How long"), "{}", page.out);
    let list = user.call(&["explain"]).expect(0);
    assert!(list.out.contains("\nEnvironment  "), "{}", list.out);
}
