//! `pipe run --on`: the working tree on a cluster of a server.

use std::{env, fs, io::Write as _, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    client::Site,
    support::{called, git},
};

const FILE: &str = "on: { manual: true }
image: REGISTRY/busybox:1
caches: { c: { paths: [kept], key: one } }
actions:
  - name: read
    cache: c
    run: |
      cat data.txt
      echo branch=$PIPE_BRANCH.
      mkdir -p kept && echo 1 > kept/file
      echo word=$(cat data.txt) >> $PIPE_OUTPUT
  - { name: ask, approve: Go on? }
  - { name: last, env: { WORD: '${{ actions.read.outputs.word }}' }, run: 'sleep 12; echo got $WORD' }
";

#[test]
fn a_server_says_what_it_has_not() {
    let site = Site::with_pipeline("on: { manual: true }\nactions: [{ name: a, run: 'true' }]\n");
    let called = site.call(&["run", "--on", "dev"]).expect(3);
    assert!(
        called
            .err
            .contains("this server has no cluster `dev`; it has none"),
        "{}",
        called.err
    );
    let called = site.call(&["run", "--on", "dev", "--project", "shop"]).expect(3);
    assert!(
        called.err.contains("there is no project `shop`"),
        "{}",
        called.err
    );
    site.user.write(
        "elsewhere.yaml",
        "on: { manual: true }\nactions: [{ name: a, run: 'true' }]\n",
    );
    let called = site.call(&["run", "--on", "dev", "elsewhere.yaml"]).expect(2);
    assert!(
        called.err.contains("a server does not find `elsewhere.yaml`"),
        "{}",
        called.err
    );
}

/// A namespace that goes with its test.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn make(name: String) -> Self {
        let namespace = Self(name);
        called(Command::new("kubectl").args(["create", "namespace", &namespace.0])).expect(0);
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let gone = called(Command::new("kubectl").args(["delete", "namespace", "--wait=false", &self.0]));
        drop(write!(std::io::stderr(), "{}", gone.err));
    }
}

#[test]
fn slow_a_working_tree_runs_on_a_servers_cluster() {
    let (Some(kubeconfig), Ok(registry)) = (env::var_os("KUBECONFIG"), env::var("PIPE_TEST_REGISTRY")) else {
        drop(writeln!(
            std::io::stderr(),
            "skipped: this needs KUBECONFIG and PIPE_TEST_REGISTRY"
        ));
        return;
    };
    let agent = env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| format!("{registry}/pipekeeper/agent"));
    let name = format!("pipe-test-on-{}", std::process::id());
    let _namespace = Namespace::make(name.clone());
    // What anybody wrote is on another cluster's namespace than what was reviewed: only the first is there.
    let config = format!(
        "trusted = true\nsecrets = {{ TOKEN = {{ file = \"/dev/null\", tiers = [\"protected\", \"branches\"] }} }}\n[clusters.dev]\nkubeconfig = \"{}\"\nagent_image = \"{agent}\"\n\
         namespaces = {{ protected = \"{name}-no\", branches = \"{name}-no\", forks = \"{name}\" }}\n",
        PathBuf::from(kubeconfig).display()
    );
    let site = Site::configured(&FILE.replace("REGISTRY", &registry), &config);
    let work = site.user.work();
    site.user.write("data.txt", "changed\n");
    let called = site.call(&["run", "--on", "dev", "--approve", "auto"]).expect(0);
    assert!(called.err.contains("/runs/1"), "{}", called.err);
    assert!(called.out.contains("read | changed"), "{}", called.out);
    assert!(called.out.contains("read | branch=."), "{}", called.out);
    assert!(called.out.contains("last | got changed"), "{}", called.out);
    let silence = "last = no output for 10 s: 2 processes";
    assert!(called.out.contains(silence), "{}", called.out);
    let last = called.out.lines().last().unwrap_or_default();
    assert!(last.starts_with("run succeeded in "), "{}", called.out);

    let shown = site.call(&["show", "1", "--output", "json"]).expect(0);
    let run: Value = serde_json::from_str(&shown.out).unwrap();
    let subject = run["subject"].as_str().unwrap();
    assert!(
        subject.starts_with("working tree (main at ") && subject.ends_with(", changed)"),
        "{subject}"
    );
    // Its cache is of its own tier, and serves the next tree.
    let caches = site.call(&["cache", "list"]).expect(0).out;
    assert!(caches.contains("local"), "{caches}");
    let again = site.call(&["run", "--on", "dev", "--action", "read"]).expect(0);
    assert!(again.out.contains("restored"), "{}", again.out);
    assert!(!again.out.contains("last |"), "{}", again.out);

    // A tree is no revision: nobody makes a run of it that would be trusted like a branch.
    let tree = run["sha"].as_str().unwrap();
    let started = site.call(&["start", "web", "web", "--revision", tree]);
    assert_ne!(started.code, 0, "{}", started.out);

    // A failure shows its place and its exit code is that of a run here.
    site.user.write(
        ".pipe/web.yaml",
        &format!("on: {{ manual: true }}\nimage: {registry}/busybox:1\nactions: [{{ name: bad, run: 'echo no; exit 3' }}]\n"),
    );
    let failed = site.call(&["run", "--on", "dev"]).expect(1);
    assert!(failed.out.contains("bad failed (exit code 3)"), "{}", failed.out);
    // What nobody reviewed gets no secret.
    site.user.write(
        ".pipe/web.yaml",
        &format!("on: {{ manual: true }}\nimage: {registry}/busybox:1\nactions: [{{ name: steal, secrets: [TOKEN], run: 'env' }}]\n"),
    );
    let refused = site.call(&["run", "--on", "dev"]).expect(4);
    assert!(
        refused
            .out
            .contains("the secret `TOKEN` is not for runs of working trees"),
        "{}",
        refused.out
    );
    // What git knows nothing of stays at home.
    fs::write(work.join(".gitignore"), "private\n").unwrap();
    site.user.write("private", "mine");
    site.user.write(
        ".pipe/web.yaml",
        &format!(
            "on: {{ manual: true }}\nimage: {registry}/busybox:1\nactions: [{{ name: look, run: 'ls -a' }}]\n"
        ),
    );
    git(&work, &["add", "--all"]);
    let looked = site.call(&["run", "--on", "dev"]).expect(0);
    assert!(looked.out.contains("look | data.txt"), "{}", looked.out);
    assert!(!looked.out.contains("look | private"), "{}", looked.out);
    assert!(
        looked.out.lines().all(|line| line != "look | .git"),
        "{}",
        looked.out
    );
}
