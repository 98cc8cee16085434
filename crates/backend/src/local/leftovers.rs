//! Ends what a supervisor that died left running.
//!
//! Its processes may have sessions and parents of their own, but they all inherited their workspace's variable.

use std::{fs, io, path::Path, thread, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

const MOST_ROUNDS: usize = 2_000;
const PAUSE: Duration = Duration::from_millis(2);

/// Kills every process whose `PIPE_WORKSPACE` is this folder, until there is none.
pub(super) fn kill(workspace: &Path) -> io::Result<()> {
    let mark = format!("PIPE_WORKSPACE={}", workspace.display());
    for _ in 0..MOST_ROUNDS {
        let mut found = false;
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let pid = name
                .to_str()
                .and_then(|name| name.parse().ok())
                .and_then(Pid::from_raw);
            found |= pid.is_some_and(|pid| kill_marked(pid, mark.as_bytes()));
        }
        if !found {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(io::Error::other("processes of a dead supervisor do not end"))
}

/// The process is held by a descriptor while it is judged: its number may be another's at any time.
fn kill_marked(pid: Pid, mark: &[u8]) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    // A zombie's environment is empty.
    let Ok(environment) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else {
        return false;
    };
    let marked = environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == mark);
    marked && pidfd_send_signal(&process, Signal::KILL) != Err(Errno::PERM)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::Command};

    use super::*;

    #[test]
    fn marked_processes_end_and_others_do_not() {
        let temp = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("1000");
        let mut marked = sleep.env("PIPE_WORKSPACE", temp.path()).spawn().unwrap();
        let mut other = sleep
            .env("PIPE_WORKSPACE", temp.path().join("x"))
            .spawn()
            .unwrap();
        kill(temp.path()).unwrap();
        assert_eq!(marked.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
