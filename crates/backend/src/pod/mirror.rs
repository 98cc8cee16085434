//! What this side keeps of an attempt: its folder. Entry type: [`Mirror`].

use std::{
    fs,
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use pipekeeper_agent::protocol::{AttemptDir, ExitRecord, FileError};
use pipekeeper_model::{AttemptId, Holder};

use super::order::Order;

/// What stands in the ticket of an attempt that may never start.
const VOID: &str = "void";

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

    /// Why it is gone without a record, if that was said.
    pub(super) fn gone(&self) -> io::Result<Option<String>> {
        match fs::read_to_string(self.dir.path().join("gone")) {
            Ok(reason) => Ok(Some(reason)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says why there will be no record.
    pub(super) fn set_gone(&self, reason: &str) -> io::Result<()> {
        self.create()?;
        write_whole(&self.dir.path().join("gone"), reason.as_bytes())
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.dir.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
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

    /// Writes bytes at their place; two servers that write the same bytes do no harm.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let end = offset + u64::try_from(bytes.len()).unwrap_or_default();
        self.bytes = self.bytes.max(end);
        Ok(())
    }
}

/// A name beside a file that nobody else writes to, not even another server on the same folder.
pub(super) fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{number}.new", std::process::id()));
    path.with_file_name(name)
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
