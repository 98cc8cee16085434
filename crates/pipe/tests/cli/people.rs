//! People on the command line: added, logged in, limited, logged out, and what the audit log says of it.

use std::fs;

use serde_json::Value;

use crate::{
    client::Site,
    support::{Called, called},
};

impl Site {
    /// Calls with these lines as stdin.
    pub(crate) fn tell(&self, args: &[&str], lines: &str) -> Called {
        let file = self.user.path("stdin");
        fs::write(&file, lines).unwrap();
        let mut command = self.command(args);
        called(command.stdin(fs::File::open(&file).unwrap()))
    }
}

#[test]
fn people_log_in_and_do_what_their_roles_say() {
    let site = Site::with_pipeline(
        "on: { manual: true }\nactions:\n  - { name: ask, approve: Ship it? }\n  - { name: ship, run: 'true' }\n",
    );
    let password = "correct horse battery\n";
    let add = [
        "user",
        "add",
        "ann",
        "--role",
        "developer@web",
        "--identity",
        "ann@gitea",
        "--password",
    ];
    let added = site.tell(&add, password).expect(0);
    assert!(added.out.contains("developer@web  ann@gitea"), "{}", added.out);
    let short = site
        .tell(&["user", "add", "bob", "--password"], "short\n")
        .expect(2);
    assert!(short.err.contains("fewer than 12 characters"), "{}", short.err);

    let wrong = site
        .tell(&["login", "--name", "ann"], "not it at all\n")
        .expect(3);
    assert!(
        wrong.err.contains("name and password do not fit"),
        "{}",
        wrong.err
    );
    site.tell(&["login"], &format!("ann\n{password}")).expect(0);
    let me = site.call(&["user"]).expect(0);
    assert_eq!(me.out, "ann  developer@web\n");
    site.call(&["start", "web", "web"]).expect(0);
    let denied = site.call(&["audit"]).expect(3);
    assert!(
        denied.err.contains("it takes the role maintainer"),
        "{}",
        denied.err
    );

    let drawn = site
        .call(&["token", "draw", "a robot", "--role", "viewer", "--days", "2"])
        .expect(0);
    let mut robot = site.command(&["cancel", "1"]);
    let refused = called(robot.env("PIPE_TOKEN", drawn.out.trim())).expect(3);
    assert!(
        refused
            .err
            .contains("`ann` may not cancel a run in project `web`"),
        "{}",
        refused.err
    );
    let listed = site.call(&["token", "list"]).expect(0);
    assert_eq!(listed.out.lines().count(), 2, "{}", listed.out);
    assert!(listed.out.contains("a robot"), "{}", listed.out);
    site.call(&["cancel", "1"]).expect(0);
    site.call(&["logout"]).expect(0);

    audit_says_who_did_what(&site, drawn.out.trim());
    site.call(&["user", "set", "ann", "--disable"]).expect(0);
    site.tell(&["login", "--name", "ann"], password).expect(3);
    site.call(&["user", "remove", "ann"]).expect(0);
    let nobody = site.call(&["user", "list"]).expect(0);
    assert!(nobody.err.contains("nobody can log in yet"), "{}", nobody.err);
}

#[test]
fn documents_are_compared_applied_and_shown() {
    let site = Site::with_pipeline("on: { manual: true }\nactions: [{ name: a, run: 'true' }]\n");
    let file = |role: &str| {
        format!("{{ kind: RoleBinding, name: team, role: {role}, users: [ann], projects: [web] }}\n")
    };
    let apply = |role: &str, more: &[&str]| {
        let args: Vec<&str> = ["apply", "-f", "-"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        site.tell(&args, &file(role))
    };
    let compared = apply("developer", &["--dry-run", "server"]).expect(0);
    assert!(
        compared.out.contains("created   RoleBinding/team"),
        "{}",
        compared.out
    );
    assert!(
        site.call(&["get"])
            .expect(0)
            .err
            .contains("there are no documents")
    );
    apply("developer", &[]).expect(0);
    let changed = apply("maintainer", &[]).expect(0);
    assert!(
        changed.out.contains("role: \"developer\" → \"maintainer\""),
        "{}",
        changed.out
    );
    let all = site.call(&["get"]).expect(0);
    assert!(all.out.starts_with("RoleBinding/team"), "{}", all.out);
    let one = site.call(&["get", "rolebinding/team"]).expect(0);
    assert!(one.out.contains("\"role\": \"maintainer\""), "{}", one.out);
    let history = site.call(&["get", "RoleBinding/team", "--history"]).expect(0);
    assert_eq!(history.out.lines().count(), 2, "{}", history.out);
    let bare = "{ kind: Cluster, name: dev, namespaces: { protected: ci } }\n";
    let refused = site.tell(&["apply", "-f", "-"], bare).expect(2);
    assert!(refused.err.contains("has no `agent_image`"), "{}", refused.err);
    site.tell(&["apply", "-f", "-"], "kind: Nothing\n").expect(2);
    site.call(&["get", "Forge/none"]).expect(3);
    site.call(&["delete", "RoleBinding/team"]).expect(0);
    site.call(&["delete", "RoleBinding/team"]).expect(3);
    let history = site.call(&["get", "RoleBinding/team", "--history"]).expect(0);
    assert!(history.out.starts_with("removed"), "{}", history.out);
}

/// Whoever can read the server's folder is its owner.
fn audit_says_who_did_what(site: &Site, secret: &str) {
    let audit = site.call(&["audit", "--all", "--output", "json"]).expect(0);
    let entries: Vec<Value> = serde_json::from_str(&audit.out).unwrap();
    let verbs: Vec<&str> = entries
        .iter()
        .rev()
        .map(|entry| entry["verb"].as_str().unwrap())
        .collect();
    assert_eq!(
        verbs,
        [
            "user.add",
            "login.refused",
            "token.draw",
            "run.start",
            "token.draw",
            "run.cancel",
            "token.revoke"
        ]
    );
    assert!(!audit.out.contains("battery") && !audit.out.contains(secret));
    let of_run = site.call(&["audit", "run/1"]).expect(0);
    assert!(
        of_run.out.contains("ann from 127.0.0.1  run.cancel  run/1"),
        "{}",
        of_run.out
    );
}
