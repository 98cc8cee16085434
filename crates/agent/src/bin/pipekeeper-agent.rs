//! The supervisor as a program of its own: `pipekeeper-agent DIR`, or, in pods, `pipekeeper-agent ROLE [ARGUMENT]`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pipekeeper_agent::PodRole;

/// Where a pod's volumes are mounted.
const POD_ROOT: &str = "/pipe";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(first) = arguments.next() else {
        return ExitCode::FAILURE;
    };
    let second = arguments.next();
    let number = second.as_ref().and_then(|number| number.parse().ok());
    let role = match (first.as_str(), number) {
        ("supervise", _) => PodRole::Supervisor,
        ("step", Some(container)) => PodRole::Runner(usize::try_from(container).unwrap_or(usize::MAX)),
        ("attach", _) => PodRole::Attach,
        ("put", _) => PodRole::Put,
        ("get", _) => PodRole::Get,
        ("install", _) => PodRole::Install,
        ("hold", Some(seconds)) => PodRole::Hold(seconds),
        ("shell", _) => PodRole::Shell(second.unwrap_or_else(|| "dumb".to_owned())),
        (dir, _) => return pipekeeper_agent::main(&PathBuf::from(dir)),
    };
    let root = std::env::var_os("PIPE_POD_ROOT");
    pipekeeper_agent::main_in_pod(root.as_deref().map_or(Path::new(POD_ROOT), Path::new), role)
}
