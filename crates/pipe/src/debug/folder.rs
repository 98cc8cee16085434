//! A shell in the workspace that a run left in a folder of this machine.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use pipekeeper_agent::protocol::AttemptSpec;

use crate::{
    failure::{Exit, Failure, OrFail},
    term,
};

/// Opens the shell.
pub(crate) fn open(folder: &Path) -> Result<Exit, Failure> {
    let workspace = folder.join("workspace");
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    term::note(format_args!(
        "{}: the action's variables are set, secrets are not; leave with `exit`",
        workspace.display()
    ));
    let status = Command::new(&shell)
        .current_dir(&workspace)
        .envs(variables(folder))
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

/// The variables that the attempt had.
fn variables(folder: &Path) -> BTreeMap<String, String> {
    fs::read(folder.join("spec.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<AttemptSpec>(&text).ok())
        .map(|spec| spec.env)
        .unwrap_or_default()
}
