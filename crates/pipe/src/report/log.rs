//! Reads the logs of live attempts as they grow. The files are the truth; news only says when to look.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt};

use pipekeeper_controller::Layout;
use pipekeeper_model::{AttemptId, StepResult};

/// Bytes read at once, and at most of one tail.
const CHUNK: usize = 256 * 1024;

/// Follows the logs of a run.
#[derive(Debug)]
pub(crate) struct LogFollower {
    layout: Layout,
    offsets: BTreeMap<AttemptId, u64>,
}

impl LogFollower {
    /// Follows logs below this layout.
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            offsets: BTreeMap::new(),
        }
    }

    /// Where the logs are, and what lies beside them.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What an attempt wrote since the last call; empty if nothing. Repeat until empty to be sure to have all.
    pub(crate) fn next(&mut self, attempt: AttemptId) -> Vec<u8> {
        let offset = self.offsets.entry(attempt).or_default();
        let bytes = File::open(self.layout.log(attempt))
            .and_then(|file| read_at(&file, *offset, CHUNK))
            .unwrap_or_default();
        *offset += bytes.len() as u64;
        bytes
    }

    /// The last lines of what a step wrote.
    pub(crate) fn tail(&self, attempt: AttemptId, step: &StepResult, lines: usize) -> Vec<String> {
        let Ok(file) = File::open(self.layout.log(attempt)) else {
            return Vec::new();
        };
        let start = step.log_start.max(step.log_end.saturating_sub(64 * 1024));
        let length = usize::try_from(step.log_end.saturating_sub(start)).unwrap_or(0);
        let bytes = read_at(&file, start, length).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all.iter()
            .skip(all.len().saturating_sub(lines))
            .map(|line| (*line).to_owned())
            .collect()
    }
}

fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.min(CHUNK)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct LineCutter {
    rest: Vec<u8>,
}

/// A line without an end is cut here.
const LONGEST_LINE: usize = 64 * 1024;

impl LineCutter {
    /// The lines that are complete now.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if part.ends_with(b"\n") || self.rest.len() >= LONGEST_LINE {
                lines.extend(self.finish());
            }
        }
        lines
    }

    /// The last line, if it had no end.
    pub(crate) fn finish(&mut self) -> Option<String> {
        if self.rest.is_empty() {
            return None;
        }
        let line = String::from_utf8_lossy(&self.rest);
        let line = line.trim_end_matches(['\n', '\r']);
        // What was overwritten by a carriage return was not meant to stay.
        let line = line.rsplit('\r').next().unwrap_or(line).to_owned();
        self.rest.clear();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::LineCutter;

    #[test]
    fn lines_are_cut_wherever_the_chunks_end() {
        let mut cutter = LineCutter::default();
        assert!(cutter.push(b"on").is_empty());
        assert_eq!(
            cutter.push(b"e\r\ntwo 10%\rtwo 20%\n\nthr"),
            ["one", "two 20%", ""]
        );
        assert_eq!(cutter.finish().as_deref(), Some("thr"));
        assert_eq!(cutter.finish(), None);
    }

    #[test]
    fn a_line_without_end_does_not_fill_memory() {
        let mut cutter = LineCutter::default();
        let lines: usize = (0..40).map(|_| cutter.push(&[b'x'; 4096]).len()).sum();
        assert_eq!(lines, 2);
    }
}
