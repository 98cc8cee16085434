//! Archives of artifacts, caches and sources: tar, compressed with zstd.
//!
//! Packing is deterministic, so equal files give an equal digest. Unpacking trusts nothing: only files, folders and
//! links that stay inside are made, and nothing is ever written through a link. Entry functions: [`pack()`] and
//! [`unpack()`].

mod beneath;
mod hash;
mod pack;
mod select;
#[cfg(test)]
mod tests;
mod unpack;

use std::io;
use std::path::{Path, PathBuf};

pub(crate) use beneath::{Beneath, clean};
pub use hash::sha256_file;
pub(crate) use hash::{HashWriter, sha256_of};
pub use pack::Packed;
pub(crate) use pack::{Dates, pack_files, write_archive};
pub(crate) use select::{Kind, Selection, select};
pub use unpack::Unpacked;
pub(crate) use unpack::{Rules, unpack_from, unpack_with};

use crate::interrupt::Interrupt;

/// Entries that one archive may have.
pub const MAX_ENTRIES: u64 = 200_000;
/// Bytes that a path in an archive may have.
pub const MAX_PATH: usize = 4096;
/// An archive may grow by this factor.
pub const MAX_RATIO: u64 = 200;
/// Growth up to this many bytes is never too much.
pub const RATIO_FLOOR: u64 = 64 << 20;

/// Why an archive could not be made or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system said no.
    #[error("cannot access `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive itself cannot be read or written.
    #[error("archive is damaged or cut off")]
    Damaged(#[source] io::Error),
    /// An entry that is not let in.
    #[error("archive entry `{entry}` is refused: {reason}")]
    Refused {
        /// Its path.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// There are too many entries.
    #[error("archive has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// It, or what is in it, is too large.
    #[error("archive has more than {most} bytes")]
    TooLarge {
        /// How much it may hold.
        most: u64,
    },
    /// A pattern cannot be used.
    #[error("`{pattern}` is no usable path: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// The attempt is being stopped.
    #[error("interrupted")]
    Interrupted,
}

impl ArchiveError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Packs what the globs match below `root` into the file `out`.
pub fn pack(root: &Path, globs: &[String], out: &Path) -> Result<Packed, ArchiveError> {
    pack_files(root, globs, out, &Interrupt::default())
}

/// Unpacks a `.tar` or `.tar.zst` file into a folder, which is made if need be.
pub fn unpack(archive: &Path, into: &Path) -> Result<Unpacked, ArchiveError> {
    unpack_with(archive, into, &Interrupt::default())
}

/// Unpacks a file that may hold so many bytes.
pub fn unpack_at_most(archive: &Path, into: &Path, most: u64) -> Result<Unpacked, ArchiveError> {
    let rules = Rules {
        most: Some(most),
        ..Rules::default()
    };
    unpack::unpack_file(archive, into, &rules, &Interrupt::default())
}
