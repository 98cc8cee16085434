//! Starting a program whose output goes to a pipe. Entry type: [`Program`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Pid;

pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("working directory `{path}` cannot be used: {reason}")]
    WorkingDir { path: String, reason: &'static str },
    #[error("there is no command")]
    Empty,
    #[error("command `{0}` not found")]
    NotFound(String),
    #[error("cannot write the script")]
    Script(#[source] io::Error),
    #[error("cannot start `{program}`")]
    Spawn {
        program: String,
        #[source]
        source: io::Error,
    },
}

impl SpawnError {
    /// The exit code that a shell would give.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::NotFound(_) => 127,
            Self::WorkingDir { .. } | Self::Empty | Self::Script(_) | Self::Spawn { .. } => 126,
        }
    }
}

/// Bytes that the pipe of a step's output holds, where that many are allowed.
const PIPE_BYTES: usize = 1 << 20;

/// Makes the end of the pipe that all steps write to as it was: what one does to it, on purpose or not, lasts.
pub(crate) fn refresh(output: &OwnedFd) {
    // What cannot be set back shows in the next step's own writes.
    if let Ok(flags) = rustix::fs::fcntl_getfl(output)
        && flags.contains(rustix::fs::OFlags::NONBLOCK)
    {
        let _ = rustix::fs::fcntl_setfl(output, flags - rustix::fs::OFlags::NONBLOCK);
    }
    // A smaller pipe is slower, no more.
    let _ = rustix::pipe::fcntl_setpipe_size(output, PIPE_BYTES);
}

/// What is started.
pub(crate) struct Program<'a> {
    /// The program, by path or to be found on `PATH`.
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a [OsString],
    /// Its whole environment.
    pub(crate) env: &'a BTreeMap<OsString, OsString>,
    pub(crate) folder: &'a Path,
}

impl Program<'_> {
    /// Starts it in a process group of its own, with both outputs to the pipe and nothing to read.
    pub(crate) fn spawn(&self, output: &OwnedFd) -> Result<Pid, SpawnError> {
        let path = self.env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let file =
            find(self.name, self.folder, &path).ok_or_else(|| SpawnError::NotFound(self.name.to_owned()))?;
        let spawned = output.try_clone().and_then(|out| {
            let error = output.try_clone()?;
            Command::new(&file)
                .arg0(self.name)
                .args(self.arguments)
                .env_clear()
                .envs(self.env)
                .current_dir(self.folder)
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(error)
                .spawn()
        });
        let child = spawned.map_err(|source| SpawnError::Spawn {
            program: self.name.to_owned(),
            source,
        })?;
        i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or(SpawnError::Empty)
    }
}

/// The file of a program, as a shell would find it. With a whole path the child is made without a full fork.
pub(crate) fn find(program: &str, folder: &Path, path: &OsStr) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(folder.join(program));
    }
    let is_program = |file: &PathBuf| {
        fs::metadata(file)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path)
        .map(|part| folder.join(part).join(program))
        .find(is_program)
}
