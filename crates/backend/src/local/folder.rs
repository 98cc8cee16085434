//! An attempt's folder: what stands in it, who holds it, and its socket. Entry type: [`Folder`].

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::{
            fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use pipekeeper_agent::protocol::{AttemptDir, AttemptSpec, ExitRecord, FileError, RecordOutcome};
use pipekeeper_model::AttemptId;
use rustix::fs::{FlockOperation, IFlags, flock, ioctl_getflags, ioctl_setflags};

/// Why an attempt is gone that was stopped before a supervisor started it.
pub(super) const STOPPED_BEFORE: &str = "it was stopped before it started";

const VOID: &str = "void";
const LAST_WORDS: u64 = 1024;

/// The folder of one attempt.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    dir: AttemptDir,
}

/// What an attempt's folder says about it.
#[derive(Debug)]
pub(super) enum Standing {
    /// There is no folder.
    Absent,
    /// A supervisor lives, or somebody is about to start one.
    Alive,
    /// It left its record; at most its supervisor is still tidying up.
    Finished(Box<ExitRecord>),
    /// Its supervisor is gone without a record, or may never start: no user code will run any more.
    Dead(String),
    /// Nobody runs it and no user code ever ran; whoever holds the lock may start it.
    Unstarted(AliveLock),
}

/// The right to start a supervisor in a folder; a supervisor inherits it and holds it for its life.
#[derive(Debug)]
pub(super) struct AliveLock(File);

impl AliveLock {
    /// The open file: the lock belongs to it and its duplicates.
    pub(super) fn into_file(self) -> File {
        self.0
    }
}

impl Folder {
    pub(super) fn new(attempts: &Path, attempt: AttemptId) -> Self {
        Self::at(attempts.join(attempt.to_string()))
    }

    /// A folder by its path, whose last part is the id.
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            dir: AttemptDir::new(path),
        }
    }

    pub(super) fn dir(&self) -> &AttemptDir {
        &self.dir
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the folder unless it is there.
    pub(super) fn create(&self) -> io::Result<()> {
        match make_private(self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.create_parent()?;
                make_private(self.path())
            }
            made => made,
        }
    }

    /// Makes the folder that it is in.
    pub(super) fn create_parent(&self) -> io::Result<()> {
        let parent = self.path().parent().unwrap_or(Path::new("/"));
        if parent.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        keep_apart(parent)
    }

    /// Looks what became of the attempt.
    pub(super) fn look(&self) -> io::Result<Standing> {
        let lock = match lock_alive(self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Standing::Absent),
            lock => lock?,
        };
        // The lock was tried first: a supervisor that is gone now can have written nothing since.
        match self.dir.read_record() {
            Ok(Some(record)) => return self.judge(record),
            Ok(None) => {}
            Err(FileError::Io { source, .. }) => return Err(source),
            Err(error @ (FileError::Json { .. } | FileError::Version { .. })) => {
                return Ok(Standing::Dead(format!("its exit record is unreadable: {error}")));
            }
        }
        let Some(lock) = lock else {
            return Ok(Standing::Alive);
        };
        Ok(match self.dir.read_ticket().map_err(io::Error::other)? {
            Some(holder) if holder == VOID => Standing::Dead(STOPPED_BEFORE.to_owned()),
            Some(_) => Standing::Dead(format!("its supervisor died{}", last_words(lock.0))),
            None => Standing::Unstarted(lock),
        })
    }

    /// Makes sure that the attempt is never started.
    pub(super) fn void(&self, lock: AliveLock) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.dir.ticket())?
            .write_all(VOID.as_bytes())?;
        drop(lock);
        Ok(())
    }

    pub(super) fn write_spec(&self, spec: &AttemptSpec) -> io::Result<()> {
        self.dir.write_spec(spec).map_err(io::Error::other)
    }

    /// What a supervisor that died before its ticket had to say.
    pub(super) fn last_words(lock: AliveLock) -> String {
        last_words(lock.into_file())
    }

    /// Binds the control socket anew.
    pub(super) fn bind(&self) -> io::Result<UnixListener> {
        let folder = File::open(self.path())?;
        let socket = socket_in(&folder);
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Connects to the control socket.
    pub(super) fn connect(&self) -> io::Result<UnixStream> {
        let folder = File::open(self.path())?;
        UnixStream::connect(socket_in(&folder))
    }

    fn judge(&self, record: ExitRecord) -> io::Result<Standing> {
        let ticket = self.dir.read_ticket().map_err(io::Error::other)?;
        let ours = self.path().file_name().is_some_and(|id| *id == *record.attempt);
        let by_holder = record.started_ms.is_none() || ticket.as_ref() == Some(&record.holder);
        Ok(if !ours || !by_holder {
            Standing::Dead("its exit record is another's".to_owned())
        } else if record.outcome == RecordOutcome::Refused {
            Standing::Dead("it was refused its ticket".to_owned())
        } else {
            Standing::Finished(Box::new(record))
        })
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Asks the file system to keep the folders in this one apart, if many come and go.
///
/// ext4 looks at every inode that was freed in the last minutes before it makes a new one near by; attempts free so
/// many that this would soon take longer than all else. Other file systems do not know the flag, nor the trouble.
///
/// # Errors
/// If the folder cannot be opened.
pub fn keep_apart(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    if let Ok(flags) = ioctl_getflags(&folder)
        && !flags.contains(IFlags::TOPDIR)
    {
        let _ = ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
    Ok(())
}

fn lock_alive(folder: &Path) -> io::Result<Option<AliveLock>> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(folder.join("alive"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(AliveLock(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The socket's path by the open folder: the folder's own path may be longer than a socket address.
fn socket_in(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/sock", folder.as_raw_fd()))
}

/// The end of what a supervisor wrote before it died, for people.
fn last_words(mut alive: File) -> String {
    let mut text = Vec::new();
    let read = alive.metadata().and_then(|meta| {
        alive.seek(SeekFrom::Start(meta.len().saturating_sub(LAST_WORDS)))?;
        alive.take(LAST_WORDS).read_to_end(&mut text)
    });
    let text = String::from_utf8_lossy(&text);
    match (read, text.trim()) {
        (Err(_), _) | (Ok(_), "") => String::new(),
        (Ok(_), text) => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests;
