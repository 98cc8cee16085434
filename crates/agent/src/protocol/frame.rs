//! Frames: four bytes of length, big-endian, and that much JSON. If the highest bit of the length is set, the frame holds
//! bytes of the log instead: eight bytes of offset, big-endian, and the bytes.

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FromAgent;

/// The longest frame, without its length.
pub const MAX_FRAME: usize = 8 << 20;

const HEADER: usize = 4;
const OFFSET: usize = 8;
const IS_LOG: u32 = 1 << 31;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is too long.
    #[error("frame of `{0}` bytes is longer than 8 MiB")]
    TooLong(usize),
    /// The content is not the message that was expected.
    #[error("frame holds no message")]
    Json(#[from] serde_json::Error),
    /// The stream broke.
    #[error("control stream broke")]
    Io(#[from] io::Error),
}

/// Makes the bytes of one frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - HEADER;
    let header = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_FRAME)
        .ok_or(FrameError::TooLong(length))?;
    if let Some(head) = frame.first_chunk_mut::<HEADER>() {
        *head = header.to_be_bytes();
    }
    Ok(frame)
}

/// Reads the frame at the start of `bytes`: the message and the bytes it took, or none while it is incomplete.
pub fn try_decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = body_length(*head)?;
    match rest.get(..length) {
        Some(body) => Ok(Some((serde_json::from_slice(body)?, HEADER + length))),
        None => Ok(None),
    }
}

/// One frame of a supervisor's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Message(FromAgent),
    /// Bytes of the log, from this offset on.
    Log {
        /// The offset of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
}

/// Makes the frame of some bytes of the log.
pub fn encode_log(offset: u64, bytes: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = OFFSET + bytes.len();
    let header = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_FRAME)
        .ok_or(FrameError::TooLong(length))?;
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend_from_slice(&(header | IS_LOG).to_be_bytes());
    frame.extend_from_slice(&offset.to_be_bytes());
    frame.extend_from_slice(bytes);
    Ok(frame)
}

/// Reads the frame at the start of a supervisor's stream, as [`try_decode`] does.
pub fn try_decode_incoming(bytes: &[u8]) -> Result<Option<(Incoming, usize)>, FrameError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let number = u32::from_be_bytes(*head);
    if number & IS_LOG == 0 {
        let message = try_decode(bytes)?;
        return Ok(message.map(|(message, used)| (Incoming::Message(message), used)));
    }
    let length = body_length((number & !IS_LOG).to_be_bytes())?;
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let (offset, bytes) = body
        .split_first_chunk::<OFFSET>()
        .ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
    let incoming = Incoming::Log {
        offset: u64::from_be_bytes(*offset),
        bytes: bytes.to_vec(),
    };
    Ok(Some((incoming, HEADER + length)))
}

/// Writes one frame, blocking.
pub fn write_frame<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode(message)?)?;
    to.flush()?;
    Ok(())
}

/// Reads one frame, blocking; none when the stream ended between two frames.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut head = [0; HEADER];
    let mut have = 0;
    while let Some(room) = head.get_mut(have..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(count) => have += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut body = vec![0; body_length(head)?];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn body_length(head: [u8; HEADER]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        Err(FrameError::TooLong(length))
    } else {
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ToAgent;

    #[test]
    fn a_frame_survives_every_split() {
        let messages = [ToAgent::Ping, ToAgent::Stop { grace_ms: 7 }];
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|message| encode(message).unwrap())
            .collect();
        for split in 0..=bytes.len() {
            let mut buffer = bytes[..split].to_vec();
            let mut seen = Vec::new();
            for _ in 0..2 {
                while let Some((message, used)) = try_decode::<ToAgent>(&buffer).unwrap() {
                    seen.push(message);
                    buffer.drain(..used);
                }
                if seen.len() < 2 {
                    buffer.extend_from_slice(&bytes[split..]);
                }
            }
            assert_eq!(seen, messages, "split at {split}");
        }
    }

    #[test]
    fn blocking_reader_and_writer_agree() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &ToAgent::Exit).unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read_frame::<ToAgent>(&mut from).unwrap(), Some(ToAgent::Exit));
        assert_eq!(read_frame::<ToAgent>(&mut from).unwrap(), None);
        let mut cut = &bytes[..bytes.len() - 1];
        assert!(matches!(read_frame::<ToAgent>(&mut cut), Err(FrameError::Io(_))));
    }

    #[test]
    fn log_and_messages_share_a_stream() {
        let mut bytes = encode_log(7, b"a\nb").unwrap();
        bytes.extend(encode(&FromAgent::Pong).unwrap());
        for cut in 0..bytes.len() {
            let (first, _) = bytes.split_at(cut);
            if cut < 4 + 8 + 3 {
                assert_eq!(try_decode_incoming(first).unwrap(), None, "cut at {cut}");
            }
        }
        let (log, used) = try_decode_incoming(&bytes).unwrap().unwrap();
        let expected = Incoming::Log {
            offset: 7,
            bytes: b"a\nb".to_vec(),
        };
        assert_eq!(log, expected);
        let (pong, _) = try_decode_incoming(&bytes[used..]).unwrap().unwrap();
        assert_eq!(pong, Incoming::Message(FromAgent::Pong));
        let short = (IS_LOG | 3).to_be_bytes();
        assert!(try_decode_incoming(&[short.as_slice(), b"abc"].concat()).is_err());
    }

    #[test]
    fn hostile_lengths_and_bodies_are_errors() {
        assert!(matches!(
            try_decode::<ToAgent>(&[255; 8]),
            Err(FrameError::TooLong(_))
        ));
        assert!(matches!(
            read_frame::<ToAgent>(&mut &[255_u8; 8][..]),
            Err(FrameError::TooLong(_))
        ));
        assert!(matches!(
            try_decode::<ToAgent>(&[0, 0, 0, 1, b'{']),
            Err(FrameError::Json(_))
        ));
    }
}
