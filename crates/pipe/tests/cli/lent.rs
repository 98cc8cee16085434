//! Clusters and registries that are documents, and the rights of the server that actions borrow, on a real cluster.

use std::{env, fs, path::Path, process::Command, time::Instant};

use serde_json::{Value, json};

use crate::{
    client::Site,
    clusters::is_dev_cluster,
    on::Namespace,
    push::private_image,
    support::{Called, PATIENCE, called},
};

const HOOK: &str = "a-secret-of-20-letters";
const TOKEN: &str = "t0ken-of-the-forge";
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// What is masked as it is comes out of `rev` as it went in.
const FILE: &str = r#"on: { push: { branches: [main] } }
image: REGISTRY/busybox:1
actions:
  - parallel:
      - { name: pull, image: PRIVATE, run: echo from a closed registry }
      - name: git
        credentials: [git]
        run: |
          "$GIT_ASKPASS" "Username for 'https://git.test': "
          "$GIT_ASKPASS" "Password for 'https://x-access-token@git.test': "
          "$GIT_ASKPASS" "Password for 'https://x-access-token@git.test': " | rev
          "$GIT_ASKPASS" "Password for 'https://x-access-token@evil.test': " || echo not for others
      - name: registry
        credentials: ["registry:harbor"]
        run: |
          cat "$DOCKER_CONFIG/config.json"
          rev "$DOCKER_CONFIG/config.json"
      - name: cluster
        environment: live
        credentials: ["cluster:dev"]
        run: |
          cat "$KUBECONFIG"
          rev "$KUBECONFIG"
          ls -l "$KUBECONFIG"
          df "$(readlink -f "$KUBECONFIG")" | tail -n 1
      - name: unlent
        allow_failure: true
        credentials: ["registry:other"]
        run: echo never
"#;

fn kubectl(words: &[&str]) -> Called {
    called(Command::new("kubectl").args(words)).expect(0)
}

/// A namespace with these of what deploy/kubernetes has for one, the test's server being the one that may.
fn namespace(name: &str, files: &[&str]) -> Namespace {
    let namespace = Namespace::make(name.to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes");
    for file in files {
        let file = format!("{file}.yaml");
        kubectl(&[
            "--namespace",
            name,
            "apply",
            "--filename",
            folder.join(file).to_str().unwrap(),
        ]);
    }
    for file in files {
        let role = match *file {
            "role" => "pipekeeper".to_owned(),
            other => format!("pipekeeper-{other}"),
        };
        let role_ref = format!("--role={role}");
        let binding = format!("{role}-test");
        kubectl(&[
            "--namespace",
            name,
            "create",
            "rolebinding",
            &binding,
            &role_ref,
            "--user=pipekeeper-test",
        ]);
    }
    namespace
}

fn documents(site: &Site, namespace: &str) -> String {
    let registry = env::var("PIPE_TEST_REGISTRY").unwrap();
    let agent = env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| format!("{registry}/pipekeeper/agent"));
    let closed = env::var("PIPE_TEST_PRIVATE_REGISTRY").unwrap();
    let to_web = json!({ "projects": ["web"] });
    let all: [Value; 6] = [
        json!({ "kind": "Forge", "name": "git", "type": "gitea", "url": "https://git.test", "token": { "secret": "GIT" }, "lend": to_web }),
        json!({ "kind": "Registry", "name": "harbor", "url": format!("http://{closed}"), "insecure": true,
            "credentials": { "secret": "HARBOR" }, "pull_secrets": ["build"], "lend": to_web }),
        json!({ "kind": "Registry", "name": "other", "url": "https://other.test", "credentials": { "secret": "HARBOR" } }),
        json!({ "kind": "Cluster", "name": "dev", "kubeconfig": { "secret": "DEV" }, "agent_image": agent, "lend": to_web,
            "namespaces": { "protected": namespace, "branches": namespace, "forks": namespace } }),
        json!({ "kind": "Environment", "name": "live", "cluster": "dev", "namespace": format!("{namespace}-live") }),
        json!({ "kind": "Project", "name": "web", "forge": "git", "cluster": "dev", "repository": site.user.work(),
            "hook_secret": { "secret": "HOOK" } }),
    ];
    all.map(|one| one.to_string()).join("\n---\n")
}

fn logged(site: &Site, action: &str) -> String {
    let mut following = site.following(action);
    following.wait_for_end();
    site.call(&["logs", action]).expect(0).out
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

/// A server that knows of these documents, whose cluster it cannot reach yet, with a run that waits for it.
fn site(name: &str) -> Site {
    let file = FILE
        .replace("REGISTRY", &env::var("PIPE_TEST_REGISTRY").unwrap())
        .replace("PRIVATE", &private_image(name));
    let mut site = Site::without_project(&file, "");
    let secrets = ["HOOK", "GIT", "HARBOR", "DEV"];
    let secrets = secrets.map(|one| json!({ "kind": "Secret", "name": one }).to_string());
    site.tell(&["apply", "--file", "-"], &secrets.join("\n---\n"))
        .expect(0);
    let credentials = fs::read_to_string(env::var("PIPE_TEST_PRIVATE_CREDENTIALS").unwrap()).unwrap();
    for (secret, value) in [("HOOK", HOOK), ("GIT", TOKEN), ("HARBOR", credentials.trim())] {
        site.tell(&["secret", "set", secret], value).expect(0);
    }
    site.tell(&["apply", "--file", "-"], &documents(&site, name))
        .expect(0);
    site.wait_for_hook();
    let got = site.call(&["get", "Cluster"]).expect(0).err;
    let told = "Cluster/dev cannot be used as it is: it cannot be reached: the Secret `DEV` has no value";
    assert!(got.contains(told), "{got}");
    site.push(NOTHING, HOOK).expect(0);
    site
}

fn assert_git(log: &str) {
    assert!(
        log.contains("\nx-access-token\n") && log.contains("\n***\n") && log.contains(&reversed(TOKEN)),
        "{log}"
    );
    assert!(log.contains("not for others") && !log.contains(TOKEN), "{log}");
}

fn assert_registry(log: &str) {
    let given = given(log);
    let registry = env::var("PIPE_TEST_PRIVATE_REGISTRY").unwrap();
    let auth = given["auths"][registry]["auth"].as_str().unwrap();
    assert!(!log.contains(auth), "{log}");
}

/// The document of which a step showed the reverse.
fn given(log: &str) -> Value {
    let line = log.lines().find(|line| line.ends_with('{')).map(reversed);
    let line = line.unwrap_or_else(|| panic!("no document in:\n{log}"));
    serde_json::from_str(&line).unwrap()
}

/// It is in memory, and good for its own namespace alone.
fn assert_cluster(site: &Site, log: &str) {
    let lent = given(log);
    assert!(
        !log.contains(lent["users"][0]["user"]["token"].as_str().unwrap()),
        "{log}"
    );
    assert!(log.contains("tmpfs"), "{log}");
    let kubeconfig = site.user.path("lent.json");
    fs::write(&kubeconfig, lent.to_string()).unwrap();
    let may = |words: &[&str]| {
        let mut command = Command::new("kubectl");
        command.args(["--kubeconfig", kubeconfig.to_str().unwrap(), "auth", "can-i"]);
        called(command.args(words)).out.trim() == "yes"
    };
    assert!(may(&["patch", "deployments"]));
    assert!(!may(&["patch", "deployments", "--namespace", "default"]));
    assert!(!may(&["create", "rolebindings"]));
}

#[test]
fn slow_actions_borrow_rights_and_clusters_are_documents() {
    if !is_dev_cluster() {
        return;
    }
    let name = format!("pipe-test-lent-{}", std::process::id());
    let _namespace = namespace(&name, &["role", "pull-secrets"]);
    let live = format!("{name}-live");
    let _live = namespace(&live, &["lent-rights"]);
    let mut site = site(&name);
    let file = env::var("PIPE_TEST_SERVER_KUBECONFIG").unwrap();
    let flat = kubectl(&[
        "--kubeconfig",
        &file,
        "config",
        "view",
        "--raw",
        "--flatten",
        "--minify",
    ])
    .out;
    site.tell(&["secret", "set", "DEV"], &flat).expect(0);
    site.wait_for_hook();

    let begun = Instant::now();
    // A delivery becomes a run a moment after it was answered.
    while site.call(&["show", "1"]).code != 0 {
        assert!(begun.elapsed() < PATIENCE, "no run 1");
    }
    assert!(logged(&site, "1/pull").contains("from a closed registry"));
    assert_git(&logged(&site, "1/git"));
    assert_registry(&logged(&site, "1/registry"));
    assert_cluster(&site, &logged(&site, "1/cluster"));
    let why = site.call(&["why", "1/unlent"]).expect(0).out;
    assert!(
        why.contains("the right `registry:other` is lent to nobody"),
        "{why}"
    );

    let secrets = || kubectl(&["--namespace", &name, "get", "secrets", "--output", "name"]).out;
    assert!(secrets().contains("secret/pipekeeper-pull-"), "{}", secrets());
    site.call(&["delete", "Registry/harbor"]).expect(0);
    site.wait_for_hook();
    let begun = Instant::now();
    while secrets().contains("secret/pipekeeper-pull-") {
        assert!(
            begun.elapsed() < PATIENCE,
            "the Secret of a Registry that is gone stays"
        );
    }
}
