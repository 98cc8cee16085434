//! The processes that belong to a round: its folder stands in their command line or in their environment.

use std::{fs, os::unix::ffi::OsStrExt, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// Those that live, with their command lines.
pub(crate) fn living(root: &Path) -> Vec<(Pid, String)> {
    let folder = root.as_os_str().as_bytes();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_ours = [&command, &environment]
                .iter()
                .any(|text| text.windows(folder.len()).any(|part| part == folder));
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            is_ours.then_some((pid, command))
        })
        .collect()
}

/// Ends what a failed round left.
pub(crate) fn kill(root: &Path) {
    for (pid, _) in living(root) {
        // One that has ended meanwhile is as good.
        let _ = kill_process(pid, Signal::KILL);
    }
}
