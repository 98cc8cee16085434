//! The demo's repositories: a bare one with a hook, and a clone with a small program to push.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use pipekeeper_model::Sha;
use tokio::process::Command;

use super::PROJECT;
use crate::{
    failure::{Failure, OrFail, chain},
    folders,
};

macro_rules! example {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../pipelines-examples/demo/", $path)))),*]
    };
}

/// The program and its pipeline.
const FILES: &[(&str, &str)] = example![
    ".pipe/demo.yaml",
    "README.md",
    "src/tally.c",
    "tests/poem.txt",
    "tests/run.sh",
];

/// The text that the demo's actions count.
pub(super) const POEM: &str = include_str!("../../../../pipelines-examples/demo/tests/poem.txt");

/// A bare repository and a clone of it.
pub(super) struct Repositories {
    root: PathBuf,
    bare: PathBuf,
    work: PathBuf,
}

/// What was pushed.
pub(super) struct Pushed {
    /// The commit.
    pub(super) sha: Sha,
    /// What the hook said.
    pub(super) answer: String,
}

impl Repositories {
    /// Makes both, with one commit in the clone.
    pub(super) async fn make(root: &Path) -> Result<Self, Failure> {
        let repositories = Self {
            root: root.to_owned(),
            bare: root.join(format!("{PROJECT}.git")),
            work: root.join("work"),
        };
        for (path, text) in FILES {
            let file = repositories.work.join(path);
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder).or_fail(format_args!("make `{}`", folder.display()))?;
            }
            fs::write(&file, text).or_fail(format_args!("write `{}`", file.display()))?;
        }
        let bare = repositories.bare.display().to_string();
        git(
            root,
            &["init", "--quiet", "--bare", "--initial-branch=main", &bare],
        )
        .await?;
        let work = repositories.work.as_path();
        git(work, &["init", "--quiet", "--initial-branch=main"]).await?;
        git(work, &["remote", "add", "origin", &bare]).await?;
        git(work, &["add", "--all"]).await?;
        git(
            work,
            &["commit", "--quiet", "--message", "Count lines, words and bytes"],
        )
        .await?;
        Ok(repositories)
    }

    /// The bare repository.
    pub(super) fn bare(&self) -> &Path {
        &self.bare
    }

    /// Makes the bare repository deliver its pushes.
    pub(super) fn set_hook(&self, url: &str, secret: &str) -> Result<(), Failure> {
        let secret_file = self.root.join("hook.secret");
        folders::write_private(&secret_file, secret)?;
        let program = env::current_exe().or_fail("find this program's own file")?;
        let text = format!(
            "#!/bin/sh\nexec {} hook-post --url {} --secret-file {} --repository demo/{PROJECT}\n",
            quoted(&program.display().to_string()),
            quoted(url),
            quoted(&secret_file.display().to_string()),
        );
        let hook = self.bare.join("hooks").join("post-receive");
        if let Some(folder) = hook.parent() {
            folders::make(folder)?;
        }
        fs::write(&hook, text).or_fail("write the hook")?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).or_fail("write the hook")
    }

    /// Pushes the commit; the hook delivers before git returns.
    pub(super) async fn push(&self) -> Result<Pushed, Failure> {
        let head = git(&self.work, &["rev-parse", "HEAD"]).await?;
        let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
        let sha = head.parse().or_fail("read the commit's id")?;
        let pushed = git(&self.work, &["push", "--quiet", "origin", "main"]).await?;
        let said = String::from_utf8_lossy(&pushed.stderr);
        let answer = said
            .lines()
            .filter_map(|line| line.strip_prefix("remote: "))
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(", ");
        if answer.contains("webhook answered") {
            Ok(Pushed { sha, answer })
        } else {
            Err(Failure::ours(format!(
                "the hook delivered nothing: {}",
                said.replace('\n', " ")
            )))
        }
    }
}

/// Git as on a machine that nobody configured.
async fn git(folder: &Path, args: &[&str]) -> Result<Output, Failure> {
    let output = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=You",
            "-c",
            "user.email=you@example.org",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            Failure::usage(format!("failed to start git: {}", chain(&error)))
                .hint("install git 2.30 or newer")
        })?;
    if output.status.success() {
        Ok(output)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::ours(format!(
            "`git {}` failed: {}",
            args.first().copied().unwrap_or_default(),
            said.trim().replace('\n', " ")
        )))
    }
}

/// A word for the shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::{FILES, quoted};

    #[test]
    fn no_path_can_leave_its_quotes() {
        assert_eq!(quoted("/a b/it's"), "'/a b/it'\\''s'");
    }

    #[test]
    fn the_demo_pipeline_is_valid() {
        let (path, text) = FILES.iter().find(|(path, _)| path.starts_with(".pipe/")).unwrap();
        let file = pipekeeper_spec::SourceFile { path, text };
        let found = pipekeeper_spec::check(&file);
        assert!(found.is_ok(), "{}", found.unwrap_err().to_lines(&file));
    }
}
