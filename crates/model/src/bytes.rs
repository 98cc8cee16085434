//! Numbers of bytes, as people write and read them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number of bytes; written `512Ki`, `100MiB`, `10GiB` or plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// A number of GiB.
    pub const fn gib(gib: u64) -> Self {
        Self(gib << 30)
    }
}

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
];

/// A text is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the size `{0}`: write it like `512Ki`, `100Mi` or `1Gi`")]
pub struct ParseBytesError(String);

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let text = text.strip_suffix('B').unwrap_or(text);
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at_checked(digits)?;
            let (_, size) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
            number.parse::<u64>().ok()?.checked_mul(*size)
        };
        read().map(Self).ok_or_else(|| ParseBytesError(text.to_owned()))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEP: u64 = 1_024;
        let bytes = self.0;
        match bytes {
            0..STEP => write!(f, "{bytes} B"),
            STEP..1_048_576 => write!(f, "{} KiB", bytes / STEP),
            1_048_576..1_073_741_824 => {
                write!(f, "{}.{} MiB", bytes >> 20, (bytes >> 10) % STEP * 10 / STEP)
            }
            _ => write!(f, "{}.{} GiB", bytes >> 30, (bytes >> 20) % STEP * 10 / STEP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn sizes_are_read_and_written() {
        let read = |text: &str| text.parse().ok();
        assert_eq!(read("100Mi"), Some(Bytes(100 << 20)));
        assert_eq!(read("1GiB"), Some(Bytes::gib(1)));
        assert_eq!(read("1.5GiB"), None);
        assert_eq!(read("10"), Some(Bytes(10)));
        for wrong in ["ten", "", "B", "Gi", "-1", "99999999Ti"] {
            assert_eq!(read(wrong).filter(|size: &Bytes| size.0 > 0), None, "{wrong}");
        }
        let shown = [7, 2_048, 3 << 19, 5 << 29].map(|bytes| Bytes(bytes).to_string());
        assert_eq!(shown, ["7 B", "2 KiB", "1.5 MiB", "2.5 GiB"]);
    }
}
