//! Emptying folders between two attempts of a pod. Entry functions: [`empty`] and [`empty_temporary`].

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::workspace::remove;

/// Removes all that is in a folder, but these folders, and those that they are in. Elsewhere volumes are mounted on them;
/// here they are empty, if nobody put anything in their way.
///
/// # Errors
/// If anything else stays, or one of them is not there as an empty folder any more.
pub(crate) fn empty(folder: &Path, kept: &[PathBuf]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, is_folder) = {
            let entry = entry?;
            (entry.path(), entry.file_type()?.is_dir())
        };
        let holds_kept = kept.iter().any(|kept| kept.starts_with(&path));
        match (holds_kept, is_folder) {
            (true, true) if kept.contains(&path) => {}
            (true, true) => empty(&path, kept)?,
            // A volume is mounted below what is a folder no more.
            (true, false) => return Err(ErrorKind::NotADirectory.into()),
            (false, true) => remove(&path)?,
            (false, false) => fs::remove_file(&path)?,
        }
    }
    let here = kept.iter().filter(|kept| kept.starts_with(folder));
    for kept in here {
        if !fs::symlink_metadata(kept)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        if fs::read_dir(kept)?.next().is_some() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
    }
    Ok(())
}

/// Whether something is mounted at each of these places, as this process sees them.
///
/// # Errors
/// If it is not: what holds a mount can be renamed, and takes it along.
pub(crate) fn are_mounted(places: &[PathBuf]) -> io::Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounted: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|place| PathBuf::from(unescaped(place)))
        .collect();
    match places.iter().find(|place| !mounted.contains(place)) {
        None => Ok(()),
        Some(place) => Err(io::Error::new(
            ErrorKind::NotFound,
            format!("the volume at `{}` is not there any more", place.display()),
        )),
    }
}

/// The kernel writes spaces and the like as three octal digits.
fn unescaped(place: &str) -> String {
    let known = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    known.iter().fold(place.to_owned(), |place, (code, character)| {
        place.replace(code, character)
    })
}

/// Empties the temporary folders of a container. What others own was there before anything ran in it.
///
/// # Errors
/// If anything of ours stays.
pub(crate) fn empty_temporary(folders: &[PathBuf]) -> io::Result<()> {
    let own = geteuid();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // An image need not have it, or let its user in.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            if !own.is_root() && metadata.uid() != own.as_raw() {
                continue;
            }
            if metadata.is_dir() {
                remove(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_goes_but_mounts_and_their_parents() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let outside = root.path().join("outside");
        for folder in ["deep/er", ".m2/repository", ".m2/wrapper"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        fs::create_dir(&outside).unwrap();
        for file in ["a", "deep/er/b", ".m2/c"] {
            fs::write(home.join(file), "x").unwrap();
        }
        symlink(&outside, home.join("link")).unwrap();
        fs::write(outside.join("stays"), "x").unwrap();
        let kept = [home.join(".m2/repository")];
        empty(&home, &kept).unwrap();
        let left: Vec<PathBuf> = fs::read_dir(&home)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(left, [home.join(".m2")]);
        assert_eq!(fs::read_dir(home.join(".m2")).unwrap().count(), 1);
        assert!(outside.join("stays").exists());
    }

    #[test]
    fn a_mount_whose_way_was_bent_is_told() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        fs::create_dir_all(home.join("moved/repository")).unwrap();
        symlink(home.join("moved"), home.join(".m2")).unwrap();
        assert!(empty(&home, &[home.join(".m2/repository")]).is_err());
        fs::remove_file(home.join(".m2")).unwrap();
        fs::create_dir_all(home.join(".m2/repository")).unwrap();
        fs::write(home.join(".m2/repository/planted"), "x").unwrap();
        assert!(empty(&home, &[home.join(".m2/repository")]).is_err());
        let gone = root.path().join("gone");
        fs::create_dir(&gone).unwrap();
        assert!(empty(&gone, &[gone.join("cache")]).is_err());
    }

    #[test]
    fn mounts_are_seen() {
        are_mounted(&[PathBuf::from("/"), PathBuf::from("/proc")]).unwrap();
        let error = are_mounted(&[PathBuf::from("/no/such/mount")]).unwrap_err();
        assert!(error.to_string().contains("/no/such/mount"), "{error}");
        assert_eq!(unescaped("/a\\040b"), "/a b");
    }

    #[test]
    fn temporary_folders_need_not_be_there() {
        let root = tempfile::tempdir().unwrap();
        let tmp = root.path().join("tmp");
        fs::create_dir_all(tmp.join("x/y")).unwrap();
        fs::write(tmp.join("z"), "x").unwrap();
        empty_temporary(&[tmp.clone(), root.path().join("none")]).unwrap();
        assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
    }
}
