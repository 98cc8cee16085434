//! Supervisors that wait for an attempt, because starting a program takes longer than most small actions.
//!
//! A spare waits in a folder of its own with its socket bound and its lock held. To launch is to rename that folder to
//! the attempt's, which fails if there is one already, and to tell the spare. Entry type: [`Spares`].

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use pipekeeper_agent::protocol::{AttemptSpec, ToAgent, write_frame};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, RenameFlags, renameat_with},
    net::{RecvFlags, recv},
};

use super::{
    LocalOptions,
    folder::{Folder, Standing},
    supervisor,
};

const FEWEST: usize = 2;
const PATIENCE_SECONDS: i64 = 2;
const MOST: usize = 16;

/// Names spares, whatever backend of this process they belong to.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The spares of one backend.
#[derive(Debug, Default)]
pub(super) struct Spares {
    shelf: Mutex<Shelf>,
    swept: OnceLock<()>,
    was_asked: AtomicBool,
}

#[derive(Debug, Default)]
struct Shelf {
    ready: Vec<Spare>,
    starting: usize,
}

/// One spare; it leaves when this is dropped, with its folder, unless it was begun.
#[derive(Debug)]
pub(super) struct Spare {
    folder: Folder,
    leash: UnixStream,
}

/// What became of the attempt to use a spare.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is the attempt's supervisor now.
    Connected(UnixStream),
    /// The attempt has a folder now; what stands in it must be looked at.
    Exists,
    /// There is no spare, or it cannot be used.
    Unavailable,
}

/// How far a spare is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Waiting,
    Dead,
}

impl Spares {
    /// Gives an attempt without a folder to a spare.
    pub(super) fn begin(&self, folder: &Folder, spec: &AttemptSpec) -> io::Result<Begun> {
        let Some(spare) = self.take() else {
            return Ok(Begun::Unavailable);
        };
        folder.create_parent()?;
        match renameat_with(
            CWD,
            spare.folder.path(),
            CWD,
            folder.path(),
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => Ok(spare.begin(folder, spec)?.map_or(Begun::Exists, Begun::Connected)),
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
                self.shelf().ready.push(spare);
                Ok(Begun::Exists)
            }
            // Not every file system can rename without replacing.
            Err(_) => Ok(Begun::Unavailable),
        }
    }

    /// Starts spares until there are enough for this many attempts; it blocks.
    ///
    /// A first attempt does not tell that there will be another: a run of one action pays for no spare.
    pub(super) fn refill(&self, options: &LocalOptions, attempts: usize) -> io::Result<()> {
        let folder = self.folder(options);
        let is_first = !self.was_asked.swap(true, Ordering::Relaxed);
        if is_first && attempts < FEWEST {
            return Ok(());
        }
        while self.wants_one(attempts.clamp(FEWEST, MOST)) {
            self.start_one(options, &folder)?;
        }
        Ok(())
    }

    /// Starts the one that the first attempt will want, unless there is one; it blocks.
    pub(super) fn expect_one(&self, options: &LocalOptions) -> io::Result<()> {
        let folder = self.folder(options);
        if self.wants_one(1) {
            self.start_one(options, &folder)?;
        }
        Ok(())
    }

    /// The folder of all spares, without what those of a killed backend left.
    fn folder(&self, options: &LocalOptions) -> PathBuf {
        let folder = options.root.join("spare");
        self.swept.get_or_init(|| sweep(&folder));
        folder
    }

    fn start_one(&self, options: &LocalOptions, folder: &Path) -> io::Result<()> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let spare = Spare::start(options, folder.join(format!("{}-{number}", std::process::id())));
        let mut shelf = self.shelf();
        shelf.starting -= 1;
        shelf.ready.push(spare?);
        Ok(())
    }

    /// Whether a spare is to be started now; it counts as starting then.
    fn wants_one(&self, wanted: usize) -> bool {
        let mut shelf = self.shelf();
        shelf.ready.retain(|spare| spare.state() != State::Dead);
        shelf.ready.truncate(wanted);
        let wants = shelf.ready.len() + shelf.starting < wanted;
        shelf.starting += usize::from(wants);
        wants
    }

    /// One that waits, else the one that was started first: it is ready before another could be.
    fn take(&self) -> Option<Spare> {
        loop {
            let spare = {
                let mut shelf = self.shelf();
                let ready = shelf
                    .ready
                    .iter()
                    .position(|spare| spare.state() == State::Waiting);
                let oldest = (!shelf.ready.is_empty()).then_some(0);
                shelf.ready.remove(ready.or(oldest)?)
            };
            match spare.wait() {
                State::Waiting => return Some(spare),
                State::Starting | State::Dead => drop(spare),
            }
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spare {
    fn start(options: &LocalOptions, path: PathBuf) -> io::Result<Self> {
        let folder = Folder::at(path);
        folder.create()?;
        match folder.look()? {
            Standing::Unstarted(lock) => {
                let leash = supervisor::start(options, &folder, lock)?;
                Ok(Self { folder, leash })
            }
            Standing::Absent | Standing::Alive | Standing::Finished(_) | Standing::Dead(_) => Err(
                io::Error::new(ErrorKind::AlreadyExists, "the folder of a spare is in use"),
            ),
        }
    }

    /// Waits until it is ready or dead.
    fn wait(&self) -> State {
        let patience = Timespec {
            tv_sec: PATIENCE_SECONDS,
            tv_nsec: 0,
        };
        let mut leash = [PollFd::new(&self.leash, PollFlags::IN)];
        // What cannot be waited for is asked once.
        let _ = poll(&mut leash, Some(&patience));
        self.state()
    }

    /// It says one thing, when it is ready, which can still be read when it has died since.
    fn state(&self) -> State {
        if self.has_ended() {
            return State::Dead;
        }
        match recv(
            &self.leash,
            &mut [0; 1][..],
            RecvFlags::DONTWAIT | RecvFlags::PEEK,
        ) {
            Ok((_, 1..)) => State::Waiting,
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => State::Starting,
            Ok(_) | Err(_) => State::Dead,
        }
    }

    fn has_ended(&self) -> bool {
        let ended = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        let mut leash = [PollFd::new(&self.leash, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut leash, Some(&now)).is_ok() && leash.iter().any(|leash| leash.revents().intersects(ended))
    }

    /// None if it died meanwhile: the attempt's folder stands then as if the launch had been cut short.
    fn begin(mut self, folder: &Folder, spec: &AttemptSpec) -> io::Result<Option<UnixStream>> {
        folder.write_spec(spec)?;
        let Ok(stream) = folder.connect() else {
            return Ok(None);
        };
        let begin = ToAgent::Begin {
            dir: folder.path().to_owned(),
        };
        Ok(write_frame(&mut self.leash, &begin).is_ok().then_some(stream))
    }
}

/// A spare that lives removes its folder itself, after whatever it is still making there; a dead one cannot.
impl Drop for Spare {
    fn drop(&mut self) {
        if self.state() == State::Dead {
            remove(self.folder.path());
        }
    }
}

/// Removes what the spares of a backend that was killed left: they left with it.
fn sweep(folder: &Path) {
    let paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    for path in paths {
        if matches!(Folder::at(path.clone()).look(), Ok(Standing::Unstarted(_))) {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path.display(), "the folder of a spare supervisor stays");
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn one_that_died_after_it_was_ready_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let (leash, mut other) = UnixStream::pair().unwrap();
        let spare = Spare {
            folder: Folder::at(folder.path().join("spare")),
            leash,
        };
        assert_eq!(spare.state(), State::Starting);
        other.write_all(b"x").unwrap();
        assert_eq!(spare.state(), State::Waiting);
        drop(other);
        assert_eq!(spare.state(), State::Dead);
    }
}
