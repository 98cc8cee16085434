use pipekeeper_model::{Actor, GitRef};
use proptest::prelude::{any, prop, proptest};
use serde_json::{Value, json};

use super::{ChangedPaths, ForgeEvent, ParseFailure, Push, parse};
use crate::ForgeKind;

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";
const ZERO: &str = "0000000000000000000000000000000000000000";

fn github() -> Value {
    json!({
        "ref": "refs/heads/main", "before": OLD, "after": NEW,
        "created": false, "deleted": false, "forced": false, "base_ref": null,
        "compare": "https://github.example/mall/web/compare/1...2",
        "repository": {
            "id": 7, "full_name": "mall/web", "private": true, "owner": { "login": "mall" },
            "clone_url": "https://github.example/mall/web.git", "default_branch": "main"
        },
        "pusher": { "name": "ada", "email": "ada@corp.example" },
        "sender": { "login": "ada", "id": 12, "type": "User" },
        "commits": [
            { "id": OLD, "message": "first", "author": { "name": "Eve", "username": "eve" }, "distinct": true,
              "added": ["src/cart.rs"], "removed": [], "modified": ["README.md"] },
            { "id": NEW, "message": "second\n\nbody", "author": { "name": "Eve" }, "distinct": true,
              "added": [], "removed": ["old.txt"], "modified": ["README.md"] }
        ],
        "head_commit": { "id": NEW, "message": "second\n\nbody", "added": [], "removed": ["old.txt"], "modified": ["README.md"] }
    })
}

fn gitea() -> Value {
    json!({
        "ref": "refs/heads/main", "before": OLD, "after": NEW,
        "compare_url": "http://gitea.corp/mall/web/compare/1...2", "total_commits": 1,
        "commits": [
            { "id": NEW, "message": "add a cart\n", "url": "http://gitea.corp/c", "verification": null,
              "author": { "name": "Eve", "email": "e@x", "username": "eve" }, "timestamp": "2026-11-21T10:00:00Z",
              "added": ["src/cart.rs"], "removed": null, "modified": null }
        ],
        "head_commit": { "id": NEW, "message": "add a cart\n", "added": ["src/cart.rs"], "removed": [], "modified": [] },
        "repository": { "id": 3, "full_name": "mall/web", "clone_url": "http://gitea.corp/mall/web.git" },
        "pusher": { "id": 1, "login": "ada", "full_name": "Ada", "username": "ada" },
        "sender": { "id": 1, "login": "ada", "full_name": "Ada", "username": "ada" }
    })
}

fn event(kind: ForgeKind, payload: &Value) -> ForgeEvent {
    parse(kind, "push", payload.to_string().as_bytes()).unwrap()
}

fn push(kind: ForgeKind, payload: &Value) -> Push {
    match event(kind, payload) {
        ForgeEvent::Push(push) => push,
        other @ (ForgeEvent::Ping | ForgeEvent::Ignored { .. }) => panic!("{other:?}"),
    }
}

fn with(mut payload: Value, key: &str, value: impl Into<Value>) -> Value {
    payload[key] = value.into();
    payload
}

fn listed(paths: &[&str]) -> ChangedPaths {
    ChangedPaths::Listed(paths.iter().map(|path| (*path).to_owned()).collect())
}

#[test]
fn a_github_push_is_read() {
    let expected = Push {
        repository: "mall/web".into(),
        clone_url: Some("https://github.example/mall/web.git".into()),
        git_ref: GitRef::Branch("main".into()),
        before: Some(OLD.parse().unwrap()),
        after: Some(NEW.parse().unwrap()),
        pusher: Actor::Forge {
            forge: "github".into(),
            login: "ada".into(),
        },
        subject: "second".into(),
        changed: listed(&["README.md", "old.txt", "src/cart.rs"]),
        commits: 2,
    };
    assert_eq!(push(ForgeKind::GitHub, &github()), expected);
}

#[test]
fn a_gitea_push_is_read() {
    let read = push(ForgeKind::Gitea, &gitea());
    assert_eq!(read.subject, "add a cart");
    assert_eq!(read.pusher.to_string(), "ada@gitea");
    assert_eq!(read.changed, listed(&["src/cart.rs"]));
    assert_eq!(read.commits, 1);
}

#[test]
fn tags_and_deletes_are_pushes() {
    for (kind, payload) in [(ForgeKind::GitHub, github()), (ForgeKind::Gitea, gitea())] {
        let tag = with(with(payload.clone(), "ref", "refs/tags/v1.0"), "before", ZERO);
        let tag = push(kind, &tag);
        assert_eq!(tag.git_ref, GitRef::Tag("v1.0".into()));
        assert_eq!(tag.before, None);
        assert_eq!(tag.changed, ChangedPaths::Unknown);

        let gone = with(with(payload, "after", ZERO), "head_commit", Value::Null);
        let gone = push(kind, &with(gone, "commits", json!([])));
        assert_eq!(gone.after, None);
        assert_eq!(gone.subject, "");
        assert_eq!(gone.changed, ChangedPaths::Unknown);
    }
}

#[test]
fn an_incomplete_list_of_paths_is_unknown() {
    let unlisted = json!([{ "id": NEW, "message": "x" }]);
    let many: Vec<String> = (0..2_001).map(|n| n.to_string()).collect();
    let many = json!([{ "message": "x", "added": many }]);
    let long = json!([{ "message": "x", "added": ["p".repeat(5_000)] }]);
    let full = json!(vec![json!({ "message": "x", "added": ["a"] }); 2_048]);
    for payload in [
        with(github(), "forced", true),
        with(github(), "commits", Value::Null),
        with(github(), "commits", unlisted),
        with(github(), "commits", many),
        with(github(), "commits", long),
        with(github(), "commits", full),
    ] {
        assert_eq!(push(ForgeKind::GitHub, &payload).changed, ChangedPaths::Unknown);
    }

    let cut = push(ForgeKind::Gitea, &with(gitea(), "total_commits", 9));
    assert_eq!((cut.changed, cut.commits), (ChangedPaths::Unknown, 9));
    let five = json!(vec![json!({ "message": "x", "added": ["a"] }); 5]);
    let old_server = with(with(gitea(), "total_commits", Value::Null), "commits", five);
    assert_eq!(push(ForgeKind::Gitea, &old_server).changed, ChangedPaths::Unknown);
}

#[test]
fn what_starts_no_run_is_ignored_by_name() {
    let note = with(github(), "ref", "refs/notes/commits");
    let odd = with(github(), "ref", "refs/heads/--upload-pack=x\u{1b}");
    let reasons = [
        event(ForgeKind::GitHub, &note),
        event(ForgeKind::GitHub, &odd),
        parse(ForgeKind::GitHub, "issues", b"not read").unwrap(),
        parse(ForgeKind::Gitea, "delete", b"not read").unwrap(),
        parse(ForgeKind::Gitea, "", b"").unwrap(),
    ]
    .map(|event| match event {
        ForgeEvent::Ignored { reason } => reason,
        other @ (ForgeEvent::Ping | ForgeEvent::Push(_)) => panic!("{other:?}"),
    });
    for (reason, part) in reasons.iter().zip([
        "refs/notes/commits",
        "--upload-pack=x`",
        "`issues`",
        "`delete`",
        "no event",
    ]) {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(parse(ForgeKind::GitHub, "ping", b"{}").unwrap(), ForgeEvent::Ping);
}

#[test]
fn hostile_text_is_cleaned_and_cut() {
    let mut payload = github();
    payload["head_commit"]["message"] = format!("\u{1b}[31mred\u{202e}{}", "x".repeat(500)).into();
    payload["sender"]["login"] = "ada\r\nroot".into();
    payload["repository"]["full_name"] = "mall/\u{0}web".into();
    let read = push(ForgeKind::GitHub, &payload);
    assert!(read.subject.starts_with("[31mredx"));
    assert_eq!(read.subject.chars().count(), 200);
    assert_eq!(read.pusher.to_string(), "ada@github");
    assert_eq!(read.repository, "mall/web");
}

#[test]
fn broken_payloads_fail_with_the_cause() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    assert!(matches!(
        parse(ForgeKind::GitHub, "push", deep.as_bytes()),
        Err(ParseFailure::TooDeep { .. })
    ));
    let buried = format!(r#"{{"x":{deep},"ref":"refs/heads/main"}}"#);
    assert!(matches!(
        parse(ForgeKind::Gitea, "push", buried.as_bytes()),
        Err(ParseFailure::TooDeep { .. })
    ));
    for bad in [
        "",
        "[]",
        "{}",
        "{\"ref\":1}",
        &with(github(), "after", "HEAD").to_string(),
    ] {
        let failure = parse(ForgeKind::GitHub, "push", bad.as_bytes());
        assert!(matches!(failure, Err(ParseFailure::BadJson(_))), "{bad}");
    }
}

#[test]
fn a_form_is_read_like_json() {
    let body = github()
        .to_string()
        .replace('%', "%25")
        .replace('+', "%2B")
        .replace('&', "%26");
    let form = format!("payload={body}");
    assert_eq!(
        parse(ForgeKind::GitHub, "push", form.as_bytes()).unwrap(),
        event(ForgeKind::GitHub, &github())
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        for kind in ForgeKind::ALL {
            let _ = parse(kind, "push", &body);
        }
    }

    #[test]
    fn a_damaged_payload_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for (kind, payload) in [(ForgeKind::GitHub, github()), (ForgeKind::Gitea, gitea())] {
            let mut body = payload.to_string().into_bytes();
            let at = at.index(body.len());
            body[at] = byte;
            let _ = parse(kind, "push", &body);
        }
    }
}
