//! Copies what git would consider: tracked files, and untracked ones that no ignore file names.
//!
//! Files are reflinked where the file system can, else copied; never linked, so that a run cannot change the tree.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;
use thiserror::Error;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// How many files and symbolic links.
    pub files: u64,
    /// How many bytes the files hold.
    pub bytes: u64,
}

/// Why a tree could not be copied.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A folder could not be read.
    #[error("list the working tree: {0}")]
    List(#[from] ignore::Error),
    /// A file or folder could not be copied.
    #[error("copy `{path}`: {source}")]
    Copy {
        /// Which.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

impl SnapshotError {
    /// What the owner of the tree can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        let kind = match self {
            Self::List(error) => error.io_error().map(io::Error::kind),
            Self::Copy { source, .. } => Some(source.kind()),
        };
        match kind {
            Some(io::ErrorKind::PermissionDenied) => {
                Some("make it readable, or name it in `.gitignore` if the pipeline does not need it")
            }
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Some(
                "the copy goes below `$XDG_STATE_HOME/pipe`: make room there, or set the variable elsewhere",
            ),
            Some(_) | None => None,
        }
    }
}

/// Copies the working tree `from` into the folder `to`, which should be empty.
///
/// Files that vanish meanwhile are left out; sockets, pipes and devices always are.
pub fn snapshot(from: &Path, to: &Path) -> Result<Snapshot, SnapshotError> {
    let from = from.canonicalize().map_err(failed(from))?;
    fs::create_dir_all(to).map_err(failed(to))?;
    let to = to.canonicalize().map_err(failed(to))?;
    let repository = git2::Repository::discover(&from).ok();
    let mut copier = Copier {
        from: &from,
        to: &to,
        clones: Clones::Tried,
        done: Snapshot::default(),
    };
    let own_copy = to.clone();
    let walk = WalkBuilder::new(&from)
        .hidden(false)
        .ignore(false)
        .require_git(false)
        .parents(repository.is_some())
        .filter_entry(move |entry| entry.file_name() != ".git" && entry.path() != own_copy)
        .build();
    for entry in walk {
        match entry {
            Ok(entry) => copier.copy(entry.path())?,
            Err(error) if has_vanished(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(repository) = repository {
        copier.copy_tracked(&repository)?;
    }
    Ok(copier.done)
}

fn has_vanished(error: &ignore::Error) -> bool {
    error.io_error().map(io::Error::kind) == Some(io::ErrorKind::NotFound)
}

/// Whether the two file systems are known to share blocks.
enum Clones {
    Tried,
    Refused,
}

struct Copier<'a> {
    from: &'a Path,
    to: &'a Path,
    clones: Clones,
    done: Snapshot,
}

impl Copier<'_> {
    fn copy(&mut self, path: &Path) -> Result<(), SnapshotError> {
        let Ok(inside) = path.strip_prefix(self.from) else {
            return Ok(());
        };
        match self.copy_entry(path, &self.to.join(inside)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed(path)),
        }
    }

    fn copy_entry(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let kind = fs::symlink_metadata(path)?.file_type();
        if kind.is_dir() {
            return fs::create_dir_all(target);
        }
        if kind.is_symlink() {
            symlink(fs::read_link(path)?, target)?;
        } else if kind.is_file() {
            self.done.bytes += self.copy_file(path, target)?;
        } else {
            return Ok(());
        }
        self.done.files += 1;
        Ok(())
    }

    fn copy_file(&mut self, path: &Path, target: &Path) -> io::Result<u64> {
        if matches!(self.clones, Clones::Tried) {
            match clone_file(path, target) {
                Ok(bytes) => return Ok(bytes),
                Err(_) => self.clones = Clones::Refused,
            }
        }
        let source = fs::File::open(path)?;
        let data = source.metadata()?;
        let copy = fs::File::create(target)?;
        let bytes = copy_at_most(source, &copy, data.len())?;
        copy.set_permissions(data.permissions())?;
        Ok(bytes)
    }

    /// Git tracks a file that was added in spite of an ignore file, so it belongs to the tree.
    fn copy_tracked(&mut self, repository: &git2::Repository) -> Result<(), SnapshotError> {
        let (Ok(index), Some(top)) = (repository.index(), repository.workdir()) else {
            return Ok(());
        };
        let top = top.canonicalize().map_err(failed(top))?;
        for entry in index.iter() {
            let path = top.join(path_of(&entry.path));
            let Ok(inside) = path.strip_prefix(self.from) else {
                continue;
            };
            if fs::symlink_metadata(self.to.join(inside)).is_err() && self.make_parents(inside)? {
                self.copy(&path)?;
            }
        }
        Ok(())
    }

    /// Makes the folders above a tracked file; answers no where one of them is now something else, such as a link.
    fn make_parents(&self, inside: &Path) -> Result<bool, SnapshotError> {
        let Some(parent) = inside.parent() else {
            return Ok(false);
        };
        let mut reached = PathBuf::new();
        for part in parent {
            reached.push(part);
            if !fs::symlink_metadata(self.from.join(&reached)).is_ok_and(|data| data.is_dir()) {
                return Ok(false);
            }
        }
        let target = self.to.join(parent);
        fs::create_dir_all(&target).map_err(failed(&target))?;
        Ok(true)
    }
}

#[cfg(target_os = "linux")]
fn clone_file(path: &Path, target: &Path) -> io::Result<u64> {
    let source = fs::File::open(path)?;
    let copy = fs::File::create(target)?;
    rustix::fs::ioctl_ficlone(&copy, &source)?;
    let data = source.metadata()?;
    copy.set_permissions(data.permissions())?;
    Ok(data.len())
}

/// Elsewhere `fs::copy` clones by itself where it can.
#[cfg(not(target_os = "linux"))]
fn clone_file(_: &Path, _: &Path) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Copies what a file held when it was opened: one that grows while it is copied would never end.
fn copy_at_most(source: impl io::Read, mut copy: &fs::File, length: u64) -> io::Result<u64> {
    io::copy(&mut source.take(length), &mut copy)
}

fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Copy { path, source }
}

#[cfg(test)]
mod tests;
