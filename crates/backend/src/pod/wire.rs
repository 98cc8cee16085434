//! The control stream of a pod's supervisor. Entry type: [`Wire`].

use std::{io, time::Duration};

use pipekeeper_agent::protocol::{FrameError, Incoming, ToAgent, encode, try_decode_incoming};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::PodStream;

const SEND_LIMIT: Duration = Duration::from_secs(10);

/// A stream with what came in so far.
pub(super) struct Wire {
    stream: Box<dyn PodStream>,
    received: Vec<u8>,
    used: usize,
    heard_at: Instant,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn PodStream>) -> Self {
        Self {
            stream,
            received: Vec::new(),
            used: 0,
            heard_at: Instant::now(),
        }
    }

    /// The next frame; none at the end, or when what comes makes no sense. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Incoming> {
        loop {
            match try_decode_incoming(self.received.get(self.used..).unwrap_or_default()) {
                Ok(Some((incoming, used))) => {
                    self.used += used;
                    return Some(incoming);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "closing the stream of a supervisor");
                    return None;
                }
            }
            self.received.drain(..self.used);
            self.used = 0;
            if !matches!(self.stream.read_buf(&mut self.received).await, Ok(1..)) {
                return None;
            }
            self.heard_at = Instant::now();
        }
    }

    /// For how long nothing came.
    pub(super) fn quiet_for(&self) -> Duration {
        self.heard_at.elapsed()
    }

    pub(super) async fn send(&mut self, message: &ToAgent) -> Result<(), FrameError> {
        let frame = encode(message)?;
        timeout(SEND_LIMIT, async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        })
        .await
        .map_err(io::Error::from)??;
        Ok(())
    }
}
