//! The controllers that connect. The newest one wins; none of them can block this side.
//!
//! Entry type: [`Link`].

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::protocol::{FrameError, FromAgent, MAX_FRAME, ToAgent, encode, try_decode};

/// A controller that lets more than this pile up has lost its connection.
const MAX_UNSENT: usize = 2 * MAX_FRAME;

/// The listening socket and the connection, if there is one.
pub(crate) struct Link {
    listener: UnixListener,
    connection: Option<Connection>,
    alone_since: Instant,
}

struct Connection {
    stream: UnixStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Link {
    /// Listens on a socket that is bound and listening already.
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut link = Self {
            listener,
            connection: None,
            alone_since: Instant::now(),
        };
        // Tells a wrong descriptor now rather than never.
        link.accept()?;
        Ok(link)
    }

    /// Takes the newest of the waiting connections; whether there was one.
    pub(crate) fn accept(&mut self) -> io::Result<bool> {
        let mut accepted = false;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    self.connection = Some(Connection {
                        stream,
                        inbox: Vec::new(),
                        outbox: Vec::new(),
                    });
                    accepted = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(accepted),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Since when no controller is there; none while one is.
    pub(crate) fn alone_since(&self) -> Option<Instant> {
        self.connection.is_none().then_some(self.alone_since)
    }

    /// What to poll: the listener, and the connection with the events that it waits for.
    pub(crate) fn fds(&self) -> (BorrowedFd<'_>, Option<(BorrowedFd<'_>, PollFlags)>) {
        let connection = self.connection.as_ref().map(|connection| {
            let wants = if connection.outbox.is_empty() {
                PollFlags::IN
            } else {
                PollFlags::IN | PollFlags::OUT
            };
            (connection.stream.as_fd(), wants)
        });
        (self.listener.as_fd(), connection)
    }

    /// Sends a message, if anybody is there.
    pub(crate) fn send(&mut self, message: &FromAgent) {
        if let Some(connection) = self.connection.as_mut() {
            let sent = encode(message).and_then(|frame| connection.send(&frame));
            if sent.is_err() {
                self.hang_up();
            }
        }
    }

    /// Everything that came in, after sending on what was left.
    pub(crate) fn exchange(&mut self) -> Vec<ToAgent> {
        let mut messages = Vec::new();
        if let Some(connection) = self.connection.as_mut() {
            let open = connection
                .send(&[])
                .and_then(|()| connection.receive(&mut messages));
            if !matches!(open, Ok(Stream::Open)) {
                self.hang_up();
            }
        }
        messages
    }

    /// Waits a moment until everything is sent.
    pub(crate) fn finish(&mut self, patience: Duration) {
        if let Some(Connection { stream, outbox, .. }) = self.connection.as_mut() {
            let ready = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_write_timeout(Some(patience)));
            // Whoever does not read now reads the record.
            drop(ready.and_then(|()| stream.write_all(outbox)));
            outbox.clear();
        }
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.alone_since = Instant::now();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Open,
    Ended,
}

impl Connection {
    fn send(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.outbox.extend_from_slice(frame);
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if self.outbox.len() > MAX_UNSENT {
            Err(FrameError::TooLong(self.outbox.len()))
        } else {
            Ok(())
        }
    }

    fn receive(&mut self, messages: &mut Vec<ToAgent>) -> Result<Stream, FrameError> {
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
}
