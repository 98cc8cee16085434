//! `pipe debug` on a terminal: in containers of this machine's engine, and through a server in the pods of a cluster.

use std::{env, fs, io::Write as _, process::Command};

use serde_json::Value;

use crate::{
    pty::Pty,
    support::{PATIENCE, User, git},
};

/// The values of these variables; none, with a word about it, unless all are set.
pub(crate) fn surroundings<const N: usize>(names: [&str; N]) -> Option<[String; N]> {
    let mut values = [const { String::new() }; N];
    for (name, value) in names.iter().zip(&mut values) {
        match env::var(name) {
            Ok(found) => *value = found,
            Err(_) => {
                let hint = "`scripts/dev-cluster env` and `scripts/dev-docker env` print it";
                drop(writeln!(std::io::stderr(), "SKIPPED: {name} is not set: {hint}"));
                return None;
            }
        }
    }
    Some(values)
}

fn pipeline(registry: &str, secrets: &str) -> String {
    format!(
        "on: {{ manual: true }}
image: {registry}/busybox:1
env: {{ GREETING: hello }}
actions:
  - name: test
    {secrets}
    steps:
      - {{ name: prepare, run: 'echo made > file; echo prepared' }}
      - {{ name: check, run: 'cat file; exit 3' }}
"
    )
}

/// What a person does in a shell, and what they see of it.
fn look_around(pty: &mut Pty, more: &str, seen: &str) {
    pty.sees("making it again up to `check`, which does not run");
    pty.sees("prepared");
    pty.sees("the shell is open");
    pty.types(&format!("echo \"<$GREETING|$PWD|$(cat file)|{more}>\"\n"));
    pty.sees(&format!("<hello|/workspace|made|{seen}>"));
    assert!(!pty.echoes(), "keys are for the shell alone");
    pty.resize(123, 45);
    pty.types("until [ \"$(stty size)\" = '45 123' ]; do sleep 0.1; done; echo lar\"\"ger\n");
    pty.sees("larger");
    pty.types("sh -c 'echo sle\"\"eping; exec sleep 1000'\n");
    pty.sees("sleeping");
    pty.types("\u{3}");
    pty.sees("^C");
    pty.types("exit\n");
    pty.sees("what the shell ran in is removed");
}

#[test]
fn a_kept_run_in_containers_is_looked_into() {
    let names = [
        "PIPE_TEST_DOCKER",
        "PIPE_TEST_AGENT_PROGRAM",
        "PIPE_TEST_REGISTRY",
    ];
    let Some([docker, program, registry]) = surroundings(names) else {
        return;
    };
    let user = User::with_pipeline(&pipeline(&registry, "secrets: [{ name: KEY, env: KEY }]"));
    let command = |args: &[&str]| {
        let mut command = user.command(args);
        command
            .env("DOCKER_HOST", &docker)
            .env("PIPE_AGENT_PROGRAM", &program);
        command
    };
    let args = ["run", "--keep", "--backend", "docker", "--secret", "KEY=hunter22"];
    crate::support::called(&mut command(&args)).expect(1);
    // Nothing is opened where nobody can type.
    let refused = crate::support::called(&mut command(&["debug", "test"])).expect(2);
    assert!(refused.err.contains("wants a terminal"), "{}", refused.err);
    let mut pty = Pty::start(&command(&["debug", "test"]));
    look_around(&mut pty, "${KEY-none}", "none");
    assert!(pty.echoes(), "the terminal is as it was");
    assert_eq!(pty.end(), 0);
    // Who leaves before the shell opens leaves nothing behind either.
    let mut pty = Pty::start(&command(&["debug", "test", "--step", "prepare"]));
    pty.sees("not there: the secret `KEY`");
    pty.types("\u{3}");
    assert_eq!(pty.end(), 130);
}

/// A namespace of the test's own.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(name: String) -> Self {
        kubectl(&["create", "namespace", &name]);
        Self(name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    pub(crate) fn pods(&self) -> String {
        kubectl(&["get", "pods", "--namespace", &self.0, "--output", "name"])
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        kubectl(&["delete", "namespace", &self.0, "--wait=false"]);
    }
}

pub(crate) fn kubectl(args: &[&str]) -> String {
    let output = Command::new("kubectl").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_of_a_server_is_looked_into() {
    let names = ["KUBECONFIG", "PIPE_TEST_AGENT_IMAGE", "PIPE_TEST_REGISTRY"];
    let Some([kubeconfig, agent, registry]) = surroundings(names) else {
        return;
    };
    let user = User::with_pipeline(&pipeline(&registry, "env: {}"));
    git(&user.work(), &["init", "--quiet", "--initial-branch=main"]);
    git(&user.work(), &["add", "--all"]);
    git(&user.work(), &["commit", "--quiet", "--message", "first"]);
    let unique = user.path("").display().to_string();
    let unique: String = unique
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_lowercase();
    let namespace = Namespace::new(format!("pipe-test-{}", &unique[unique.len() - 6..]));
    let config = format!(
        "[clusters.dev]
kubeconfig = \"{kubeconfig}\"
agent_image = \"{agent}\"
namespaces = {{ protected = \"{0}\", branches = \"{0}\", forks = \"{0}\" }}
[projects.web]
forge = \"gitea\"
repository = \"{1}\"
hook_secret = \"s\"
backend = \"dev\"
",
        namespace.0,
        user.work().display()
    );
    fs::write(user.path("config.toml"), config).unwrap();
    let file = user.path("config.toml").display().to_string();
    let mut server = user.serve(&["--config", &file]);
    let page = server.wait_for("page");
    let url = page
        .split_whitespace()
        .last()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let data = user.path("server").display().to_string();
    let token = user
        .call(&["token", "--data-dir", &data])
        .expect(0)
        .out
        .trim()
        .to_owned();
    let command = |args: &[&str]| {
        let mut command = user.command(args);
        command.env("PIPE_SERVER", &url).env("PIPE_TOKEN", &token);
        command
    };
    let call = |args: &[&str]| crate::support::called(&mut command(args));
    let started = call(&["start", "web", "web", "--output", "json"]).expect(0);
    let run = serde_json::from_str::<Value>(&started.out).unwrap()["run"].to_string();
    let target = format!("{run}/test");
    call(&["logs", &target, "--follow"]).expect(0);
    let before = show(&call(&["show", &run, "--output", "json"]).expect(0).out);
    let mut pty = Pty::start(&command(&["debug", &target]));
    look_around(&mut pty, "$PIPE_RUN_ID", &run);
    assert_eq!(pty.end(), 0);
    server.wait_for("a look into an action ended: the shell ended");
    gone(&namespace);
    // The connection breaks without a word: the server removes what it made.
    let mut pty = Pty::start(&command(&["debug", &target]));
    pty.sees("the shell is open");
    drop(pty);
    server.wait_for("a look into an action ended: the connection ended");
    gone(&namespace);
    let after = show(&call(&["show", &run, "--output", "json"]).expect(0).out);
    assert_eq!(before, after, "nothing of it counts for the run");
    let refused = call(&["debug", &format!("{run}/nothing")]);
    assert_ne!(refused.code, 0);
}

fn show(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn gone(namespace: &Namespace) {
    let begun = std::time::Instant::now();
    while !namespace.pods().is_empty() {
        assert!(begun.elapsed() < PATIENCE, "pods are left: {}", namespace.pods());
    }
}
