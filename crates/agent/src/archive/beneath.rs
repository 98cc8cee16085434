//! Making files below a folder without ever leaving it, whatever links lie in the way.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, mkdirat, openat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::MAX_PATH;

const FOLDER: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The normal form of a relative path; or why there is none.
pub(crate) fn clean(path: &Path) -> Result<PathBuf, &'static str> {
    if path.as_os_str().len() > MAX_PATH {
        return Err("its path is too long");
    }
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => cleaned.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err("its path goes up"),
            Component::RootDir | Component::Prefix(_) => return Err("its path is absolute"),
        }
    }
    Ok(cleaned)
}

/// Whether a link at `path` stays below the root: any number of `..` first, but not past the root, then names.
///
/// A `..` after a name is refused, because the name may itself be a link and its parent then be anywhere.
pub(crate) fn stays_inside(path: &Path, target: &Path) -> bool {
    let depth = path.components().count().saturating_sub(1);
    let ups = target
        .components()
        .take_while(|part| matches!(part, Component::ParentDir))
        .count();
    let names = target.components().skip(ups);
    !target.as_os_str().is_empty()
        && ups <= depth
        && names
            .into_iter()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

/// A folder below which files are made. Every parent is opened anew without following links; the last one is kept.
pub(crate) struct Beneath {
    root: OwnedFd,
    last: Option<(PathBuf, OwnedFd)>,
}

impl Beneath {
    /// Opens the folder, which may itself be a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: openat(CWD, path, flags, Mode::empty())?,
            last: None,
        })
    }

    /// Makes a folder with its parents; one that is there stays.
    pub(crate) fn folder(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match mkdirat(parent, name, Mode::from_raw_mode(mode & 0o777 | 0o700)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => openat(parent, name, FOLDER, Mode::empty())
                .map(drop)
                .map_err(io::Error::from),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an empty file with its parents, in place of a file or link that is there.
    pub(crate) fn file(&mut self, path: &Path, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o777);
        let file = match openat(parent, name, flags, mode) {
            Err(Errno::EXIST) => {
                unlinkat(parent, name, AtFlags::empty())?;
                openat(parent, name, flags, mode)?
            }
            opened => opened?,
        };
        fchmod(&file, mode)?;
        Ok(File::from(file))
    }

    /// Makes a link with its parents, in place of a file or link that is there.
    pub(crate) fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match symlinkat(target, parent, name) {
            Err(Errno::EXIST) => {
                unlinkat(parent, name, AtFlags::empty())?;
                Ok(symlinkat(target, parent, name)?)
            }
            made => Ok(made?),
        }
    }

    fn parent<'a>(&'a mut self, path: &'a Path) -> io::Result<(&'a OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if folder.as_os_str().is_empty() {
            return Ok((&self.root, name));
        }
        if self
            .last
            .as_ref()
            .is_none_or(|(last, _)| last.as_os_str().as_bytes() != folder.as_os_str().as_bytes())
        {
            self.last = Some((folder.to_owned(), self.open_folder(folder)?));
        }
        self.last
            .as_ref()
            .map(|(_, fd)| (fd, name))
            .ok_or_else(|| Errno::INVAL.into())
    }

    fn open_folder(&self, folder: &Path) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for part in folder.components() {
            let Component::Normal(name) = part else {
                return Err(Errno::INVAL.into());
            };
            at = match openat(&at, name, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    openat(&at, name, FOLDER, Mode::empty())?
                }
                opened => opened?,
            };
        }
        Ok(at)
    }
}
