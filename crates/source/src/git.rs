//! The one place that starts the `git` program. What git may read, speak and run is fixed here: no shell, no inherited
//! configuration or environment, no hooks, no prompts, one protocol, a deadline, and no process left behind.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, copy, sink},
    process::{Child, ChildStderr, Command},
};

use crate::{Repository, SourceError, text};

/// What a child may know of this process's environment: where programs, keys, proxies and certificates are.
const INHERITED: [&str; 10] = [
    "PATH",
    "SSH_AUTH_SOCK",
    "HTTPS_PROXY",
    "https_proxy",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Read as the global configuration, which `upload-pack` on a local path reads too. Ownership does not matter: an
/// administrator named every path that git is started on.
const CONFIG: &str = "[core]
\thooksPath = /dev/null
[credential]
\thelper =
[fetch]
\twriteCommitGraph = false
[gc]
\tautoDetach = false
[http]
\tfollowRedirects = false
\tlowSpeedLimit = 1
\tlowSpeedTime = 60
[maintenance]
\tauto = false
[protocol \"ext\"]
\tallow = never
[safe]
\tdirectory = *
";

const SSH: &str =
    "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=15 -oServerAliveInterval=15";
const MAX_STDERR: u64 = 16 * 1024;
const MAX_SHOWN: usize = 600;

/// Whether refs that are gone at the origin go here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prune {
    No,
    Yes,
}

/// What tidying packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pack {
    Objects,
    All,
}

/// The `git` program with its fixed surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    program: PathBuf,
    home: PathBuf,
    inherited: Vec<(&'static str, OsString)>,
    pub(crate) time_limit: Duration,
}

impl Git {
    /// Finds git and writes its configuration to the folder `home`.
    pub(crate) fn new(home: PathBuf, time_limit: Duration) -> Result<Self, SourceError> {
        let config = home.join(".gitconfig");
        fs::create_dir_all(&home)
            .and_then(|()| fs::write(&config, CONFIG))
            .map_err(SourceError::io("write git's configuration", &config))?;
        Ok(Self {
            program: find("git")
                .ok_or_else(|| SourceError::io("find the program", "git")(io::ErrorKind::NotFound.into()))?,
            home,
            inherited: INHERITED
                .iter()
                .filter_map(|key| Some((*key, env::var_os(key)?)))
                .collect(),
            time_limit,
        })
    }

    /// Fetches refspecs from the repository's address into a mirror.
    pub(crate) async fn fetch(
        &self,
        mirror: &Path,
        repository: &Repository,
        refspecs: &[String],
        prune: Prune,
    ) -> Result<(), SourceError> {
        let mut command = self.command(mirror);
        command
            .env("GIT_ALLOW_PROTOCOL", repository.url.protocol())
            .args([
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-auto-gc",
            ])
            .arg("--no-recurse-submodules");
        if prune == Prune::Yes {
            command.arg("--prune");
        }
        if let Some(credentials) = repository.url.credentials() {
            // In the environment, since everybody on the machine can read argument lists.
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env("GIT_CONFIG_VALUE_0", credentials.header());
        }
        command
            .arg("--end-of-options")
            .arg(repository.url.to_argument())
            .args(refspecs);
        self.run(command, repository).await
    }

    /// Packs a mirror's objects if there are many loose ones, and its refs before if asked to.
    pub(crate) async fn tidy(
        &self,
        mirror: &Path,
        repository: &Repository,
        pack: Pack,
    ) -> Result<(), SourceError> {
        if pack == Pack::All {
            let mut command = self.command(mirror);
            command.args(["pack-refs", "--all"]);
            self.run(command, repository).await?;
        }
        let mut command = self.command(mirror);
        command.args(["gc", "--auto", "--quiet"]);
        self.run(command, repository).await
    }

    fn command(&self, mirror: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .envs(self.inherited.iter().map(|(key, value)| (key, value)))
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_DIR", mirror)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_SSH_COMMAND", SSH)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    async fn run(&self, mut command: Command, repository: &Repository) -> Result<(), SourceError> {
        let child = command.spawn().map_err(SourceError::io("start", &self.program))?;
        let mut group = Group::new(child);
        let ended = tokio::time::timeout(self.time_limit, group.end()).await;
        let (succeeded, stderr) = ended
            .map_err(|_| SourceError::Timeout {
                repository: repository.name.clone(),
                limit: self.time_limit,
            })?
            .map_err(SourceError::io("wait for", &self.program))?;
        if succeeded {
            return Ok(());
        }
        Err(SourceError::Unreachable {
            repository: repository.name.clone(),
            url: repository.url.to_string(),
            detail: text::complaint(&stderr, MAX_SHOWN),
        })
    }
}

/// A child with the process group it leads; dropped before its end, the whole group is killed.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, leader }
    }

    /// Waits for the end; answers whether it was a success, and the start of what was written to stderr.
    async fn end(&mut self) -> io::Result<(bool, Vec<u8>)> {
        let stderr = self.child.stderr.take();
        let (status, written) = tokio::join!(self.child.wait(), bounded(stderr));
        self.leader = None;
        Ok((status?.success(), written?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // The group may have ended in this moment, which is as good.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

async fn bounded(stderr: Option<ChildStderr>) -> io::Result<Vec<u8>> {
    let mut written = Vec::new();
    if let Some(mut stderr) = stderr {
        (&mut stderr).take(MAX_STDERR).read_to_end(&mut written).await?;
        copy(&mut stderr, &mut sink()).await?;
    }
    Ok(written)
}

/// An absolute path lets the system start the program without copying this process's memory tables first.
fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_absolute() && path.is_file())
}

#[cfg(test)]
mod tests;
