//! `pipe cache`, of local runs.

use serde_json::Value;

use crate::support::User;

const FILE: &str = "name: web
caches: { deps: { paths: [target], key: { files: [lock] } } }
actions:
  - name: build
    cache: [deps]
    run: |
      ls target || true
      mkdir -p target
      head -c 100000 /dev/urandom > target/out
";

fn caches(user: &User) -> Vec<Value> {
    let listed = user.call(&["cache", "list", "--output", "json"]).expect(0);
    let all: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(all["quota"]["total"], 50_u64 << 30);
    all["caches"].as_array().unwrap().clone()
}

#[test]
fn caches_are_listed_and_removed() {
    let user = User::with_pipeline(FILE);
    assert!(user.call(&["cache", "list"]).expect(0).err.contains("no caches"));
    user.write("lock", "1");
    user.call(&["run"]).expect(0);
    user.write("lock", "2");
    user.call(&["run"]).expect(0);
    let all = caches(&user);
    assert_eq!(all.len(), 2, "{all:?}");
    let work = user.work().canonicalize().unwrap().display().to_string();
    for one in &all {
        assert_eq!(
            (&one["name"], &one["tier"], &one["tree"]),
            (
                &Value::from("deps"),
                &Value::from("local"),
                &Value::from(work.as_str())
            )
        );
        assert!(one["bytes"].as_u64().unwrap() > 100_000, "{one}");
    }
    let text = user.call(&["cache", "list"]).expect(0);
    assert!(text.out.starts_with("NAME/KEY"), "{}", text.out);
    assert!(text.err.contains("2 caches, "), "{}", text.err);
    let other = user.call(&["cache", "list", "--project", "other"]).expect(0);
    assert_eq!(other.out, "");

    user.call(&["cache", "rm"]).expect(2);
    user.call(&["cache", "rm", "deps", "--all"]).expect(2);
    let missing = user.call(&["cache", "rm", "npm"]).expect(3);
    assert!(missing.err.contains("pipe cache list"), "{}", missing.err);
    let young = user.call(&["cache", "rm", "--older-than", "1h"]).expect(0);
    assert!(young.err.contains("nothing was removed"), "{}", young.err);

    let title = format!("deps/{}", &all[0]["key"].as_str().unwrap()[..12]);
    let one = user.call(&["cache", "rm", &title]).expect(0);
    assert!(
        one.out.starts_with(&format!("removed {title} of ")),
        "{}",
        one.out
    );
    assert!(one.err.contains("removed 1 cache, "), "{}", one.err);
    user.call(&["cache", "rm", "--all"]).expect(0);
    assert!(caches(&user).is_empty());
    // Without it everything works as before.
    user.call(&["run"]).expect(0);
}

#[test]
fn what_is_beyond_the_quota_goes_and_is_told() {
    let user = User::with_pipeline(FILE);
    user.write("lock", "1");
    let mut first = user.command(&["run"]);
    crate::support::called(first.env("PIPE_CACHES__PROJECT", "150k")).expect(0);
    user.write("lock", "2");
    let mut second = user.command(&["run"]);
    let said = crate::support::called(second.env("PIPE_CACHES__PROJECT", "150k")).expect(0);
    assert!(said.err.contains("evicted the cache `deps`"), "{}", said.err);
    assert_eq!(caches(&user).len(), 1);
    let mut wrong = user.command(&["cache", "list"]);
    crate::support::called(wrong.env("PIPE_CACHES__TOTAL", "much")).expect(2);
}

#[test]
fn a_named_server_is_asked_and_local_ones_are_meant_otherwise() {
    let user = User::new();
    let mut asked = user.command(&["cache", "list"]);
    let asked = crate::support::called(asked.env("PIPE_SERVER", "http://127.0.0.1:9")).expect(4);
    assert!(asked.err.contains("nobody answers"), "{}", asked.err);
    let mut local = user.command(&["cache", "list", "--local"]);
    crate::support::called(local.env("PIPE_SERVER", "http://127.0.0.1:9")).expect(0);
}
