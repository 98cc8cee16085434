//! The program.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::pod::{self, attach, bulk, hold, runner};
use crate::protocol::AttemptDir;
use crate::supervisor::{StartError, Supervisor, start};

/// What a process of this program is in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRole {
    /// The supervisor, the first process of its container.
    Supervisor,
    /// The runner of the container with this index, whose steps it starts.
    Runner(usize),
    /// The pod's end of a control stream.
    Attach,
    /// The pod's end of a stream that brings files.
    Put,
    /// The pod's end of a stream that fetches files.
    Get,
    /// The program puts itself where the steps' containers find it, for images without a shell to wait in.
    Install,
    /// What runs in the place of a step that a person looks into, for so many seconds at most.
    Hold(u64),
    /// That person's shell, on a terminal of this name.
    Shell(String),
}

/// Supervises the attempt whose folder this is; standard input is the listening control socket.
///
/// It must not be spawned as the leader of a process group, because it makes a session of its own. The exit code says
/// only whether it could start; everything else stands in the exit record.
#[must_use]
pub fn main(dir: &Path) -> ExitCode {
    let started = start(AttemptDir::new(dir));
    exit(started.map(|supervisor| drop(supervisor.and_then(Supervisor::run))))
}

/// Plays a role in a pod whose volumes are mounted below `root`.
#[must_use]
pub fn main_in_pod(root: &Path, role: PodRole) -> ExitCode {
    let dir = AttemptDir::in_pod(root);
    let tools = dir.tools().unwrap_or(root);
    match role {
        PodRole::Supervisor => exit(pod::serve(root)),
        PodRole::Runner(container) => runner::run(tools, container),
        PodRole::Attach => attach::run(&dir.socket()),
        PodRole::Put => bulk::put(&dir),
        PodRole::Get => bulk::get(&dir),
        PodRole::Hold(seconds) => hold::hold(Duration::from_secs(seconds)),
        PodRole::Shell(term) => hold::shell(&term),
        PodRole::Install => match pod::install(tools) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
    }
}

fn exit(ended: Result<(), StartError>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    // Nobody may be listening.
    drop(writeln!(
        std::io::stderr(),
        "pipe agent: {}",
        crate::error_text(error)
    ));
    ExitCode::FAILURE
}
