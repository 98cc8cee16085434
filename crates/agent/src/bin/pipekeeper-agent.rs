//! The supervisor as a program of its own: `pipekeeper-agent DIR`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    std::env::args_os().nth(1).map_or(ExitCode::FAILURE, |dir| {
        pipekeeper_agent::main(&PathBuf::from(dir))
    })
}
