//! The smallest client over one kept connection: it costs so little that what is measured is the server.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) first_byte: Instant,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true).context("connect")?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends a whole request and reads a whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await.context("send")?;
        self.buffer.clear();
        self.more().await?;
        let first_byte = Instant::now();
        let head = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(self.buffer.get(..head).unwrap_or_default()).to_ascii_lowercase();
        let length: usize = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .with_context(|| format!("an answer without a length: {text}"))?
            .trim()
            .parse()?;
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        Ok(Answer {
            status: text.get(9..12).unwrap_or_default().parse()?,
            body: self.buffer.split_off(head),
            first_byte,
        })
    }

    /// Sends a request whose answer does not end, and gives what follows to `take` until it says that it has enough.
    pub(crate) async fn follow(mut self, request: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> Result<()> {
        const SEAM: usize = 256;
        self.stream.write_all(request).await.context("send")?;
        loop {
            self.more().await?;
            if take(&self.buffer) {
                return Ok(());
            }
            // What lies across two reads is seen whole in the second.
            let done = self.buffer.len().saturating_sub(SEAM);
            self.buffer.drain(..done);
        }
    }

    async fn more(&mut self) -> Result<()> {
        self.buffer.reserve(64 * 1024);
        let read = self.stream.read_buf(&mut self.buffer).await.context("receive")?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

/// A request for a path.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").into_bytes()
}

/// Reads a path as JSON.
pub(crate) async fn json(address: &str, path: &str) -> Result<serde_json::Value> {
    let answer = Connection::open(address).await?.send(&get(path)).await?;
    if answer.status != 200 {
        bail!(
            "{path} answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    serde_json::from_slice(&answer.body).context("read the answer")
}
