//! Unpacking archives that may be hostile.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tar::{Archive, Entry, EntryType};

use super::beneath::stays_inside;
use super::pack::Dates;
use super::{ArchiveError, Beneath, MAX_ENTRIES, MAX_RATIO, RATIO_FLOOR, clean};
use crate::interrupt::Interrupt;

const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// The files and links made.
    pub files: u64,
    /// The bytes in them.
    pub bytes: u64,
}

/// What an archive may do beyond the general rules.
#[derive(Default)]
pub(crate) struct Rules<'a> {
    /// Zero means that files are dated now.
    pub(crate) dates: Dates,
    /// The only names at its top; none means any.
    pub(crate) tops: Option<&'a [&'a str]>,
    /// The bytes that its files may have together; none means as many as its own size allows.
    pub(crate) most: Option<u64>,
}

/// Unpacks a file into a folder by the general rules.
pub(crate) fn unpack_with(
    archive: &Path,
    into: &Path,
    interrupt: &Interrupt,
) -> Result<Unpacked, ArchiveError> {
    unpack_file(archive, into, &Rules::default(), interrupt)
}

/// Unpacks a file into a folder.
pub(super) fn unpack_file(
    archive: &Path,
    into: &Path,
    rules: &Rules<'_>,
    interrupt: &Interrupt,
) -> Result<Unpacked, ArchiveError> {
    let file = File::open(archive).map_err(ArchiveError::io(archive))?;
    let size = file.metadata().map_err(ArchiveError::io(archive))?.len();
    fs::create_dir_all(into).map_err(ArchiveError::io(into))?;
    unpack_from(file, size, into, rules, interrupt)
}

/// Unpacks a stream of `size` bytes into a folder.
pub(crate) fn unpack_from(
    mut from: impl Read,
    size: u64,
    into: &Path,
    rules: &Rules<'_>,
    interrupt: &Interrupt,
) -> Result<Unpacked, ArchiveError> {
    let mut magic = Vec::new();
    from.by_ref()
        .take(4)
        .read_to_end(&mut magic)
        .map_err(ArchiveError::Damaged)?;
    let is_compressed = magic == ZSTD_MAGIC;
    let from = io::Cursor::new(magic).chain(from);
    let mut target = Target {
        beneath: Beneath::open(into).map_err(ArchiveError::io(into))?,
        rules,
        interrupt,
        done: Unpacked::default(),
    };
    if is_compressed {
        let limit = size.saturating_mul(MAX_RATIO).max(RATIO_FLOOR);
        let plain = zstd::Decoder::new(from).map_err(ArchiveError::Damaged)?;
        target.entries(Limited {
            inner: plain,
            left: limit,
        })?;
    } else {
        target.entries(BufReader::with_capacity(256 << 10, from))?;
    }
    Ok(target.done)
}

/// A reader that breaks after too many bytes.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX));
        self.left = left.ok_or_else(|| io::Error::other("it grows by more than 200 times"))?;
        Ok(count)
    }
}

struct Target<'a> {
    beneath: Beneath,
    rules: &'a Rules<'a>,
    interrupt: &'a Interrupt,
    done: Unpacked,
}

impl Target<'_> {
    fn entries(&mut self, from: impl Read) -> Result<(), ArchiveError> {
        let mut archive = Archive::new(from);
        let mut count = 0;
        for entry in archive.entries().map_err(ArchiveError::Damaged)? {
            if self.interrupt.is_set() {
                return Err(ArchiveError::Interrupted);
            }
            count += 1;
            if count > MAX_ENTRIES {
                return Err(ArchiveError::TooManyEntries);
            }
            self.entry(entry.map_err(ArchiveError::Damaged)?)?;
        }
        Ok(())
    }

    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let name = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let refused = |reason| ArchiveError::Refused {
            entry: shown(&name),
            reason,
        };
        let path = clean(Path::new(OsStr::from_bytes(&name))).map_err(refused)?;
        let Some(top) = path.iter().next() else {
            return if kind == EntryType::Directory {
                Ok(())
            } else {
                Err(refused("it has no name"))
            };
        };
        if self
            .rules
            .tops
            .is_some_and(|tops| !tops.iter().any(|allowed| top == *allowed))
        {
            return Err(refused("it does not belong here"));
        }
        let mode = entry.header().mode().map_err(ArchiveError::Damaged)?;
        if kind == EntryType::Directory {
            self.beneath.folder(&path, mode).map_err(ArchiveError::io(&path))
        } else if kind == EntryType::Regular {
            self.file(&path, mode, &mut entry)
        } else if kind == EntryType::Symlink {
            let target = entry
                .link_name_bytes()
                .ok_or_else(|| refused("it is a link to nowhere"))?;
            let target = Path::new(OsStr::from_bytes(&target));
            if !stays_inside(&path, target) {
                return Err(refused("it is a link that points outside"));
            }
            self.done.files += 1;
            self.beneath.link(&path, target).map_err(ArchiveError::io(&path))
        } else {
            Err(refused("it is neither a file, a folder nor a symbolic link"))
        }
    }

    fn file(&mut self, path: &Path, mode: u32, entry: &mut Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let expected = entry.size();
        let all = self.done.bytes.saturating_add(expected);
        if let Some(most) = self.rules.most.filter(|most| all > *most) {
            return Err(ArchiveError::TooLarge { most });
        }
        let mut file = self.beneath.file(path, mode).map_err(ArchiveError::io(path))?;
        let bytes = io::copy(entry, &mut file).map_err(ArchiveError::Damaged)?;
        if bytes != expected {
            return Err(ArchiveError::Damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        if self.rules.dates == Dates::Kept {
            let seconds = entry.header().mtime().map_err(ArchiveError::Damaged)?;
            let date = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
            file.set_modified(date.unwrap_or(SystemTime::UNIX_EPOCH))
                .map_err(ArchiveError::io(path))?;
        }
        self.done.files += 1;
        self.done.bytes += bytes;
        Ok(())
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}
