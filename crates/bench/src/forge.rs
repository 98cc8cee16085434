//! A forge in short: repositories with many commits, and the signed deliveries about them.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use pipekeeper_forge::{ForgeKind, HookSecret, sign};
use serde_json::json;

use crate::{
    served::SECRET,
    user::{User, git},
};

/// The commit before the first.
pub(crate) const NOTHING: &str = "0000000000000000000000000000000000000000";

/// A bare repository.
pub(crate) struct Repository {
    pub(crate) bare: PathBuf,
    /// Its commits on `main`, oldest first.
    pub(crate) commits: Vec<String>,
}

impl Repository {
    /// Makes one with this pipeline and so many commits.
    pub(crate) fn make(user: &User, pipeline: &str, commits: usize) -> Result<Self> {
        let bare = user.path("web.git");
        git(
            &user.path("work"),
            &["init", "-q", "--bare", "-b", "main", &bare.display().to_string()],
        )?;
        let mut stream = format!("blob\nmark :1\ndata {}\n{pipeline}\n", pipeline.len());
        for number in 0..commits {
            let message = format!("Change {number}");
            write!(
                stream,
                "commit refs/heads/main\ncommitter Bench <bench@example.org> {} +0000\ndata {}\n{message}\n\
                 M 100644 :1 .pipe/web.yaml\n\n",
                1_700_000_000 + number,
                message.len()
            )?;
        }
        import(&bare, &stream)?;
        let listed = git(&bare, &["rev-list", "--reverse", "main"])?;
        Ok(Self {
            bare,
            commits: listed.lines().map(str::to_owned).collect(),
        })
    }

    /// The signed delivery about the n-th commit.
    pub(crate) fn delivery(&self, hook: &str, number: usize) -> Result<Vec<u8>> {
        let after = self.commits.get(number).context("no such commit")?;
        let before = number.checked_sub(1).and_then(|before| self.commits.get(before));
        delivery(
            hook,
            before.map_or(NOTHING, String::as_str),
            after,
            &format!("Change {number}"),
            0,
        )
    }
}

fn import(bare: &Path, stream: &str) -> Result<()> {
    let mut child = Command::new("git")
        .current_dir(bare)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .context("start git")?;
    let mut input = child.stdin.take().context("write to git")?;
    input.write_all(stream.as_bytes()).context("write to git")?;
    drop(input);
    ensure!(child.wait()?.success(), "git could not import");
    Ok(())
}

/// The request of a signed push delivery, padded to a size.
pub(crate) fn delivery(hook: &str, before: &str, after: &str, message: &str, size: usize) -> Result<Vec<u8>> {
    let payload = |padding: String| {
        json!({
            "ref": "refs/heads/main",
            "before": before,
            "after": after,
            "repository": { "full_name": "mall/web" },
            "sender": { "login": "ada" },
            "head_commit": { "id": after, "message": message },
            "commits": [],
            "total_commits": 1,
            "padding": padding,
        })
        .to_string()
    };
    let bare = payload(String::new());
    let body = payload("x".repeat(size.saturating_sub(bare.len())));
    let secret = HookSecret::new(SECRET)?;
    let mut request = format!(
        "POST {hook} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in sign(ForgeKind::Gitea, &secret, body.as_bytes()) {
        write!(request, "{name}: {value}\r\n")?;
    }
    request.push_str("\r\n");
    request.push_str(&body);
    Ok(request.into_bytes())
}
