//! The folder of a round: a bare repository with one commit, the server's configuration and data, and the side effects.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use pipekeeper_forge::{ForgeKind, HookSecret, sign};
use serde_json::json;
use tempfile::TempDir;

use crate::processes;

/// The project's name.
pub(crate) const PROJECT: &str = "web";
/// How many lines `chatter` writes.
pub(crate) const LINES: u32 = 2_000;

const SECRET: &str = "between the two of us";

/// What happens to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Its gate is approved and it goes on to its end.
    Finish,
    /// It is cancelled while its first two actions work.
    Cancel,
}

/// A round's folder; nothing that runs in it outlives it.
pub(crate) struct Place {
    root: TempDir,
    pub(crate) scenario: Scenario,
    sha: String,
}

/// A webhook request.
pub(crate) struct Delivery {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Place {
    pub(crate) fn make(scenario: Scenario) -> Self {
        let pipeline = match scenario {
            Scenario::Finish => include_str!("finish.yaml"),
            Scenario::Cancel => include_str!("cancel.yaml"),
        };
        Self::with(scenario, pipeline, |_| "trusted = true\n".to_owned())
    }

    /// With this pipeline, and this in the project's part of the configuration and after it; that may name places here.
    pub(crate) fn with(scenario: Scenario, pipeline: &str, more: impl FnOnce(&Self) -> String) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut place = Self {
            root,
            scenario,
            sha: String::new(),
        };
        let work = place.path("work");
        fs::create_dir_all(work.join(".pipe")).unwrap();
        fs::create_dir(place.path("home")).unwrap();
        let effects = place.path("effects").display().to_string();
        let pipeline = pipeline
            .replace("EFFECTS-FILE", &effects)
            .replace("LINES", &LINES.to_string());
        fs::write(work.join(".pipe/crash.yaml"), pipeline).unwrap();
        git(&work, &["init", "--quiet", "--initial-branch=main"]);
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--message", "Start"]);
        git(&work, &["clone", "--quiet", "--bare", ".", "../bare.git"]);
        place.sha = git(&work, &["rev-parse", "HEAD"]);
        let config = place.config() + &more(&place);
        fs::write(place.path("config.toml"), config).unwrap();
        place
    }

    /// Servers here keep their state in this Postgres database.
    pub(crate) fn use_database(&self, address: &str) {
        let path = self.path("config.toml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("database = \"{address}\"\n{config}")).unwrap();
    }

    fn config(&self) -> String {
        format!(
            "listen = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n\n[projects.{PROJECT}]\nforge = \"gitea\"\n\
             repository = \"{}\"\nhook_secret = \"{SECRET}\"\n",
            self.data().display(),
            self.path("bare.git").display(),
        )
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The server's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("server")
    }

    /// The push, and the same push once more under another delivery id.
    pub(crate) fn deliveries(&self) -> [Delivery; 2] {
        ["ada", "grace"].map(|sender| self.push("main", sender))
    }

    /// The first push to a branch, which is made.
    pub(crate) fn push_to(&self, branch: &str) -> Delivery {
        git(&self.path("bare.git"), &["branch", "--force", branch, &self.sha]);
        self.push(branch, "ada")
    }

    /// A push by this account to a branch, which is made or moved to the newest commit.
    pub(crate) fn push_by(&self, branch: &str, sender: &str) -> Delivery {
        let work = self.path("work");
        let newest = git(&work, &["rev-parse", "HEAD"]);
        let bare = self.path("bare.git");
        let known = ["rev-parse", "--quiet", "--verify", "--end-of-options", branch];
        let before = try_git(&bare, &known).unwrap_or_else(|| "0".repeat(40));
        git(
            &work,
            &[
                "push",
                "--quiet",
                "--force",
                "../bare.git",
                &format!("HEAD:refs/heads/{branch}"),
            ],
        );
        self.moved(branch, sender, (&before, &newest))
    }

    /// A commit that adds an action with this script to the end of the pipeline.
    pub(crate) fn change(&self, script: &str) {
        let work = self.path("work");
        let file = work.join(".pipe/crash.yaml");
        let pipeline = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{pipeline}  - {{ name: more, run: {script} }}\n")).unwrap();
        git(&work, &["commit", "--quiet", "--all", "--message", "Change"]);
    }

    /// A push that removes a branch, and so starts nothing.
    pub(crate) fn end_of(&self, branch: &str) -> Delivery {
        self.moved(branch, "ada", (&self.sha, &"0".repeat(40)))
    }

    fn push(&self, branch: &str, sender: &str) -> Delivery {
        self.moved(branch, sender, (&"0".repeat(40), &self.sha))
    }

    fn moved(&self, branch: &str, sender: &str, (before, after): (&str, &str)) -> Delivery {
        let body = json!({
            "ref": format!("refs/heads/{branch}"),
            "before": before,
            "after": after,
            "repository": { "full_name": "mall/web" },
            "sender": { "login": sender },
            "head_commit": { "id": after, "message": "Start" },
            "commits": [],
            "total_commits": 1,
        });
        let body = body.to_string().into_bytes();
        let secret = HookSecret::new(SECRET).unwrap();
        Delivery {
            headers: sign(ForgeKind::Gitea, &secret, &body),
            body,
        }
    }

    /// What the steps wrote, sorted.
    pub(crate) fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("effects")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// What servers said, for whoever looks for the cause of a failure.
    pub(crate) fn told(&self) -> String {
        let mut text = format!("effects: {:?}\n", self.effects());
        for number in 1.. {
            let Ok(log) = fs::read_to_string(self.path(&format!("server-{number}.log"))) else {
                break;
            };
            text += &format!("── server {number}\n{log}");
        }
        text
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        processes::kill(self.root());
    }
}

/// Git as on a machine that nobody configured.
fn git(folder: &Path, args: &[&str]) -> String {
    let output = run_git(folder, args);
    assert!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text(&output)
}

/// What git answers, if it has an answer.
fn try_git(folder: &Path, args: &[&str]) -> Option<String> {
    let output = run_git(folder, args);
    output.status.success().then(|| text(&output))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn run_git(folder: &Path, args: &[&str]) -> Output {
    Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=Tester", "-c", "user.email=t@example.org"])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .unwrap()
}
