//! The named values that attempts put out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Digest};

/// A named value that an attempt put out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OutputValue {
    /// The value itself.
    Text(String),
    /// One that is too large to be passed around: it is kept as a file by its digest, beside artifacts.
    File {
        /// The digest of the value.
        digest: Digest,
        /// Its size.
        bytes: Bytes,
    },
}

impl OutputValue {
    /// A value of more bytes than this is kept as a file.
    pub const MOST_INLINE: usize = 64 << 10;

    /// The value, if it is passed around.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::File { .. } => None,
        }
    }
}

impl From<String> for OutputValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for OutputValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for OutputValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::File { digest, bytes } => write!(f, "a file of {bytes}, {}", digest.to_short()),
        }
    }
}

/// An output that an attempt gets as a file, because it is too large for a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// The digest of the value, under which it is found, and checked.
    pub digest: Digest,
    /// Where it goes below the folder of outputs: `ACTION/KEY`, `ACTION/CELL/KEY` of a cell.
    pub place: String,
}

#[cfg(test)]
mod tests {
    use super::OutputValue;
    use crate::{Bytes, Digest};

    #[test]
    fn values_are_stored_as_before_and_files_beside_them() {
        let text = OutputValue::from("1.2");
        assert_eq!(serde_json::to_string(&text).unwrap(), "\"1.2\"");
        let file = OutputValue::File {
            digest: Digest::of(b"x"),
            bytes: Bytes(70_000),
        };
        for value in [text, file] {
            let stored = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<OutputValue>(&stored).unwrap(), value);
        }
    }
}
