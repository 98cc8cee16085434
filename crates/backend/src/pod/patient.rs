//! A stream that does not wait for ever. Entry type: [`Patient`].

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::PodStream;

/// A stream that breaks once nothing moves on it for a while, as when a network forgot it.
pub(super) struct Patient {
    stream: Box<dyn PodStream>,
    limit: Duration,
    idle: Pin<Box<Sleep>>,
    /// Whether somebody waits for it already.
    waits: bool,
}

impl Patient {
    pub(super) fn new(stream: Box<dyn PodStream>, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            idle: Box::pin(sleep(limit)),
            waits: false,
        }
    }

    /// Passes on what the stream said; its silence, once it was too long, is an error.
    fn watched<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waits = false;
            return polled;
        }
        if !self.waits {
            self.waits = true;
            self.idle.as_mut().reset(Instant::now() + self.limit);
        }
        let text = format!("nothing moved for {:?}", self.limit);
        let silence = |()| Err(io::Error::new(io::ErrorKind::TimedOut, text));
        self.idle.as_mut().poll(cx).map(silence)
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched(cx, polled)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watched(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watched(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_stream_on_which_nothing_moves_breaks() {
        let limit = Duration::from_millis(20);
        let (near, mut far) = duplex(16);
        let mut near = Patient::new(Box::new(near), limit);
        // Time in which nobody waits does not count.
        sleep(limit * 3).await;
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.to_string(), "nothing moved for 20ms");
        // Nor does writing to somebody who does not read wait for ever.
        let error = near.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
