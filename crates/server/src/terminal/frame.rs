//! Frames: a byte that says what, four bytes of length, big-endian, and that much content.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest content.
const MOST: usize = 256 << 10;
const HEAD: usize = 5;

/// What either side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// What the person typed.
    Input(Vec<u8>),
    /// What they are to see.
    Output(Vec<u8>),
    /// The size of their terminal from now on, in characters.
    Size {
        /// Its width.
        columns: u16,
        /// Its height.
        rows: u16,
    },
    /// A line for people.
    Note(String),
    /// The shell is open: what is typed from now on is for it.
    Opened,
    /// Nothing, but somebody is there.
    Alive,
    /// The shell ended.
    Closed,
    /// There is no shell, or none any more, and this is why.
    Refused(String),
}

/// What came is no frame, or nothing comes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Too long, of an unknown kind, or with another content than its kind has.
    #[error("a frame makes no sense")]
    Nonsense,
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
}

impl Frame {
    fn encode(&self) -> Vec<u8> {
        let size;
        let (kind, content): (u8, &[u8]) = match self {
            Self::Input(bytes) => (0, bytes),
            Self::Output(bytes) => (1, bytes),
            Self::Size { columns, rows } => {
                let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
                size = [a, b, c, d];
                (2, &size)
            }
            Self::Note(text) => (3, text.as_bytes()),
            Self::Opened => (4, &[]),
            Self::Alive => (5, &[]),
            Self::Closed => (6, &[]),
            Self::Refused(text) => (7, text.as_bytes()),
        };
        // Whoever sends more sends it in pieces.
        let content = content.get(..MOST).unwrap_or(content);
        let length = u32::try_from(content.len()).unwrap_or_default();
        [&[kind], length.to_be_bytes().as_slice(), content].concat()
    }

    fn decode(kind: u8, content: &[u8]) -> Result<Self, FrameError> {
        let text = || String::from_utf8_lossy(content).into_owned();
        Ok(match (kind, content) {
            (0, bytes) => Self::Input(bytes.to_owned()),
            (1, bytes) => Self::Output(bytes.to_owned()),
            (2, &[a, b, c, d]) => Self::Size {
                columns: u16::from_be_bytes([a, b]),
                rows: u16::from_be_bytes([c, d]),
            },
            (3, _) => Self::Note(text()),
            (4, []) => Self::Opened,
            (5, []) => Self::Alive,
            (6, []) => Self::Closed,
            (7, _) => Self::Refused(text()),
            (_, _) => return Err(FrameError::Nonsense),
        })
    }
}

/// Sends a frame.
///
/// # Errors
/// If the connection is broken.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.encode()).await?;
    to.flush().await
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    received: Vec<u8>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from a connection.
    pub fn new(from: R) -> Self {
        let received = Vec::new();
        Self { from, received }
    }

    /// The next frame; none at the end. It may be dropped and called again.
    ///
    /// # Errors
    /// If the connection breaks, also within a frame, or what comes is no frame.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some((frame, used)) = self.first()? {
                self.received.drain(..used);
                return Ok(Some(frame));
            }
            if self.from.read_buf(&mut self.received).await? == 0 {
                let is_whole = self.received.is_empty();
                let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
                return if is_whole { Ok(None) } else { Err(cut.into()) };
            }
        }
    }

    fn first(&self) -> Result<Option<(Frame, usize)>, FrameError> {
        let Some((&[kind, a, b, c, d], rest)) = self.received.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MOST {
            return Err(FrameError::Nonsense);
        }
        let content = rest.get(..length);
        content
            .map(|content| Ok((Frame::decode(kind, content)?, HEAD + length)))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_survive_the_way_in_any_pieces() {
        let frames = [
            Frame::Input(b"ls\r".to_vec()),
            Frame::Output(vec![0, 255]),
            Frame::Size {
                columns: 80,
                rows: 300,
            },
            Frame::Note("pulling".to_owned()),
            Frame::Opened,
            Frame::Alive,
            Frame::Refused("no".to_owned()),
            Frame::Closed,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for room in [1, 3, 4096] {
            let (mut near, far) = tokio::io::duplex(room);
            let bytes = bytes.clone();
            let sending = tokio::spawn(async move { near.write_all(&bytes).await });
            let mut reader = FrameReader::new(far);
            for frame in &frames {
                assert_eq!(reader.next().await.unwrap().as_ref(), Some(frame));
            }
            assert_eq!(reader.next().await.unwrap(), None);
            sending.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn nonsense_is_refused_at_once() {
        for bad in [
            &[0, 255, 255, 255, 255][..],
            &[9, 0, 0, 0, 0],
            &[2, 0, 0, 0, 1, 7],
            &[4, 0, 0, 0, 1, 7],
            &[0, 0, 0, 0, 2, 7],
            &[0, 0],
        ] {
            assert!(FrameReader::new(bad).next().await.is_err(), "{bad:?}");
        }
    }
}
