//! Usage, completions, doctor.

use serde_json::Value;

use crate::support::User;

#[test]
fn wrong_usage_is_exit_2_and_help_is_0() {
    let user = User::new();
    user.call(&[]).expect(2);
    user.call(&["no-such-command"]).expect(2);
    user.call(&["run", "--approve", "maybe"]).expect(2);
    let help = user.call(&["--help"]).expect(0);
    assert!(help.out.contains("Exit codes: 0 done"), "{}", help.out);
    assert!(!help.out.contains("hook-post"), "{}", help.out);
    user.call(&["agent"]).expect(2);
    user.call(&["--version"]).expect(0);
}

#[test]
fn completions_name_the_commands() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish"] {
        let called = user.call(&["completions", shell]).expect(0);
        assert!(called.out.contains("approve"), "{shell}");
    }
    user.call(&["completions", "dos"]).expect(2);
}

#[test]
fn the_doctor_looks_at_everything() {
    let called = User::new().call(&["doctor", "--output", "json", "--server", "http://127.0.0.1:9"]);
    let called = called.expect(0);
    let all: Value = serde_json::from_str(&called.out).unwrap();
    let verdict = |what: &str| {
        all.as_array()
            .unwrap()
            .iter()
            .find(|one| one["what"] == what)
            .unwrap_or_else(|| panic!("{what}: {all}"))["verdict"]
            .clone()
    };
    for what in ["git", "sh", "backend", "clock", "config", "data"] {
        assert_eq!(verdict(what), "ok", "{what}");
    }
    assert_eq!(verdict("server"), "warn");
}

#[test]
fn a_token_is_made_on_request_only() {
    let user = User::new();
    let data = user.path("server").display().to_string();
    let missing = user.call(&["token", "--data-dir", &data]).expect(3);
    assert!(missing.err.contains("name the server's own"), "{}", missing.err);
    let first = user.call(&["token", "--data-dir", &data, "--new"]).expect(0);
    assert!(first.out.starts_with("pk_"));
    let again = user.call(&["token", "--data-dir", &data]).expect(0);
    assert_eq!(first.out, again.out);
    let new = user.call(&["token", "--data-dir", &data, "--new"]).expect(0);
    assert_ne!(first.out, new.out);
}
