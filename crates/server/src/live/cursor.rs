//! Where a reader of a live stream is: `version:node:attempt:offset`, or `version` alone where no log is followed.

use std::{fmt, str::FromStr};

use pipekeeper_model::NodeId;

/// The id of an event: what the reader has seen once it has seen that event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// How many events of the run.
    pub(super) version: u64,
    /// How much of which log.
    pub(super) log: Option<LogPlace>,
}

/// A place in the log of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPlace {
    pub(super) node: NodeId,
    pub(super) attempt: u32,
    pub(super) offset: u64,
}

/// A cursor that this server never gave.
#[derive(Debug)]
pub(super) struct BadCursor;

impl Cursor {
    /// Reads one; the reader must resync if it cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, BadCursor> {
        let parts: Vec<_> = text.split(':').collect();
        match parts.as_slice() {
            [version] => Ok(Self {
                version: number(version)?,
                log: None,
            }),
            [version, node, attempt, offset] => Ok(Self {
                version: number(version)?,
                log: Some(LogPlace {
                    node: NodeId(number(node)?),
                    attempt: number(attempt)?,
                    offset: number(offset)?,
                }),
            }),
            _ => Err(BadCursor),
        }
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, BadCursor> {
    text.parse().map_err(|_| BadCursor)
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.version)?;
        match self.log {
            Some(place) => write!(f, ":{}:{}:{}", place.node.0, place.attempt, place.offset),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn cursors_round_trip_and_nonsense_is_refused() {
        for text in ["7", "7:0:1:4096"] {
            assert_eq!(Cursor::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "x", "1:2", "1:2:3:-4", "1:2:3:4:5", "99999999999999999999999"] {
            assert!(Cursor::parse(bad).is_err(), "{bad}");
        }
    }
}
