//! `pipe hook-post`, hidden: what the demo's git hook calls. It reads what git tells a `post-receive` hook and delivers
//! it as a signed webhook, as a forge would.

use std::{fs, io::Read, path::PathBuf, process::Command};

use clap::Args;
use pipekeeper_forge::{ForgeKind, HookSecret, sign};
use serde_json::json;

use crate::{
    client,
    failure::{Exit, Failure, OrFail},
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct HookPost {
    /// The webhook's address
    #[arg(long)]
    url: String,
    /// The file of the secret that it is signed with
    #[arg(long)]
    secret_file: PathBuf,
    /// The repository's name
    #[arg(long)]
    repository: String,
}

impl HookPost {
    /// Delivers each line of stdin.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let secret = fs::read_to_string(&self.secret_file).or_usage("read the webhook's secret")?;
        let secret = HookSecret::new(secret.trim_end()).or_usage("use the webhook's secret")?;
        let mut told = String::new();
        std::io::stdin()
            .read_to_string(&mut told)
            .or_fail("read what git tells")?;
        for line in told.lines() {
            let [before, after, git_ref] = line.split(' ').collect::<Vec<_>>()[..] else {
                return Err(Failure::ours(format!(
                    "git told `{line}`, which is no move of a ref"
                )));
            };
            let body = self.payload(before, after, git_ref);
            let headers = sign(ForgeKind::Gitea, &secret, &body);
            let answer = runtime::block_on(client::post_raw(&self.url, headers, body))?;
            term::note(format_args!("webhook answered {answer}"));
        }
        Ok(Exit::Done)
    }

    /// The push in Gitea's words.
    fn payload(&self, before: &str, after: &str, git_ref: &str) -> Vec<u8> {
        let commit = json!({ "id": after, "message": message(after) });
        json!({
            "ref": git_ref,
            "before": before,
            "after": after,
            "repository": { "full_name": self.repository },
            "sender": { "login": std::env::var("USER").unwrap_or_else(|_| "you".to_owned()) },
            "head_commit": commit,
            "commits": [],
            // More than the payload lists: what changed is for the receiver to find out.
            "total_commits": 1,
        })
        .to_string()
        .into_bytes()
    }
}

fn message(commit: &str) -> String {
    Command::new("git")
        .args(["log", "-1", "--format=%B", commit, "--"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}
