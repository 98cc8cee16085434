//! Pushes whose runs are pods of a real cluster, from the signed delivery to what the API tells.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    client::Site,
    clusters::{dev_cluster, is_dev_cluster},
    on::Namespace,
    support::{User, called, git},
};

const SECRET: &str = "plugh-and-xyzzy";

const FILE: &str = r#"on: { push: { branches: [main] } }
image: REGISTRY/busybox:1
caches: { jars: { paths: [jars], mode: volume, volume: shared } }
actions:
  - parallel:
      - name: build
        cache: [jars]
        run: |
          if [ -e jars/of ]; then echo "jars of $(cat jars/of)"; else echo "no jars"; fi
          echo "run $PIPE_RUN_ID" > jars/of
          echo "made by $PIPE_RUN_ID" > made.txt
          echo "word=of-$PIPE_RUN_ID" >> "$PIPE_OUTPUT"
          mv tests.xml report.xml
        artifacts: { made: made.txt }
        reports: { junit: report.xml }
      - name: services
        services:
          rooted: { image: "REGISTRY/root-service:1", ready: wget -qO- http://localhost:8080/ }
          rootless: { image: "REGISTRY/user-service:1", ready: wget -qO- http://localhost:8081/ }
        run: |
          wget -qO- http://rooted:8080/
          wget -qO- http://rootless:8081/
      - name: users
        steps:
          - { name: user, image: "REGISTRY/nonroot:1", run: 'echo step as $(id -u); echo one > file' }
          - { name: root, run: 'echo step as $(id -u); echo two >> file; cat file' }
      - { name: private, image: PRIVATE, run: echo from a closed registry }
      - { name: secret, secrets: [{ name: TOKEN, env: TOKEN }], run: 'echo "the token is $TOKEN."; echo "${#TOKEN} characters"' }
  - name: use
    use: [build.made]
    env: { WORD: "${{ actions.build.outputs.word }}" }
    run: cat made.txt; echo got $WORD
"#;

const REPORT: &str = r#"<testsuite name="shop">
<testcase classname="Cart" name="adds" time="0.1"/>
<testcase classname="Cart" name="pays"><failure message="no money">at Cart.java:7</failure></testcase>
</testsuite>
"#;

/// A namespace in which the server may do what it needs and no more, with the secret for the closed registry.
fn namespace(name: &str) -> Namespace {
    let namespace = Namespace::make(name.to_owned());
    let role = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/role.yaml");
    let kubectl = |words: &[&str]| {
        let mut command = Command::new("kubectl");
        called(command.args(["--namespace", name]).args(words)).expect(0)
    };
    kubectl(&["apply", "--filename", role.to_str().unwrap()]);
    kubectl(&[
        "create",
        "rolebinding",
        "pipekeeper",
        "--role=pipekeeper",
        "--user=pipekeeper-test",
    ]);
    let credentials = fs::read_to_string(env::var("PIPE_TEST_PRIVATE_CREDENTIALS").unwrap()).unwrap();
    let (user, password) = credentials.trim().split_once(':').unwrap();
    let registry = env::var("PIPE_TEST_PRIVATE_REGISTRY").unwrap();
    let secret = ["create", "secret", "docker-registry", "closed"];
    let server = format!("--docker-server={registry}");
    let (user, password) = (
        format!("--docker-username={user}"),
        format!("--docker-password={password}"),
    );
    kubectl(&[&secret[..], &[&server, &user, &password]].concat());
    namespace
}

/// An image that no node has, of the registry that wants a password.
pub(crate) fn private_image(unique: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
    symlink("busybox", bin.join("sh")).unwrap();
    let name = format!("push-{unique}:1");
    let root = folder.path().to_str().unwrap();
    dev_cluster(&["image", "--private", &name, root, "sh"]).expect(0);
    format!("{}/{name}", env::var("PIPE_TEST_PRIVATE_REGISTRY").unwrap())
}

fn site(name: &str) -> Site {
    let registry = env::var("PIPE_TEST_REGISTRY").unwrap();
    let agent = env::var("PIPE_TEST_AGENT_IMAGE").unwrap_or_else(|_| format!("{registry}/pipekeeper/agent"));
    let kubeconfig = env::var("PIPE_TEST_SERVER_KUBECONFIG").unwrap();
    let pipeline = FILE
        .replace("REGISTRY", &registry)
        .replace("PRIVATE", &private_image(name));
    let user = User::with_pipeline(&pipeline);
    user.write("tests.xml", REPORT);
    fs::write(user.path("token"), SECRET).unwrap();
    let config = format!(
        "backend = \"dev\"\nsecrets = {{ TOKEN = {{ file = \"{}\" }} }}\n\
         [clusters.dev]\nkubeconfig = \"{kubeconfig}\"\nagent_image = \"{agent}\"\npull_secrets = [\"closed\"]\n\
         namespaces = {{ protected = \"{name}\", branches = \"{name}\", forks = \"{name}\" }}\n\
         volumes.shared = {{ host_path = \"{}\", nodes = {{ \"kubernetes.io/hostname\" = \"node1\" }} }}\n",
        user.path("token").display(),
        user.path("volume").display(),
    );
    Site::of(user, &config)
}

/// The run with this number, once it has ended.
fn ended(site: &Site, number: u32) -> Value {
    let number = number.to_string();
    let begun = std::time::Instant::now();
    // A delivery becomes a run a moment after it was answered.
    while site.call(&["show", &number]).code != 0 {
        assert!(begun.elapsed() < crate::support::PATIENCE, "no run {number}");
    }
    let mut last = site.following(&format!("{number}/use"));
    last.wait_for("got of-");
    assert_eq!(last.end().0, 0);
    let run = site.call(&["show", &number, "--output", "json"]).expect(0).out;
    serde_json::from_str(&run).unwrap()
}

fn log(site: &Site, action: &str) -> String {
    site.call(&["logs", action]).expect(0).out
}

fn assert_logged(site: &Site, action: &str, lines: &[&str]) {
    let log = log(site, action);
    for line in lines {
        assert!(
            log.lines().any(|found| found == *line),
            "`{line}` is not in:\n{log}"
        );
    }
}

#[test]
fn slow_pushes_run_as_pods() {
    if !is_dev_cluster() {
        return;
    }
    let name = format!("pipe-test-push-{}", std::process::id());
    let _namespace = namespace(&name);
    let site = site(&name);
    let work: PathBuf = site.user.work();
    let first = git(&work, &["rev-parse", "main"]);
    site.push(&"0".repeat(40), "s").expect(0);
    let run = ended(&site, 1);
    assert_eq!(run["sha"], first.as_str());
    let nodes = run["nodes"].as_array().unwrap();
    for node in nodes {
        assert_eq!(node["outcome"], "succeeded", "{node:#}");
    }
    assert_eq!(nodes.len(), 6);
    let node = |name: &str| nodes.iter().find(|node| node["name"] == name).unwrap();
    assert_eq!(node("build")["outputs"], json!({ "word": "of-1" }));
    assert_eq!(node("build")["artifacts"][0]["name"], "made");
    assert_eq!(node("build")["tests"]["failed"], 1, "{:#}", node("build"));
    assert_logged(&site, "1/build", &["no jars"]);
    assert_logged(
        &site,
        "1/services",
        &["service on port 8080", "service on port 8081"],
    );
    assert_logged(&site, "1/users", &["step as 1000", "step as 0", "one", "two"]);
    assert_logged(&site, "1/private", &["from a closed registry"]);
    assert_logged(&site, "1/secret", &["the token is ***.", "15 characters"]);
    assert!(!log(&site, "1/secret").contains(SECRET));
    assert_logged(&site, "1/use", &["made by 1", "got of-1"]);
    let shown = site.call(&["show", "1/build"]).expect(0).out;
    assert!(shown.contains("pays") && shown.contains("no money"), "{shown}");

    site.user.write("more.txt", "more\n");
    git(&work, &["add", "--all"]);
    git(&work, &["commit", "--quiet", "--message", "second"]);
    site.push(&first, "s").expect(0);
    let run = ended(&site, 2);
    assert_eq!(run["sha"], git(&work, &["rev-parse", "main"]).as_str());
    assert_logged(&site, "2/build", &["jars of run 1"]);
    assert_logged(&site, "2/use", &["made by 2", "got of-2"]);
}
