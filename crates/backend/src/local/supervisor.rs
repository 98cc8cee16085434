//! Starts supervisors.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
};

use tokio::process::Command;

use super::{
    LocalOptions,
    folder::{AliveLock, Folder},
};

/// Starts the supervisor of a folder and connects to it.
///
/// The supervisor inherits the lock as its output, so there is no moment at which neither it nor we hold it; it
/// outlives us. Must be called within the runtime.
pub(super) fn start(options: &LocalOptions, folder: &Folder, lock: AliveLock) -> io::Result<UnixStream> {
    let listener = folder.bind()?;
    let stream = folder.connect()?;
    let output = lock.into_file();
    let mut child = Command::new(&options.agent.program)
        .args(&options.agent.args)
        .arg("--dir")
        .arg(folder.path())
        .env_clear()
        .envs(&options.host_env)
        .stdin(OwnedFd::from(listener))
        .stderr(Stdio::from(output.try_clone()?))
        .stdout(Stdio::from(output))
        .spawn()
        .map_err(|error| explain(options, &error))?;
    tokio::spawn(async move { child.wait().await });
    Ok(stream)
}

fn explain(options: &LocalOptions, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("start `{}`: {error}", options.agent.program.display()),
    )
}
