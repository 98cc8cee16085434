//! The commands that speak to a server.

use std::{fs, path::PathBuf, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Called, Running, User, called, fifo, git};

const FILE: &str = "on: { push: { branches: [main] }, manual: true }
params: { who: { type: string, default: you } }
actions:
  - { name: build, env: { WHO: '${{ params.who }}' }, run: 'echo built for $WHO; echo n=7 >> $PIPE_OUTPUT' }
  - { name: ask, approve: Ship it? }
  - { name: ship, run: 'echo shipped' }
";

/// A user with a repository, a server for it, and the arguments that reach that server.
pub(crate) struct Site {
    pub(crate) user: User,
    server: Running,
    url: String,
    hook: String,
}

impl Site {
    fn new() -> Self {
        Self::with_pipeline(FILE)
    }

    pub(crate) fn with_pipeline(text: &str) -> Self {
        Self::configured(text, "trusted = true")
    }

    /// With this in the project's part of the configuration, and whatever follows.
    pub(crate) fn configured(text: &str, more: &str) -> Self {
        Self::of(User::with_pipeline(text), more)
    }

    /// The same with the files of this user.
    pub(crate) fn of(user: User, more: &str) -> Self {
        let work = commit_first(&user);
        let config = format!(
            "[projects.web]\nforge = \"gitea\"\nrepository = \"{}\"\nhook_secret = \"s\"\n{more}\n",
            work.display()
        );
        fs::write(user.path("config.toml"), config).unwrap();
        let (server, url, hook) = serve(&user);
        Self {
            user,
            server,
            url,
            hook,
        }
    }

    /// With a server that has this configuration, and knows no project from it.
    pub(crate) fn without_project(text: &str, config: &str) -> Self {
        let user = User::with_pipeline(text);
        commit_first(&user);
        fs::write(user.path("config.toml"), config).unwrap();
        let (server, url) = serve_any(&user);
        Self {
            user,
            server,
            url,
            hook: String::new(),
        }
    }

    /// Stops the server, and starts another one on the same folder that need not know any project.
    pub(crate) fn start_again(&mut self, meanwhile: impl FnOnce(&User)) {
        self.server.signal(Signal::TERM);
        self.server.wait_for("stopping");
        self.server.wait_for_end();
        meanwhile(&self.user);
        (self.server, self.url) = serve_any(&self.user);
    }

    /// Waits for a line of the server.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.server.wait_for(text)
    }

    /// What the server has written so far, as far as somebody waited for it.
    pub(crate) fn said(&self) -> String {
        self.server.said()
    }

    /// Waits until the server tells where webhooks go.
    pub(crate) fn wait_for_hook(&mut self) {
        self.hook = second_word(&self.server.wait_for("webhook"));
    }

    /// Stops the server politely, which must work at once, and starts another on the same folder.
    pub(crate) fn restart(self) -> Self {
        self.server.signal(Signal::TERM);
        let (code, said) = self.server.end();
        assert_eq!(code, 0, "{said}");
        let (server, url, hook) = serve(&self.user);
        Self {
            server,
            url,
            hook,
            ..self
        }
    }

    /// Stops the server; what it wrote.
    pub(crate) fn stop(self) -> (User, String) {
        self.server.signal(Signal::TERM);
        let (code, said) = self.server.end();
        assert_eq!(code, 0, "{said}");
        (self.user, said)
    }

    pub(crate) fn following(&self, action: &str) -> Running {
        let mut command = self.user.command(&["logs", "--follow", action]);
        Running::start(command.env("PIPE_SERVER", &self.url))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.user.command(args);
        command
            .env("PIPE_SERVER", &self.url)
            .env("PIPE_DATA_DIR", self.user.path("server"));
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Called {
        called(&mut self.command(args))
    }

    /// Delivers, signed with this secret, that `main` moved from there to its present commit.
    pub(crate) fn push(&self, from: &str, secret: &str) -> Called {
        let head = git(&self.user.work(), &["rev-parse", "main"]);
        let (move_of_ref, signature) = (self.user.path("move"), self.user.path("secret"));
        fs::write(&move_of_ref, format!("{from} {head} refs/heads/main\n")).unwrap();
        fs::write(&signature, secret).unwrap();
        let mut command = self.user.command(&["hook-post", "--url", &self.hook]);
        command
            .args(["--repository", "mall/web", "--secret-file"])
            .arg(&signature);
        called(command.stdin(fs::File::open(&move_of_ref).unwrap()))
    }

    /// What delivers, signed with this secret, moves of a branch that starts nothing, a different one for each number.
    pub(crate) fn moves(&self, secret: &str) -> impl Fn(usize) -> Called + Send + use<> {
        let head = git(&self.user.work(), &["rev-parse", "main"]);
        let (move_of_ref, signature) = (self.user.path("other-move"), self.user.path("other-secret"));
        fs::write(&signature, secret).unwrap();
        let hook = self.hook.clone();
        move |number| {
            fs::write(&move_of_ref, format!("{number:040x} {head} refs/heads/other\n")).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
            command
                .args([
                    "hook-post",
                    "--url",
                    &hook,
                    "--repository",
                    "mall/web",
                    "--secret-file",
                ])
                .arg(&signature)
                .stdin(fs::File::open(&move_of_ref).unwrap());
            called(&mut command)
        }
    }

    /// Waits until something waits for a person: the live stream would tell, but here the command is what is tested.
    pub(crate) fn wait_for_gate(&self) -> String {
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while std::time::Instant::now() < deadline {
            let listed = self.call(&["approve"]).expect(0);
            if !listed.out.is_empty() {
                return listed.out;
            }
            std::thread::yield_now();
        }
        panic!("no gate opened");
    }
}

/// A server on the user's folder: the process, its address, and its webhook's.
fn serve(user: &User) -> (Running, String, String) {
    let (mut server, url) = serve_any(user);
    let hook = second_word(&server.wait_for("webhook"));
    (server, url, hook)
}

/// The same where there may be no webhook.
fn serve_any(user: &User) -> (Running, String) {
    let file = user.path("config.toml").display().to_string();
    let mut server = user.serve(&["--config", &file]);
    let url = second_word(&server.wait_for("page"));
    (server, url.trim_end_matches('/').to_owned())
}

fn second_word(line: &str) -> String {
    line.split_whitespace().nth(1).unwrap().to_owned()
}

/// Makes the user's folder a repository with one commit.
fn commit_first(user: &User) -> PathBuf {
    let work = user.work();
    git(&work, &["init", "--quiet", "--initial-branch=main"]);
    git(&work, &["add", "--all"]);
    git(&work, &["commit", "--quiet", "--message", "first"]);
    work
}

#[test]
fn a_run_is_started_followed_approved_and_shown() {
    let site = Site::new();
    let started = site.call(&["start", "web", "web", "--param", "who=me"]).expect(0);
    assert_eq!(started.out, "run 1\n");
    let mut built = site.following("1/build");
    built.wait_for("built for me");
    assert_eq!(built.end().0, 0);
    let waiting = site.wait_for_gate();
    assert!(
        waiting.contains("1/ask  web/web  Ship it?  (waits for people: 0 of 1 approval"),
        "{waiting}"
    );
    assert!(waiting.contains("first, main, "), "{waiting}");
    let listed = site.call(&["approve", "--output", "json"]).expect(0);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(
        (&listed[0]["target"], &listed[0]["may"]["approve"]),
        (&Value::from("1/ask"), &Value::from(true))
    );
    let why = site.call(&["why", "1/ask"]).expect(0);
    assert!(
        why.out.contains("waits for people: 0 of 1 approval"),
        "{}",
        why.out
    );
    // Without a number the newest run of HEAD is meant, and the only gate of it.
    site.call(&["approve", "1"]).expect(0);
    let mut shipped = site.following("1/ship");
    shipped.wait_for("shipped");
    assert_eq!(shipped.end().0, 0);
    let shown = site.call(&["show"]).expect(0);
    assert!(shown.out.contains("n = 7"), "{}", shown.out);
    assert!(shown.out.contains("approved by"), "{}", shown.out);
    let json = site.call(&["show", "1", "--output", "json"]).expect(0);
    let run: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(run["pipeline"], "web");
    let runs = site.call(&["runs"]).expect(0);
    assert!(
        runs.out.contains("web/web") && runs.out.contains("main@"),
        "{}",
        runs.out
    );
}

#[test]
fn a_retried_run_takes_results_over_and_asks_again() {
    let site = Site::new();
    site.call(&["start", "web", "web"]).expect(0);
    site.wait_for_gate();
    let early = site.call(&["retry", "1", "--failed"]).expect(2);
    assert!(early.err.contains("has not ended"), "{}", early.err);
    site.call(&["reject", "1/ask", "-m", "not today"]).expect(0);
    let again = site.call(&["retry", "1", "--failed"]).expect(0);
    assert_eq!(again.out, "run 2\n");
    let waiting = site.wait_for_gate();
    assert!(waiting.contains("2/ask"), "{waiting}");
    let why = site.call(&["why", "2/build"]).expect(0);
    assert!(why.out.contains("reused from run 1"), "{}", why.out);
    site.call(&["approve", "2/ask"]).expect(0);
    let mut shipped = site.following("2/ship");
    shipped.wait_for("shipped");
    assert_eq!(shipped.end().0, 0);
}

#[test]
fn a_rejected_run_and_a_cancelled_one() {
    let site = Site::new();
    site.call(&["start", "web", "web"]).expect(0);
    site.wait_for_gate();
    site.call(&["reject", "1/ask", "-m", "not today"]).expect(0);
    let why = site.call(&["why", "1/ask"]).expect(0);
    assert!(why.out.contains("rejected: not today"), "{}", why.out);
    site.call(&["approve", "1/ask"]).expect(2);
    site.call(&["start", "web", "web"]).expect(0);
    site.wait_for_gate();
    site.call(&["cancel", "2"]).expect(0);
    let shown = site.call(&["show", "2"]).expect(0);
    assert!(shown.out.contains("cancelled"), "{}", shown.out);
}

#[test]
fn mistakes_are_explained() {
    let site = Site::new();
    let missing = site.call(&["show", "99"]).expect(3);
    assert!(missing.err.contains("hint: "), "{}", missing.err);
    site.call(&["start", "web", "no-such"]).expect(3);
    site.call(&["start", "no-such", "web"]).expect(3);
    let denied = site.call(&["start", "web", "web", "--token", "pk_x"]).expect(3);
    assert!(denied.err.contains("pipe token"), "{}", denied.err);
    let hooks = site.call(&["hooks", "list"]).expect(0);
    assert!(hooks.err.contains("no deliveries"), "{}", hooks.err);
    site.call(&["hooks", "show", "1"]).expect(3);
}

#[test]
fn a_push_is_delivered_listed_and_replayed() {
    let site = Site::new();
    let nothing = "0".repeat(40);
    assert!(site.push(&nothing, "s").expect(0).err.contains("202"));
    site.wait_for_gate();
    let list = site.call(&["hooks", "list"]).expect(0);
    assert!(list.out.contains("push: ran 1"), "{}", list.out);
    let shown = site.call(&["hooks", "show", "1"]).expect(0);
    assert!(shown.out.contains("\"full_name\": \"mall/web\""), "{}", shown.out);
    site.push(&nothing, "wrong").expect(4);
    let list = site.call(&["hooks", "list"]).expect(0);
    assert!(list.out.contains("refused:"), "{}", list.out);
    site.call(&["hooks", "replay", "1"]).expect(0);
    site.call(&["hooks", "replay", "7"]).expect(3);
}

#[test]
fn an_action_outlives_its_server() {
    let gate = tempfile::tempdir().unwrap();
    let fifo = fifo(gate.path());
    let site = Site::with_pipeline(&format!(
        "on: {{ manual: true }}\nactions:\n  - {{ name: long, run: 'echo up; read word < {fifo}; echo got $word' }}\n"
    ));
    site.call(&["start", "web", "web"]).expect(0);
    site.following("1/long").wait_for("up");
    let site = site.restart();
    let mut long = site.following("1/long");
    fs::write(&fifo, "on\n").unwrap();
    long.wait_for("got on");
    let (code, said) = long.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("up").count(), 2, "once echoed, once run:\n{said}");
    let shown = site.call(&["show", "1"]).expect(0);
    assert!(shown.out.contains("✓ long"), "{}", shown.out);
}

#[test]
fn nobody_at_the_address_is_said_so() {
    let user = User::new();
    let called = user.call(&["runs", "--server", "http://127.0.0.1:9"]).expect(4);
    assert!(called.err.contains("nobody answers"), "{}", called.err);
    assert!(called.err.contains("pipe server"), "{}", called.err);
    user.call(&["runs", "--server", "nonsense"]).expect(2);
}

#[test]
fn a_server_keeps_its_caches_small() {
    let pipeline = "on: { manual: true }
caches: { deps: { paths: [target], key: { text: 'k-${{ run.id }}' } } }
actions:
  - { name: build, cache: [deps], run: 'mkdir -p target; head -c 100000 /dev/urandom > target/out' }
";
    let mut site = Site::configured(pipeline, "trusted = true\n[caches]\nproject = \"150k\"");
    for _ in 0..2 {
        site.call(&["start", "web", "web"]).expect(0);
    }
    site.server.wait_for("evicted the cache `deps`");
    let listed = site.call(&["cache", "list", "--output", "json"]).expect(0);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed["caches"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["quota"]["project"], 150_000);
    let removed = site.call(&["cache", "rm", "--all"]).expect(0);
    assert!(removed.out.starts_with("removed deps/k-"), "{}", removed.out);
}
