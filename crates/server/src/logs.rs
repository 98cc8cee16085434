//! Reading log files: by offset, by the last lines, never whole. All functions block.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

use memchr::{memchr, memchr_iter, memrchr, memrchr_iter};

const CHUNK: usize = 256 * 1024;

/// A part of a log that starts where a line starts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    /// Where it starts.
    pub(crate) start: u64,
    /// The number of its first line, from 1.
    pub(crate) first_line: u64,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The whole log's size.
    pub(crate) size: u64,
}

impl Slice {
    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(length(&self.bytes))
    }

    /// Where its last line starts if that is not whole, else where it ends: a reader goes on from here.
    pub(crate) fn resume(&self) -> u64 {
        let tail = memrchr(b'\n', &self.bytes).map_or(0, |at| at + 1);
        self.start.saturating_add(u64::try_from(tail).unwrap_or(u64::MAX))
    }
}

/// Opens a log; none if nothing was written yet.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last lines, within a number of bytes.
pub(crate) fn tail(path: &Path, lines: usize, most: usize) -> io::Result<Slice> {
    let Some(file) = open(path)? else {
        return Ok(Slice {
            first_line: 1,
            ..Slice::default()
        });
    };
    tail_of(&file, lines, most, Known::default())
}

/// A line whose number is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Where it starts.
    pub(crate) start: u64,
    /// Its number, from 1.
    pub(crate) line: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self { start: 0, line: 1 }
    }
}

/// The last lines of a log that reaches beyond a known line, from which their numbers are counted.
pub(crate) fn tail_of(file: &File, lines: usize, most: usize, known: Known) -> io::Result<Slice> {
    let size = file.metadata()?.len();
    let from = size.saturating_sub(u64::try_from(most).unwrap_or(u64::MAX));
    let mut bytes = read(file, from, most)?;
    let whole = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let cut = match memrchr_iter(b'\n', whole).nth(lines.saturating_sub(1)) {
        Some(at) => at + 1,
        None if from > 0 => memchr(b'\n', whole).map_or(0, |at| at + 1),
        None => 0,
    };
    let bytes = bytes.split_off(cut);
    let start = from.saturating_add(u64::try_from(cut).unwrap_or(u64::MAX));
    Ok(Slice {
        start,
        first_line: known.line + lines_between(file, known.start, start)?,
        bytes,
        size,
    })
}

/// What follows an offset, moved on to the start of a line and ending with one where there is one.
pub(crate) fn window(path: &Path, offset: u64, most: usize) -> io::Result<Slice> {
    let Some(file) = open(path)? else {
        return Ok(Slice {
            first_line: 1,
            ..Slice::default()
        });
    };
    let size = file.metadata()?.len();
    let before = offset.min(size).saturating_sub(1);
    let mut bytes = read(&file, before, most.saturating_add(1))?;
    let mut start = before;
    if offset > 0 {
        let cut = memchr(b'\n', &bytes).map_or(1, |at| at + 1).min(bytes.len());
        bytes = bytes.split_off(cut);
        start = start.saturating_add(u64::try_from(cut).unwrap_or(u64::MAX));
    }
    if start.saturating_add(length(&bytes)) < size
        && let Some(last) = memrchr(b'\n', &bytes)
    {
        bytes.truncate(last + 1);
    }
    Ok(Slice {
        start,
        first_line: lines_between(&file, 0, start)? + 1,
        bytes,
        size,
    })
}

/// At most `most` bytes from an offset.
pub(crate) fn read(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(most)];
    let mut filled = 0;
    while let Some(space) = bytes.get_mut(filled..).filter(|space| !space.is_empty()) {
        let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
        match file.read_at(space, at) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// How many lines end between two offsets.
pub(crate) fn lines_between(file: &File, from: u64, to: u64) -> io::Result<u64> {
    let (mut lines, mut at) = (0_u64, from);
    let mut buffer = vec![0; CHUNK];
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
        let space = buffer.get_mut(..want).unwrap_or_default();
        let bytes = match file.read_at(space, at) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        lines += u64::try_from(memchr_iter(b'\n', bytes).count()).unwrap_or(0);
        at += length(bytes);
    }
    Ok(lines)
}

/// A length as files count it.
pub(crate) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, path::Path};

    use super::{tail, window};

    fn with_log(text: &str, check: impl FnOnce(&Path)) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        check(file.path());
    }

    #[test]
    fn the_tail_has_the_last_lines_with_their_numbers() {
        with_log("one\ntwo\nthree\nfo", |path| {
            let slice = tail(path, 2, 1_000).unwrap();
            assert_eq!(slice.bytes, b"three\nfo");
            assert_eq!((slice.first_line, slice.start, slice.end()), (3, 8, 16));
            assert_eq!(slice.resume(), 14);
            assert_eq!(tail(path, 99, 1_000).unwrap().first_line, 1);
            assert_eq!(tail(path, 99, 9).unwrap().bytes, b"three\nfo");
            assert_eq!(tail(path, 1, 1).unwrap().bytes, b"o");
        });
        with_log("one\ntwo\n", |path| {
            let slice = tail(path, 1, 1_000).unwrap();
            assert_eq!((slice.bytes.as_slice(), slice.first_line), (&b"two\n"[..], 2));
            assert_eq!(slice.resume(), 8);
        });
    }

    #[test]
    fn windows_are_whole_lines_and_cover_the_log() {
        let text = "one\ntwo\nthree\nfour\n";
        with_log(text, |path| {
            let mut seen = Vec::new();
            let mut offset = 0;
            let mut line = 1;
            while offset < u64::try_from(text.len()).unwrap() {
                let slice = window(path, offset, 9).unwrap();
                assert_eq!((slice.start, slice.first_line), (offset, line));
                assert!(slice.bytes.ends_with(b"\n"));
                line += u64::try_from(slice.bytes.iter().filter(|b| **b == b'\n').count()).unwrap();
                offset = slice.end();
                seen.extend(slice.bytes);
            }
            assert_eq!(seen, text.as_bytes());
            assert_eq!(window(path, 5, 100).unwrap().bytes, b"three\nfour\n");
            assert_eq!(window(path, 999, 100).unwrap().bytes, b"");
        });
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        assert_eq!(tail(Path::new("/nowhere/x"), 9, 9).unwrap().first_line, 1);
        assert_eq!(window(Path::new("/nowhere/x"), 9, 9).unwrap().size, 0);
    }
}
