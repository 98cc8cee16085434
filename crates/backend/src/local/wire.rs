//! The control stream of one supervisor, asynchronous. Entry type: [`Wire`].

use std::{io, os::unix::net, time::Duration};

use pipekeeper_agent::protocol::{FrameError, FromAgent, ToAgent, encode, try_decode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

const SEND_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a supervisor.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(stream)?,
            received: Vec::new(),
        })
    }

    /// The next message; none at the end, or when what comes makes no sense. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<FromAgent> {
        loop {
            match try_decode(&self.received) {
                Ok(Some((message, used))) => {
                    self.received.drain(..used);
                    return Some(message);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "closing the control stream of a supervisor");
                    return None;
                }
            }
            if !matches!(self.stream.read_buf(&mut self.received).await, Ok(1..)) {
                return None;
            }
        }
    }

    pub(super) async fn send(&mut self, message: &ToAgent) -> Result<(), FrameError> {
        let frame = encode(message)?;
        timeout(SEND_LIMIT, self.stream.write_all(&frame))
            .await
            .map_err(io::Error::from)??;
        Ok(())
    }
}
