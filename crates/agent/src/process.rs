//! The processes below this one: who they are, ending them, reaping them.
//!
//! This process is a subreaper, so whatever a step leaves behind, however it forked, becomes its child.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};

const MOST_DESCRIBED: usize = 100;
const LONGEST_COMMAND: usize = 200;

/// The processes that are alive below this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) pids: Vec<i32>,
    /// CPU time of those alive, and of those that they waited for.
    pub(crate) cpu_ms: u64,
}

/// Whether any child is left after reaping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Children {
    Some,
    None,
}

/// One process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    parent: i32,
    own_ticks: u64,
    waited_ticks: u64,
}

impl Tree {
    /// Looks through `/proc`.
    pub(crate) fn read() -> io::Result<Self> {
        let mut children: BTreeMap<i32, Vec<(i32, Stat)>> = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // It may be gone by now.
            let Ok(text) = fs::read(format!("/proc/{pid}/stat")) else {
                continue;
            };
            if let Some(stat) = parse_stat(&text) {
                children.entry(stat.parent).or_default().push((pid, stat));
            }
        }
        let mut tree = Self::default();
        let mut open = vec![getpid().as_raw_nonzero().get()];
        let mut ticks = 0;
        while let Some(parent) = open.pop() {
            for (pid, stat) in children.remove(&parent).unwrap_or_default() {
                open.push(pid);
                ticks += stat.own_ticks + stat.waited_ticks;
                if stat.state != b'Z' && stat.state != b'X' {
                    tree.pids.push(pid);
                }
            }
        }
        tree.cpu_ms = to_ms(ticks);
        Ok(tree)
    }

    /// Sends a signal to each of them; those that ended meanwhile do not matter.
    pub(crate) fn signal(&self, signal: Signal) {
        for pid in self.pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Processes for people: id, state, CPU seconds and command, one a line.
pub(crate) fn describe(pids: &[i32]) -> String {
    let mut text = String::new();
    for pid in pids.iter().take(MOST_DESCRIBED) {
        let (Ok(stat), Ok(command)) = (
            fs::read(format!("/proc/{pid}/stat")),
            fs::read(format!("/proc/{pid}/cmdline")),
        ) else {
            continue;
        };
        let Some(stat) = parse_stat(&stat) else { continue };
        let words: Vec<_> = command
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let command: String = words.join(" ").chars().take(LONGEST_COMMAND).collect();
        let seconds = to_ms(stat.own_ticks) / 1000;
        let state = char::from(stat.state);
        text.push_str(&format!("{pid} {state} {seconds} s {}\n", command.trim_end()));
    }
    text
}

/// Takes the exit statuses of all children that ended.
pub(crate) fn reap(mut ended: impl FnMut(Pid, WaitStatus)) -> Children {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended(pid, status),
            Ok(None) => return Children::Some,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Children::None,
        }
    }
}

/// The CPU time of all processes that were reaped.
pub(crate) fn reaped_cpu_ms() -> u64 {
    fs::read("/proc/self/stat")
        .ok()
        .and_then(|text| parse_stat(&text))
        .map_or(0, |stat| to_ms(stat.waited_ticks))
}

fn to_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1)
}

/// The fields after the name, which may hold anything.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = memchr::memrchr(b')', text)?;
    let fields = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().take(15).collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: number(11)? + number(12)?,
        waited_ticks: number(13)? + number(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let text = b"7 (a) b) R) S 3 7 7 0 -1 4194304 1 2 0 0 10 20 1 2 20 0 1 0 5 6 7";
        let expected = Stat {
            state: b'S',
            parent: 3,
            own_ticks: 30,
            waited_ticks: 3,
        };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat(b"7 (a) S"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_child_is_in_the_tree() {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "read line"])
            .stdin(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let tree = Tree::read().unwrap();
        assert!(tree.pids.contains(&i32::try_from(child.id()).unwrap()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
