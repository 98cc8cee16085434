//! A supervisor's program, as small as it gets.

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    match env::args_os().nth(3) {
        Some(folder) => pipekeeper_agent::main(Path::new(&folder)),
        None => ExitCode::from(2),
    }
}
