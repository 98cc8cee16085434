//! Source archives: a commit's tree as an uncompressed tar, the same bytes for the same tree. Everything here blocks.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use pipekeeper_model::Sha;
use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

use crate::{
    SourceError,
    mirror::Mirror,
    tree::{Entry, Kind, Walk},
};

const KEPT: Duration = Duration::from_hours(24);

/// One file can stand in a tree a million times.
const MAX_BYTES: u64 = 8 << 30;

/// The archive of a commit in `folder`, made if it is not there.
pub(crate) fn archive(
    open: impl FnOnce() -> Result<Mirror, SourceError>,
    sha: &Sha,
    folder: &Path,
) -> Result<PathBuf, SourceError> {
    let path = folder.join(format!("{sha}.tar"));
    if touch(&path).is_ok() {
        return Ok(path);
    }
    let mirror = open()?;
    let root = mirror.tree(sha)?.id();
    let failed = |error| SourceError::io("write the source archive", &path)(error);
    fs::create_dir_all(folder).map_err(failed)?;
    let file = NamedTempFile::new_in(folder).map_err(failed)?;
    let mut builder = Builder::new(BufWriter::with_capacity(256 * 1024, file));
    append_tree(&mirror, root, &mut builder, &path)?;
    let file = builder
        .into_inner()
        .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(failed)?;
    // A name must never stand before its bytes do, not even after a power cut.
    file.as_file().sync_data().map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(path)
}

/// Appends every entry below a tree, each folder before what it holds.
fn append_tree(
    mirror: &Mirror,
    root: git2::Oid,
    builder: &mut Builder<impl Write>,
    archive: &Path,
) -> Result<(), SourceError> {
    let mut walk = Walk::new(mirror);
    let mut bytes = 0;
    let mut waiting = walk.folder(b"", root)?;
    waiting.reverse();
    while let Some(entry) = waiting.pop() {
        if entry.kind == Kind::Folder {
            let inside = walk.folder(&entry.path, entry.id)?;
            waiting.extend(inside.into_iter().rev());
        }
        bytes += append(mirror, &entry, builder, archive)?;
        if bytes > MAX_BYTES {
            return Err(mirror.too_large("8 GiB"));
        }
    }
    Ok(())
}

/// Appends one entry; answers how many bytes it holds.
fn append(
    mirror: &Mirror,
    entry: &Entry,
    builder: &mut Builder<impl Write>,
    archive: &Path,
) -> Result<u64, SourceError> {
    let blob = match entry.kind {
        Kind::File | Kind::Program | Kind::Link => Some(
            mirror
                .git
                .find_blob(entry.id)
                .map_err(|error| mirror.damaged(error))?,
        ),
        Kind::Folder | Kind::Submodule => None,
    };
    let content = blob.as_ref().map_or(&b""[..], |blob| blob.content());
    let path = Path::new(OsStr::from_bytes(&entry.path));
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(match entry.kind {
        Kind::File => 0o644,
        Kind::Program | Kind::Folder | Kind::Submodule => 0o755,
        Kind::Link => 0o777,
    });
    let appended = match entry.kind {
        Kind::File | Kind::Program => {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content)
        }
        Kind::Folder | Kind::Submodule => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            builder.append_data(&mut header, path, io::empty())
        }
        Kind::Link => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, OsStr::from_bytes(content))
        }
    };
    appended.map_err(SourceError::io("write the source archive", archive))?;
    Ok(content.len() as u64)
}

/// Shows that an archive is in use, and that it is there.
fn touch(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}

/// Removes what nobody asked for in a while; what cannot be removed now is met again by the next sweep.
pub(crate) fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry
            .metadata()
            .and_then(|data| data.modified())
            .map(|at| at.elapsed());
        if matches!(age, Ok(Ok(age)) if age > KEPT) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
