//! What this container's memory limit did: control groups of either version.

use std::fs;

use rustix::process::Pid;

/// Thousandths of the memory there is that a process of a step counts as using on top.
const PREFERENCE: i32 = 100;

/// How many processes of this control group were killed for want of memory; 0 where that cannot be told.
pub(crate) fn kills() -> u64 {
    // Version 2, then version 1.
    [
        "/sys/fs/cgroup/memory.events",
        "/sys/fs/cgroup/memory/memory.oom_control",
    ]
    .iter()
    .filter_map(|path| fs::read_to_string(path).ok())
    .find_map(|text| field(&text, "oom_kill"))
    .unwrap_or(0)
}

/// Has the kernel kill this process, and what it starts, before us when memory is short. What it kills first may take a
/// moment to give its memory back, and the next in line must not be the one who tells of it.
pub(crate) fn prefer(pid: Pid) {
    let path = format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero());
    let known = fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse::<i32>().ok());
    if let Some(score) = known {
        // It may have ended; and without this it is killed all the same, only less surely first.
        drop(fs::write(path, (score + PREFERENCE).min(1000).to_string()));
    }
}

/// Why a step was killed for want of memory, with the limit.
pub(crate) fn reason() -> String {
    let limit = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]
    .iter()
    .filter_map(|path| fs::read_to_string(path).ok())
    .find_map(|text| text.trim().parse::<u64>().ok());
    match limit {
        Some(bytes) => format!(
            "out of memory: it wanted more than its limit of {} MiB",
            bytes >> 20
        ),
        None => "out of memory".to_owned(),
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find_map(|(key, value)| (key == name).then(|| value.trim().parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(field("low 0\noom 1\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(
            field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"),
            Some(3)
        );
        assert_eq!(field("oom_kill_disable 0\n", "oom_kill"), None);
    }
}
