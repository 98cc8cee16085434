//! The control stream of a pod's supervisor. Entry type: [`Wire`].

use std::{io, time::Duration};

use pipekeeper_agent::protocol::{FrameError, Incoming, ToAgent, encode, try_decode_incoming};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use super::{PodStream, streams::Place};

const SEND_LIMIT: Duration = Duration::from_secs(10);
/// After this long without a word the supervisor is asked for one.
const QUIET: Duration = Duration::from_secs(20);
/// After this long without a word the stream is given up.
const SILENCE: Duration = Duration::from_secs(45);

/// What a stream needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing yet.
    Nothing,
    /// To be asked whether anybody is there.
    Ping,
    /// To be replaced.
    End,
}

/// A stream with what came in so far.
pub(super) struct Wire {
    stream: Box<dyn PodStream>,
    /// Its place among all streams of its cluster.
    _place: Place,
    opened_at: Instant,
    /// When it last brought output.
    loud_at: Instant,
    received: Vec<u8>,
    used: usize,
    heard_at: Instant,
    /// When it was last asked for a word, or gave one.
    asked_at: Instant,
}

/// A stream that was opened, in its place.
pub(super) type Reached = (Box<dyn PodStream>, Place);

impl Wire {
    pub(super) fn new((stream, place): Reached) -> Self {
        Self {
            stream,
            _place: place,
            opened_at: Instant::now(),
            loud_at: Instant::now(),
            received: Vec::new(),
            used: 0,
            heard_at: Instant::now(),
            asked_at: Instant::now(),
        }
    }

    /// The next frame; none at the end, or when what comes makes no sense. It may be dropped and called again.
    pub(super) async fn next(&mut self) -> Option<Incoming> {
        loop {
            match try_decode_incoming(self.received.get(self.used..).unwrap_or_default()) {
                Ok(Some((incoming, used))) => {
                    self.used += used;
                    if let Incoming::Log { .. } = incoming {
                        self.loud_at = Instant::now();
                    }
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
            self.asked_at = self.heard_at;
        }
    }

    /// When it was opened, and when it last brought output.
    pub(super) fn times(&self) -> (Instant, Instant) {
        (self.opened_at, self.loud_at)
    }

    /// When to look after it, whatever else happens meanwhile.
    pub(super) fn due(&self) -> Instant {
        (self.asked_at + QUIET).min(self.heard_at + SILENCE)
    }

    /// What it needs now.
    pub(super) fn need(&mut self) -> Need {
        if self.heard_at.elapsed() >= SILENCE {
            Need::End
        } else if self.asked_at.elapsed() >= QUIET {
            self.asked_at = Instant::now();
            Need::Ping
        } else {
            Need::Nothing
        }
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
