//! Environments on the command line: from files for runs here, and as documents of a server.

use std::fs;

use crate::{client::Site, support::User};

const KINDS: &str = "\
kind: Environment
name: prod
cluster: eks
namespace: \"${{ project }}-live\"
branches: [main]
approvals: { by: [role:ops] }
vars: { BASE_URL: \"https://shop\", LEVEL: info }
";

const FILE: &str = "\
on: { manual: true }
env: { BASE_URL: none }
actions:
  - { name: build, run: 'echo built' }
  - name: deploy
    environment: prod
    env: { LEVEL: debug }
    run: echo \"to $PIPE_ENVIRONMENT in ${PIPE_NAMESPACE##*-} at $BASE_URL, $LEVEL\"
";

#[test]
fn a_run_here_takes_its_environment_from_a_folder() {
    let user = User::with_pipeline(FILE);
    let unknown = user.call(&["run"]).expect(2);
    assert!(
        unknown.err.contains("environment `prod`: there is none"),
        "{}",
        unknown.err
    );
    assert!(unknown.err.contains("--kinds DIR"), "{}", unknown.err);
    user.write("kinds/prod.yaml", KINDS);
    let run = |more: &[&str]| {
        let args: Vec<&str> = ["run", "--kinds", "kinds", "--branch"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        user.call(&args)
    };
    let auto = run(&["main", "--approve", "auto"]).expect(0);
    assert!(
        auto.out.contains("to prod in live at https://shop, debug"),
        "{}",
        auto.out
    );
    let deny = run(&["main", "--approve", "deny"]).expect(1);
    assert!(
        deny.out.contains("built") && !deny.out.contains("to prod"),
        "{}",
        deny.out
    );
    assert!(deny.out.contains("approve-prod"), "{}", deny.out);
    // Nobody is asked where nothing is admitted.
    let other = run(&["dev"]).expect(0);
    assert!(
        other.out.contains("`prod` does not admit the branch `dev`"),
        "{}",
        other.out
    );
    let dry = run(&["main", "--dry-run"]).expect(0);
    assert!(
        dry.out
            .contains("deploy (environment prod: gate, 1 approval; only `main`) <- build"),
        "{}",
        dry.out
    );
    let graph = user.call(&["check", "--kinds", "kinds"]).expect(0);
    assert!(
        graph.out.contains("environment prod: gate, 1 approval"),
        "{}",
        graph.out
    );
    user.write("kinds/prod.yaml", "kind: Environment\nname: prod\nvar: {}\n");
    let wrong = run(&["main"]).expect(2);
    assert!(wrong.err.contains("kinds/prod.yaml:3:1"), "{}", wrong.err);
}

#[test]
fn a_server_plans_with_what_was_applied_and_a_run_keeps_it() {
    let site = Site::with_pipeline(FILE);
    let refused = site.call(&["start", "web", "web"]).expect(2);
    assert!(
        refused.err.contains("environment `prod`: there is none"),
        "{}",
        refused.err
    );
    let file = site.user.path("kinds.yaml");
    let without_cluster = KINDS
        .replace("cluster: eks\n", "")
        .replace("approvals: { by: [role:ops] }", "approvals: {}");
    fs::write(&file, without_cluster).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap()];
    let applied = site.call(&apply).expect(0);
    assert!(
        applied.out.contains("created   Environment/prod"),
        "{}",
        applied.out
    );
    site.call(&["start", "web", "web"]).expect(0);
    let waiting = site.wait_for_gate();
    assert!(waiting.contains("1/approve-prod"), "{waiting}");
    // What is taken away now is gone for later runs only.
    site.call(&["delete", "Environment/prod"]).expect(0);
    site.call(&["start", "web", "web"]).expect(2);
    site.call(&["approve", "1/approve-prod"]).expect(0);
    let mut log = site.following("1/deploy");
    log.wait_for("to prod in live at https://shop, debug");
}
