//! One end of a framed stream that never blocks. Entry type: [`Connection`].

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::PollFlags;
use serde::de::DeserializeOwned;

use crate::protocol::{FrameError, MAX_FRAME, try_decode};

/// A peer that lets more than this pile up has lost its connection.
const MAX_UNSENT: usize = 2 * MAX_FRAME;

/// A stream with what came in and what is still to go out.
pub(crate) struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

/// Whether more can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Open,
    Ended,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            inbox: Vec::new(),
            outbox: Vec::new(),
        })
    }

    /// Whether all that was sent is out.
    pub(crate) fn is_drained(&self) -> bool {
        self.outbox.is_empty()
    }

    /// What to poll for.
    pub(crate) fn wants(&self) -> PollFlags {
        if self.outbox.is_empty() {
            PollFlags::IN
        } else {
            PollFlags::IN | PollFlags::OUT
        }
    }

    /// Sends a frame, as far as it goes now; an empty one sends on what was left.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.outbox.extend_from_slice(frame);
        let mut sent = 0;
        while let Some(rest) = self.outbox.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.outbox.drain(..sent);
        if self.outbox.len() > MAX_UNSENT {
            Err(FrameError::TooLong(self.outbox.len()))
        } else {
            Ok(())
        }
    }

    /// Appends every message that is there.
    pub(crate) fn receive<T: DeserializeOwned>(
        &mut self,
        messages: &mut Vec<T>,
    ) -> Result<Stream, FrameError> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Stream::Ended),
                Ok(count) => self
                    .inbox
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Stream::Open),
                Err(error) => return Err(error.into()),
            }
            while let Some((message, used)) = try_decode(&self.inbox)? {
                self.inbox.drain(..used);
                messages.push(message);
            }
        }
    }

    /// Waits a moment until everything is sent.
    pub(crate) fn finish(&mut self, patience: Duration) {
        let ready = self
            .stream
            .set_nonblocking(false)
            .and_then(|()| self.stream.set_write_timeout(Some(patience)));
        // Whoever does not read now reads the record.
        drop(ready.and_then(|()| self.stream.write_all(&self.outbox)));
        self.outbox.clear();
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
