//! The log of an attempt: raw bytes, masked, up to a limit.
//!
//! Entry types: [`LogSink`] and [`LogReader`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use memchr::memmem;

use crate::echo::Echo;
use crate::mask::Masker;

/// The longest `+ LINE: ` that may straddle two chunks.
const CARRY: usize = 24;

/// Bytes of log that are sent at once.
const CHUNK: usize = 256 << 10;

/// Appends output to the log file.
pub(crate) struct LogSink {
    file: File,
    /// Where a copy goes.
    copy: Option<Echo>,
    len: u64,
    limit: u64,
    truncated: bool,
    masker: Option<Masker>,
    scratch: Vec<u8>,
    at_line_start: bool,
    /// The end of the output so far.
    carry: Vec<u8>,
    last_line: Option<u32>,
}

impl LogSink {
    /// Opens the file; the limit counts the bytes that this sink adds.
    pub(crate) fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self {
            file,
            copy: None,
            len,
            limit: len.saturating_add(limit),
            truncated: false,
            masker: None,
            scratch: Vec::new(),
            at_line_start: true,
            carry: vec![b'\n'],
            last_line: None,
        })
    }

    /// Writes everything to standard output too, where the log of a container is, behind this mark.
    pub(crate) fn copy_to_stdout(&mut self, mark: Option<&str>) {
        let mut copy = Echo::start(io::stdout());
        if let Some(mark) = mark {
            copy.put(mark.as_bytes());
        }
        self.copy = Some(copy);
    }

    /// Waits a moment until the copy is out.
    pub(crate) fn finish_copy(&mut self, patience: Duration) {
        if let Some(copy) = self.copy.take() {
            copy.finish(patience);
        }
    }

    /// Reads the log's file from an offset on.
    pub(crate) fn reader(&self, path: &Path, from: u64) -> io::Result<LogReader> {
        Ok(LogReader {
            file: File::open(path)?,
            offset: from,
            buffer: vec![0; CHUNK],
        })
    }

    /// Hides these values from now on.
    pub(crate) fn mask(&mut self, masker: Option<Masker>) {
        self.masker = masker;
    }

    /// Whether there is any value to hide.
    pub(crate) fn hides_anything(&self) -> bool {
        self.masker.is_some()
    }

    /// Hides the values in a text that goes elsewhere.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.masker
            .as_ref()
            .map_or_else(|| text.to_owned(), |masker| masker.mask(text))
    }

    /// The bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether bytes were dropped.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The line of the last command that a shell echoed since the last call.
    pub(crate) fn take_last_line(&mut self) -> Option<u32> {
        self.carry = vec![b'\n'];
        self.last_line.take()
    }

    /// Takes output as it comes.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let Some(masker) = self.masker.as_mut() else {
            return self.append(bytes);
        };
        let mut masked = std::mem::take(&mut self.scratch);
        masked.clear();
        masker.push(bytes, &mut masked);
        self.append(&masked);
        self.scratch = masked;
    }

    /// Writes what the masker still holds back.
    pub(crate) fn flush(&mut self) {
        let mut rest = Vec::new();
        if let Some(masker) = self.masker.as_mut() {
            masker.flush(&mut rest);
        }
        self.append(&rest);
    }

    /// Adds a line of our own, also beyond the limit; what it quotes may hold secrets.
    pub(crate) fn note(&mut self, text: &str) {
        self.flush();
        let start = if self.at_line_start { "" } else { "\n" };
        let text = self.masked(text);
        self.put(format!("{start}pipekeeper: {text}\n").as_bytes());
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.truncated || bytes.is_empty() {
            return;
        }
        let room = usize::try_from(self.limit.saturating_sub(self.len)).unwrap_or(usize::MAX);
        self.track(bytes);
        match bytes.get(..room) {
            Some(fits) if fits.len() < bytes.len() => {
                self.put(fits);
                self.truncated = true;
                self.note("the log limit is reached; what follows is dropped");
            }
            _ => self.put(bytes),
        }
    }

    /// A full disk drops bytes, not the attempt.
    fn put(&mut self, bytes: &[u8]) {
        match self.file.write_all(bytes) {
            Ok(()) => self.len += u64::try_from(bytes.len()).unwrap_or_default(),
            Err(_) => {
                self.truncated = true;
                self.len = self.file.metadata().map_or(self.len, |metadata| metadata.len());
            }
        }
        if let Some(copy) = self.copy.as_mut() {
            copy.put(bytes);
        }
        self.at_line_start = bytes.last().map_or(self.at_line_start, |last| *last == b'\n');
    }

    fn track(&mut self, bytes: &[u8]) {
        let (head, end) = (bytes.len().min(CARRY), bytes.len().saturating_sub(CARRY));
        self.carry
            .extend_from_slice(bytes.get(..head).unwrap_or_default());
        let line = last_echo(bytes).or_else(|| last_echo(&self.carry));
        self.last_line = line.or(self.last_line);
        if end > 0 {
            self.carry.clear();
            self.carry.extend_from_slice(bytes.get(end..).unwrap_or_default());
        } else {
            let old = self.carry.len().saturating_sub(CARRY);
            self.carry.drain(..old);
        }
    }
}

/// Reads the log's file behind its writer.
pub(crate) struct LogReader {
    file: File,
    offset: u64,
    buffer: Vec<u8>,
}

impl LogReader {
    /// The offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<&[u8]> {
        let count = self.file.read_at(&mut self.buffer, self.offset)?;
        self.offset += u64::try_from(count).unwrap_or_default();
        Ok(self.buffer.get(..count).unwrap_or_default())
    }
}

/// The number in the last line of the form `+ 42: …`.
fn last_echo(bytes: &[u8]) -> Option<u32> {
    memmem::rfind_iter(bytes, b"\n+").find_map(|at| {
        let line = bytes.get(at + 1..)?;
        let line = line
            .get(line.iter().position(|byte| *byte != b'+')?..)?
            .strip_prefix(b" ")?;
        let (number, rest) = line.split_at_checked(line.iter().position(|byte| !byte.is_ascii_digit())?)?;
        if rest.starts_with(b": ") {
            std::str::from_utf8(number).ok()?.parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(limit: u64, work: impl FnOnce(&mut LogSink)) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut sink = LogSink::open(&path, limit).unwrap();
        work(&mut sink);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(sink.len(), bytes.len() as u64);
        bytes
    }

    #[test]
    fn bytes_stay_as_they_are() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(log(1000, |sink| sink.write(&bytes)), bytes);
    }

    #[test]
    fn the_limit_leaves_one_marker() {
        let out = log(5, |sink| {
            sink.write(b"123");
            sink.write(b"45678");
            sink.write(b"9");
            assert!(sink.is_truncated());
        });
        assert_eq!(
            out,
            b"12345\npipekeeper: the log limit is reached; what follows is dropped\n"
        );
        assert_eq!(log(3, |sink| sink.write(b"123")), b"123");
    }

    #[test]
    fn notes_start_a_line_and_flush_what_is_held() {
        let out = log(100, |sink| {
            sink.mask(Masker::new(["hunter2"]));
            sink.write(b"hunt");
            sink.note("one");
            sink.note("two");
            sink.write(b"hunter2\n");
            sink.note("three");
        });
        assert_eq!(
            out,
            b"hunt\npipekeeper: one\npipekeeper: two\n***\npipekeeper: three\n"
        );
    }

    #[test]
    fn the_last_echoed_line_is_seen_at_every_split() {
        let text = b"+ 3: make\nout\n++ 42: sub +\n+x\n+ y: z\n + 9: no\nend of it all, quite a long line\n";
        for split in 0..=text.len() {
            log(1000, |sink| {
                sink.write(&text[..split]);
                sink.write(&text[split..]);
                assert_eq!(sink.take_last_line(), Some(42), "split at {split}");
                assert_eq!(sink.take_last_line(), None);
            });
        }
        for size in 1..9 {
            log(1000, |sink| {
                text.chunks(size).for_each(|chunk| sink.write(chunk));
                assert_eq!(sink.take_last_line(), Some(42), "chunks of {size}");
            });
        }
    }
}
