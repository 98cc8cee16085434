//! Folders as commits: what somebody sent becomes a commit without history, so that everything else reads it as any other.
//! Everything here blocks.

use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use git2::{IndexEntry, IndexTime, Oid, Signature, Time};
use pipekeeper_model::{Sha, Timestamp};

use crate::{SourceError, mirror::Mirror, text, tree};

/// Who such a commit says made it; nobody is asked.
const AUTHOR: &str = "pipekeeper";

/// Makes a commit of a folder in this repository and pins it.
pub(crate) fn adopt(
    mirror: &Mirror,
    folder: &Path,
    subject: &str,
    now: Timestamp,
) -> Result<Sha, SourceError> {
    let mut index = git2::Index::new().map_err(|error| mirror.damaged(error))?;
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let failed = |error| SourceError::io("list", folder.join(&inside))(error);
        for entry in fs::read_dir(folder.join(&inside)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = inside.join(entry.file_name());
            if !tree::is_safe(entry.file_name().as_bytes()) {
                return Err(SourceError::UnsafePath {
                    repository: mirror.name().clone(),
                    path: text::display_line(&path.to_string_lossy(), 200),
                });
            }
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(path);
            } else if let Some((mode, id)) = keep(mirror, &entry)? {
                let entry = entry_of(&path, mode, id);
                index.add(&entry).map_err(|error| mirror.damaged(error))?;
            }
        }
    }
    let git = &mirror.git;
    let mut commit = || {
        let tree = git.find_tree(index.write_tree_to(git)?)?;
        let author = Signature::new(AUTHOR, AUTHOR, &Time::new(now.0 / 1000, 0))?;
        git.commit(None, &author, &author, subject, &tree, &[])
    };
    let sha = mirror.sha(commit().map_err(|error| mirror.damaged(error))?)?;
    mirror.set_pin(&sha)?;
    // Whoever is told the commit relies on it: it must be there after a power cut.
    File::open(git.path())
        .and_then(|folder| Ok(rustix::fs::syncfs(folder)?))
        .map_err(SourceError::io("write to disk", git.path()))?;
    Ok(sha)
}

/// Keeps what a file or link holds; answers git's mode and the content's id. Sockets and devices are no files.
fn keep(mirror: &Mirror, entry: &fs::DirEntry) -> Result<Option<(u32, Oid)>, SourceError> {
    let path = entry.path();
    let failed = |error: io::Error| SourceError::io("read", &path)(error);
    let metadata = entry.metadata().map_err(failed)?;
    let (mode, id) = if metadata.is_symlink() {
        let target = fs::read_link(&path).map_err(failed)?;
        (0o120_000, mirror.git.blob(target.as_os_str().as_bytes()))
    } else if metadata.is_file() {
        let is_program = metadata.permissions().mode() & 0o100 != 0;
        let mode = if is_program { 0o100_755 } else { 0o100_644 };
        (mode, mirror.git.blob_path(&path))
    } else {
        return Ok(None);
    };
    Ok(Some((mode, id.map_err(|error| mirror.damaged(error))?)))
}

fn entry_of(path: &Path, mode: u32, id: Oid) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(0, 0),
        mtime: IndexTime::new(0, 0),
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_os_str().as_bytes().to_vec(),
    }
}
