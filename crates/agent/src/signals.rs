//! The signals that this process gets, as something to poll.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

/// Catches SIGCHLD and SIGTERM; SIGINT and SIGHUP of a terminal do nothing any more.
///
/// Handlers, unlike ignored signals, are not inherited by the steps.
pub(crate) struct Signals {
    wake: UnixStream,
    terminate: Arc<AtomicBool>,
}

impl Signals {
    pub(crate) fn catch() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let terminate = Arc::new(AtomicBool::new(false));
        flag::register(SIGTERM, Arc::clone(&terminate))?;
        pipe::register(SIGTERM, waker.try_clone()?)?;
        pipe::register(SIGCHLD, waker)?;
        for ignored in [SIGINT, SIGHUP] {
            flag::register(ignored, Arc::new(AtomicBool::new(false)))?;
        }
        Ok(Self { wake, terminate })
    }

    /// Forgets the wake-ups so far.
    pub(crate) fn clear(&mut self) {
        let mut buffer = [0; 256];
        while matches!(self.wake.read(&mut buffer), Ok(count) if count == buffer.len()) {}
    }

    /// Whether SIGTERM came since the last call.
    pub(crate) fn take_terminate(&self) -> bool {
        self.terminate.swap(false, Ordering::Relaxed)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
