//! What this side keeps of an attempt: its folder. Entry type: [`Mirror`].

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use pipekeeper_agent::protocol::{AttemptDir, ExitRecord, FileError};
use pipekeeper_model::{AttemptId, Holder};

use super::order::Order;
use crate::What;

/// How much of a log's end is looked for in another copy of it, and how much is looked through for the end of that copy.
const MARK: usize = 512;
const TAIL: usize = 1 << 20;
/// What stands in the ticket of an attempt that may never start.
const VOID: &str = "void";
/// The files that say why there is no record.
const GONE: &str = "gone";
const HOPELESS: &str = "hopeless";

/// The folder of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    dir: AttemptDir,
}

/// Who may start the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ticketed {
    /// It is open.
    Nobody,
    /// This pod, and it was told or is about to be.
    Pod(Holder),
    /// No pod, ever.
    Void,
}

impl Mirror {
    pub(super) fn new(attempts: &Path, attempt: AttemptId) -> Self {
        Self {
            dir: AttemptDir::new(attempts.join(attempt.to_string())),
        }
    }

    pub(super) fn dir(&self) -> &AttemptDir {
        &self.dir
    }

    fn order_path(&self) -> PathBuf {
        self.dir.path().join("pod.json")
    }

    /// Where the archive of a folder is made.
    pub(super) fn source_path(&self) -> PathBuf {
        self.dir.path().join("source.tar.zst")
    }

    pub(super) fn create(&self) -> io::Result<()> {
        fs::create_dir_all(self.dir.path())
    }

    pub(super) fn write_order(&self, order: &Order) -> io::Result<()> {
        let text = serde_json::to_vec(order)?;
        write_whole(&self.order_path(), &text)
    }

    pub(super) fn read_order(&self) -> io::Result<Option<Order>> {
        match fs::read(self.order_path()) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn ticketed(&self) -> io::Result<Ticketed> {
        Ok(match self.dir.read_ticket().map_err(io::Error::other)? {
            None => Ticketed::Nobody,
            Some(holder) if holder == VOID => Ticketed::Void,
            Some(holder) => Ticketed::Pod(Holder(holder)),
        })
    }

    /// Gives the ticket to a pod, or to none, unless it is given already; who has it then.
    pub(super) fn ticket(&self, to: &Ticketed) -> io::Result<Ticketed> {
        let text = match to {
            Ticketed::Nobody => return self.ticketed(),
            Ticketed::Pod(holder) => holder.0.as_str(),
            Ticketed::Void => VOID,
        };
        self.create()?;
        let temporary = beside(&self.dir.ticket());
        fs::write(&temporary, text)?;
        // A link is made whole or not at all, and never over another.
        let linked = fs::hard_link(&temporary, self.dir.ticket());
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => self.ticketed(),
        }
    }

    pub(super) fn write_record(&self, record: &ExitRecord) -> io::Result<()> {
        write_whole(&self.dir.exit(), &serde_json::to_vec(record)?)
    }

    pub(super) fn record(&self) -> io::Result<Option<ExitRecord>> {
        self.dir.read_record().map_err(|error| match error {
            FileError::Io { source, .. } => source,
            other @ (FileError::Json { .. } | FileError::Version { .. }) => io::Error::other(other),
        })
    }

    /// How it ended without a record, if that was said.
    pub(super) fn end(&self) -> io::Result<Option<What>> {
        let read = |name| match fs::read_to_string(self.dir.path().join(name)) {
            Ok(reason) => Ok(Some(reason)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(reason) = read(HOPELESS)? {
            return Ok(Some(What::Hopeless { reason }));
        }
        Ok(read(GONE)?.map(|reason| What::Gone { reason }))
    }

    /// Says how it ended without a record; other observations are no end.
    pub(super) fn set_end(&self, end: &What) -> io::Result<()> {
        let (name, reason) = if let What::Hopeless { reason } = end {
            (HOPELESS, reason)
        } else if let What::Gone { reason } = end {
            (GONE, reason)
        } else {
            return Err(ErrorKind::InvalidInput.into());
        };
        self.create()?;
        write_whole(&self.dir.path().join(name), reason.as_bytes())
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        unless_absent(fs::remove_dir_all(self.dir.path()))
    }

    /// What was launched is not, and will be launched anew.
    pub(super) fn remove_order(&self) -> io::Result<()> {
        unless_absent(fs::remove_file(self.order_path()))
    }
}

fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The log's file on this side.
#[derive(Debug)]
pub(super) struct Log {
    file: fs::File,
    bytes: u64,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o640)
            .open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    /// The bytes it has.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What this log lacks of a copy of it.
    pub(super) fn missing<'a>(&self, copy: &'a [u8]) -> io::Result<Missing<'a>> {
        let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let mut tail = vec![0; bytes.min(TAIL)];
        let start = self.bytes - u64::try_from(tail.len()).unwrap_or_default();
        self.file.read_exact_at(&mut tail, start)?;
        // Little is enough to find the place, and a copy that lags behind may have little of the end.
        let mark = tail.get(tail.len().saturating_sub(MARK)..).unwrap_or_default();
        match missing(mark, bytes, copy) {
            Missing::AfterGap(_) => Ok(missing(&tail, bytes, copy)),
            found @ (Missing::Nothing | Missing::Rest(_)) => Ok(found),
        }
    }

    /// Adds text at the end, on a line of its own.
    pub(super) fn append_line(&mut self, text: &[u8]) -> io::Result<()> {
        let mut last = [b'\n'];
        if let Some(at) = self.bytes.checked_sub(1) {
            self.file.read_exact_at(&mut last, at)?;
        }
        let gap: &[u8] = if last == [b'\n'] { b"" } else { b"\n" };
        self.write(self.bytes, &[gap, text].concat())
    }

    /// Takes what came of it, up to so many bytes: who sends more has forgotten its own limit.
    pub(super) fn take(&mut self, offset: u64, bytes: &[u8], most: u64) -> io::Result<()> {
        if self.bytes >= most {
            return Ok(());
        }
        if offset > self.bytes {
            return Err(io::Error::other("a part of it did not come"));
        }
        let room = usize::try_from(most - offset).unwrap_or(usize::MAX);
        self.write(offset, bytes.get(..room).unwrap_or(bytes))
    }

    /// Writes bytes at their place; two servers that write the same bytes do no harm.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let end = offset + u64::try_from(bytes.len()).unwrap_or_default();
        self.bytes = self.bytes.max(end);
        Ok(())
    }
}

/// What a log lacks of another copy of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing<'a> {
    Nothing,
    /// This is what follows.
    Rest(&'a [u8]),
    /// This follows, but not at once.
    AfterGap(&'a [u8]),
}

/// What `copy` has after `tail`, the end of a log of `bytes` bytes. The copy may begin later than the log does, because a
/// node throws old output away, and may end earlier.
fn missing<'a>(tail: &[u8], bytes: usize, copy: &'a [u8]) -> Missing<'a> {
    let from = |at: usize| match copy.get(at..).unwrap_or_default() {
        [] => Missing::Nothing,
        rest => Missing::Rest(rest),
    };
    let starts_alike = bytes
        .checked_sub(tail.len())
        .and_then(|start| copy.get(start..bytes))
        == Some(tail);
    if starts_alike {
        return from(bytes);
    }
    let find = |text: &[u8], part: &[u8]| text.windows(part.len().max(1)).rposition(|window| window == part);
    if let Some(at) = find(copy, tail) {
        return from(at + tail.len());
    }
    let end = copy.get(copy.len().saturating_sub(MARK)..).unwrap_or_default();
    if end.is_empty() || find(tail, end).is_some() {
        return Missing::Nothing;
    }
    Missing::AfterGap(copy)
}

/// A name beside a file that nobody else writes to, not even another server on the same folder.
pub(super) fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // In containers every server may be process 1.
    static OURS: OnceLock<u64> = OnceLock::new();
    let ours = OURS.get_or_init(|| getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id())));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{ours:x}-{number}.new"));
    path.with_file_name(name)
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_takes_no_more_than_it_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("log")).unwrap();
        log.take(0, b"abc", 5).unwrap();
        assert!(log.take(4, b"e", 5).is_err(), "there is a gap");
        log.take(3, b"defg", 5).unwrap();
        log.take(7, b"h", 5).unwrap();
        assert_eq!(log.bytes(), 5);
        log.append_line(b"our own\n").unwrap();
        assert_eq!(fs::read(folder.path().join("log")).unwrap(), b"abcde\nour own\n");
    }

    #[test]
    fn what_a_copy_has_more_is_found_wherever_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::open(&folder.path().join("log")).unwrap();
        assert_eq!(log.missing(b"").unwrap(), Missing::Nothing);
        assert_eq!(log.missing(b"abc").unwrap(), Missing::Rest(b"abc"));
        let whole: Vec<u8> = (0..3000)
            .flat_map(|line| format!("line {line}\n").into_bytes())
            .collect();
        let known = 20_000;
        log.write(0, &whole[..known]).unwrap();
        assert_eq!(log.missing(&whole).unwrap(), Missing::Rest(&whole[known..]));
        assert_eq!(log.missing(&whole[..known]).unwrap(), Missing::Nothing);
        // The node kept the end only.
        assert_eq!(
            log.missing(&whole[15_000..]).unwrap(),
            Missing::Rest(&whole[known..])
        );
        assert_eq!(
            log.missing(&whole[25_000..]).unwrap(),
            Missing::AfterGap(&whole[25_000..])
        );
        // Or lags behind.
        assert_eq!(log.missing(&whole[..15_000]).unwrap(), Missing::Nothing);
        assert_eq!(log.missing(&whole[10_000..15_000]).unwrap(), Missing::Nothing);
        log.append_line(b"note\n").unwrap();
        let text = fs::read(folder.path().join("log")).unwrap();
        assert!(
            text.ends_with(b"\nnote\n") && text.len() == known + 5 + usize::from(whole[known - 1] != b'\n')
        );
    }
}
