//! Making archives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tar::{Builder, EntryType, Header};

use super::beneath::stays_inside;
use super::{ArchiveError, HashWriter, Kind, Selection, select};
use crate::interrupt::Interrupt;

/// Fast beats small: most archives never leave the machine.
const LEVEL: i32 = 1;

/// An archive that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// The files and links in it.
    pub files: u64,
    /// Links that point outside, which were left out.
    pub left_out: Vec<PathBuf>,
}

/// Which modification times an archive has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Dates {
    /// None, so that equal content gives equal bytes.
    #[default]
    Zero,
    /// The files' own: build tools compare them.
    Kept,
}

/// What [`write_archive`] counted.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) files: u64,
    pub(crate) left_out: Vec<PathBuf>,
}

/// Packs what the globs match; `out` appears only when it is whole.
pub(crate) fn pack_files(
    root: &Path,
    globs: &[String],
    out: &Path,
    interrupt: &Interrupt,
) -> Result<Packed, ArchiveError> {
    let selection = select(root, globs, interrupt)?;
    let temporary = out.with_extension("tmp");
    let file = File::create(&temporary).map_err(ArchiveError::io(&temporary))?;
    let mut hashed = HashWriter::new(file);
    let written = write_archive(root, &selection, Dates::Zero, &mut hashed, interrupt)?;
    let (_, digest, bytes) = hashed.finish();
    fs::rename(&temporary, out).map_err(ArchiveError::io(out))?;
    Ok(Packed {
        sha256: hex::encode(digest),
        bytes,
        files: written.files,
        left_out: written.left_out,
    })
}

/// Writes the selected files as a compressed archive.
pub(crate) fn write_archive(
    root: &Path,
    selection: &Selection,
    dates: Dates,
    to: &mut impl Write,
    interrupt: &Interrupt,
) -> Result<Written, ArchiveError> {
    let buffered = BufWriter::with_capacity(256 << 10, to);
    let mut encoder = zstd::Encoder::new(buffered, LEVEL).map_err(ArchiveError::Damaged)?;
    encoder.include_checksum(true).map_err(ArchiveError::Damaged)?;
    let mut builder = Builder::new(encoder);
    let mut written = Written::default();
    for (path, kind) in selection {
        if interrupt.is_set() {
            return Err(ArchiveError::Interrupted);
        }
        let full = root.join(path);
        match kind {
            Kind::Folder => append_folder(&mut builder, path, &full, dates)?,
            Kind::File => append_file(&mut builder, path, &full, dates)?,
            Kind::Link => {
                let target = fs::read_link(&full).map_err(ArchiveError::io(&full))?;
                if !stays_inside(path, &target) {
                    written.left_out.push(path.clone());
                    continue;
                }
                let mut header = header(EntryType::Symlink, 0o777, 0, 0);
                builder
                    .append_link(&mut header, path, &target)
                    .map_err(ArchiveError::io(&full))?;
            }
        }
        written.files += u64::from(*kind != Kind::Folder);
    }
    let encoder = builder.into_inner().map_err(ArchiveError::Damaged)?;
    encoder
        .finish()
        .and_then(|mut buffered| buffered.flush())
        .map_err(ArchiveError::Damaged)?;
    Ok(written)
}

fn append_folder<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    full: &Path,
    dates: Dates,
) -> Result<(), ArchiveError> {
    let metadata = fs::symlink_metadata(full).map_err(ArchiveError::io(full))?;
    let mut header = header(EntryType::Directory, metadata.mode(), 0, date(&metadata, dates));
    builder
        .append_data(&mut header, path, io::empty())
        .map_err(ArchiveError::io(full))
}

fn append_file<W: Write>(
    builder: &mut Builder<W>,
    path: &Path,
    full: &Path,
    dates: Dates,
) -> Result<(), ArchiveError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(full)
        .map_err(ArchiveError::io(full))?;
    let metadata = file.metadata().map_err(ArchiveError::io(full))?;
    let size = metadata.len();
    let mut header = header(EntryType::Regular, metadata.mode(), size, date(&metadata, dates));
    // A file that changes meanwhile must not shift what follows it.
    let content = file.take(size).chain(io::repeat(0)).take(size);
    builder
        .append_data(&mut header, path, content)
        .map_err(ArchiveError::io(full))
}

fn header(kind: EntryType, mode: u32, size: u64, date: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_size(size);
    header.set_mtime(date);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn date(metadata: &fs::Metadata, dates: Dates) -> u64 {
    match dates {
        Dates::Zero => 0,
        Dates::Kept => u64::try_from(metadata.mtime()).unwrap_or_default(),
    }
}
