//! The program.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::protocol::AttemptDir;
use crate::supervisor::start;

/// Supervises the attempt whose folder this is; standard input is the listening control socket.
///
/// It must not be spawned as the leader of a process group, because it makes a session of its own. The exit code says
/// only whether it could start; everything else stands in the exit record.
#[must_use]
pub fn main(dir: &Path) -> ExitCode {
    match start(AttemptDir::new(dir)) {
        Ok(Some(supervisor)) => supervisor.run(),
        Ok(None) => {}
        Err(error) => {
            // Nobody may be listening.
            drop(writeln!(
                std::io::stderr(),
                "pipe agent: {}",
                crate::error_text(&error)
            ));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
