//! `pipe check`, `init`, `schema`, `explain`.

use serde_json::Value;

use crate::support::User;

const WRONG: &str = "\
name: web
on: { manual: true }
actions:
  - name: lint
    rum: cargo clippy
  - name: test
    needs: [lnt]
    run: cargo test
";

const GOOD: &str = "on: { manual: true }\nactions:\n  - { name: lint, run: 'true' }\n";

#[test]
fn every_error_is_shown_with_its_place() {
    let called = User::with_pipeline(WRONG).call(&["check"]).expect(2);
    assert!(called.err.contains(".pipe/web.yaml:5:5"), "{}", called.err);
    assert!(called.err.contains(".pipe/web.yaml:7:13"), "{}", called.err);
    assert!(called.err.contains("lint"), "{}", called.err);
    assert!(called.out.contains("✗ .pipe/web.yaml"), "{}", called.out);
    assert!(!called.err.contains('\u{1b}'));
}

#[test]
fn the_forms_for_programs_hold_the_same() {
    let user = User::with_pipeline(WRONG);
    let lines = user.call(&["check", "--format", "lines"]).expect(2);
    assert!(
        lines.out.lines().all(|line| line.starts_with(".pipe/web.yaml:")),
        "{}",
        lines.out
    );
    let json = user.call(&["check", "--output", "json"]).expect(2);
    let all: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(all[0]["valid"], false);
    let diagnostics = all[0]["diagnostics"].as_array().unwrap();
    assert_eq!(diagnostics.len(), lines.out.lines().count());
    assert!(
        diagnostics
            .iter()
            .all(|one| one["code"].as_str().unwrap().starts_with("PK"))
    );
}

#[test]
fn a_good_file_shows_its_graph_and_given_files_alone_are_checked() {
    let user = User::with_pipeline(WRONG);
    user.write("other.yaml", GOOD);
    let called = user.call(&["check", "other.yaml"]).expect(0);
    assert!(called.out.contains("✓ other.yaml"), "{}", called.out);
    assert!(called.out.contains("lint"), "{}", called.out);
}

#[test]
fn missing_files_are_the_users_mistake() {
    let user = User::new();
    let called = user.call(&["check"]).expect(2);
    assert!(called.err.contains("hint: `pipe init`"), "{}", called.err);
    user.call(&["check", "no.yaml"]).expect(2);
}

#[test]
fn init_writes_a_file_that_checks_and_runs_and_stays() {
    let user = User::new();
    user.write("Makefile", "all:\n\ttrue\ntest:\n\ttrue\n");
    let called = user.call(&["init", "--name", "web"]).expect(0);
    assert_eq!(called.out, "wrote .pipe/web.yaml\n");
    user.call(&["check"]).expect(0);
    user.call(&["run"]).expect(0);
    let again = user.call(&["init", "--name", "web"]).expect(2);
    assert!(again.err.contains("is there already"), "{}", again.err);
}

#[test]
fn the_schema_is_json_and_codes_are_explained() {
    let user = User::new();
    let schema = user.call(&["schema"]).expect(0);
    let schema: Value = serde_json::from_str(&schema.out).unwrap();
    assert!(schema["properties"]["actions"].is_object());
    let page = user.call(&["explain", "pk0035"]).expect(0);
    assert!(page.out.contains("PK0035"), "{}", page.out);
    let list = user.call(&["explain"]).expect(0);
    assert!(
        list.out.lines().any(|line| line.starts_with("PK0035")),
        "{}",
        list.out
    );
    user.call(&["explain", "PK9999"]).expect(3);
}
