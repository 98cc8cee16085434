//! The controllers that connect. The newest one wins; none of them can block this side.
//!
//! Entry type: [`Link`].

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::connection::{Connection, Stream};
use crate::log::{LogReader, LogSink};
use crate::protocol::{FromAgent, ToAgent, encode, encode_log};

/// The listening socket and the connection, if there is one.
pub(crate) struct Link {
    listener: UnixListener,
    connection: Option<Connection>,
    /// Where the connected controller reads the log, if it does.
    reader: Option<LogReader>,
    alone_since: Instant,
}

impl Link {
    /// Listens on a socket that is bound and listening already.
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut link = Self {
            listener,
            connection: None,
            reader: None,
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
                    self.connection = Some(Connection::new(stream)?);
                    self.reader = None;
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
        let connection = self
            .connection
            .as_ref()
            .map(|connection| (connection.as_fd(), connection.wants()));
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

    /// The connected controller reads the log from here on.
    pub(crate) fn read_log(&mut self, reader: LogReader) {
        self.reader = Some(reader);
    }

    /// The connected controller reads no log any more.
    pub(crate) fn forget_log(&mut self) {
        self.reader = None;
    }

    /// Whether the connected controller has, or is about to have, the whole log so far; so it is if it reads none.
    pub(crate) fn has_log(&self, log: &LogSink) -> bool {
        let reader = self.reader.as_ref().filter(|_| self.connection.is_some());
        reader.is_none_or(|reader| reader.offset() >= log.len())
    }

    /// Sends on as much of the log as goes without waiting.
    pub(crate) fn feed(&mut self, log: &LogSink) {
        let (Some(connection), Some(reader)) = (self.connection.as_mut(), self.reader.as_mut()) else {
            return;
        };
        while connection.is_drained() && reader.offset() < log.len() {
            let offset = reader.offset();
            let fed = match reader.next() {
                Ok([]) => return,
                Ok(bytes) => encode_log(offset, bytes).and_then(|frame| connection.send(&frame)),
                Err(error) => Err(error.into()),
            };
            if fed.is_err() {
                return self.hang_up();
            }
        }
    }

    /// Waits a moment until everything is sent.
    pub(crate) fn finish(&mut self, patience: Duration) {
        if let Some(connection) = self.connection.as_mut() {
            connection.finish(patience);
        }
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
        self.reader = None;
        self.alone_since = Instant::now();
    }
}
