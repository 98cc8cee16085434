//! `pipe debug`: a shell in the workspace that `pipe run --keep` left behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use pipekeeper_agent::protocol::AttemptSpec;
use pipekeeper_backend::LocalBackend;

use crate::{
    failure::{Exit, Failure, OrFail},
    local::kept_runs,
    term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Debug {
    /// The action of the newest run that was kept
    action: String,
    /// Print the folder instead of opening a shell in it
    #[arg(long)]
    print: bool,
}

impl Debug {
    /// Opens the shell.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let folder = self.folder()?;
        let workspace = folder.join("workspace");
        if self.print {
            term::say(workspace.display());
            return Ok(Exit::Done);
        }
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
        term::note(format_args!(
            "{}: the action's variables are set, secrets are not; leave with `exit`",
            workspace.display()
        ));
        let status = Command::new(&shell)
            .current_dir(&workspace)
            .envs(variables(&folder))
            .env("HOME", folder.join("home"))
            .env("PIPE_WORKSPACE", &workspace)
            .status()
            .or_usage(format_args!("start `{shell}`"))?;
        Ok(if status.success() {
            Exit::Done
        } else {
            Exit::RunFailed
        })
    }

    fn folder(&self) -> Result<PathBuf, Failure> {
        let runs = kept_runs()?;
        let newest = runs.last().ok_or_else(|| {
            Failure::not_found("no local run was kept").hint("run it again with `pipe run --keep`")
        })?;
        let names: Vec<&str> = newest.actions.iter().map(|(name, _)| name.as_str()).collect();
        let attempt = newest
            .actions
            .iter()
            .find_map(|(name, attempt)| (*name == self.action).then_some(*attempt))
            .ok_or_else(|| {
                Failure::not_found(format!("the newest kept run has no action `{}`", self.action))
                    .hint(format!("it ran: {}", names.join(", ")))
            })?;
        let folder = LocalBackend::kept_folder(&newest.root, attempt);
        if folder.join("workspace").is_dir() {
            Ok(folder)
        } else {
            Err(Failure::not_found(format!(
                "the workspace of `{}` is not there any more",
                self.action
            )))
        }
    }
}

/// The variables that the attempt had.
fn variables(folder: &Path) -> BTreeMap<String, String> {
    fs::read(folder.join("spec.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<AttemptSpec>(&text).ok())
        .map(|spec| spec.env)
        .unwrap_or_default()
}
