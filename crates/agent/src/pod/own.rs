//! Who owns the files that containers of different users share.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use rustix::process::{getegid, geteuid};

/// The user and group of this process.
pub(crate) fn ours() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

/// Gives a folder with all in it to a user; links are given themselves, never followed.
pub(crate) fn give(folder: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let mut open = vec![folder.to_owned()];
    lchown(folder, Some(uid), Some(gid))?;
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.uid() != uid || metadata.gid() != gid {
                lchown(entry.path(), Some(uid), Some(gid))?;
            }
            if metadata.is_dir() {
                let name: OsString = entry.file_name();
                open.push(folder.join(name));
            }
        }
    }
    Ok(())
}
