//! Copies of folders that share their bytes with the original where the file system can, and never their inodes.
//!
//! Entry functions: [`copy_tree`] and, for one file, [`Copier::file`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{OFlags, ioctl_ficlone};

use crate::interrupt::Interrupt;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The files and links.
    pub files: u64,
    /// The bytes in them.
    pub bytes: u64,
}

/// Copies all in the folder `from` into the folder `to`, which is made if need be.
///
/// Links are kept as they are, modes without setuid, dates are now; pipes, sockets and devices are left out.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<Copied> {
    Copier::default().tree(from, to, &Interrupt::default())
}

/// Copies files and remembers whether the file system can share their bytes.
#[derive(Debug, Default)]
pub struct Copier {
    reflinks: Reflinks,
    copied: Copied,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reflinks {
    #[default]
    Untried,
    Refused,
}

impl Copier {
    pub(crate) fn tree(mut self, from: &Path, to: &Path, interrupt: &Interrupt) -> io::Result<Copied> {
        fs::create_dir_all(to)?;
        let mut open = vec![(from.to_owned(), to.to_owned())];
        while let Some((from, to)) = open.pop() {
            for entry in fs::read_dir(&from)? {
                if interrupt.is_set() {
                    return Err(io::Error::other("interrupted"));
                }
                let entry = entry?;
                let (source, target) = (entry.path(), to.join(entry.file_name()));
                let file_type = entry.file_type()?;
                if file_type.is_dir() {
                    let mode = entry.metadata()?.mode() & 0o777 | 0o700;
                    DirBuilder::new().mode(mode).create(&target)?;
                    open.push((source, target));
                } else if file_type.is_symlink() {
                    symlink(fs::read_link(&source)?, &target)?;
                    self.copied.files += 1;
                } else if file_type.is_file() {
                    self.file(&source, &target)?;
                }
            }
        }
        Ok(self.copied)
    }

    /// Copies one file to a place where nothing is yet; a link is an error.
    pub fn file(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut source = OpenOptions::new().read(true).custom_flags(no_follow).open(from)?;
        let metadata = source.metadata()?;
        let mode = metadata.mode() & 0o777;
        let mut target = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(to)?;
        if !self.share(&source, &target) {
            io::copy(&mut source, &mut target)?;
        }
        target.set_permissions(fs::Permissions::from_mode(mode))?;
        self.copied.files += 1;
        self.copied.bytes += metadata.len();
        Ok(())
    }

    fn share(&mut self, source: &File, target: &File) -> bool {
        if self.reflinks == Reflinks::Untried && ioctl_ficlone(target, source).is_ok() {
            return true;
        }
        self.reflinks = Reflinks::Refused;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_shares_nothing_but_content() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/tool"), "one").unwrap();
        fs::set_permissions(from.join("sub/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::File::open(from.join("sub/tool"))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        fs::hard_link(from.join("sub/tool"), from.join("same")).unwrap();
        symlink("/nowhere", from.join("dangling")).unwrap();
        let copied = copy_tree(&from, &to).unwrap();
        assert_eq!(copied, Copied { files: 3, bytes: 6 });
        let tool = fs::metadata(to.join("sub/tool")).unwrap();
        assert_eq!((tool.mode() & 0o7777, tool.nlink()), (0o755, 1));
        assert!(tool.modified().unwrap() > std::time::UNIX_EPOCH, "dated now");
        assert_eq!(fs::read_link(to.join("dangling")).unwrap(), Path::new("/nowhere"));
        fs::write(to.join("sub/tool"), "two").unwrap();
        assert_eq!(fs::read_to_string(from.join("sub/tool")).unwrap(), "one");
    }

    #[test]
    fn a_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert!(Copier::default().file(&from, &to).is_err());
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
    }
}
