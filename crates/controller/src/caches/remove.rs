//! Removes caches, but none that somebody reads.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

use pipekeeper_backend::{CACHE_REF, CacheRef};
use pipekeeper_model::{Name, Timestamp};

use super::{CacheEntry, files, list};

/// Which caches somebody wants removed: those that fit everything that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheWish {
    /// Of this project.
    pub project: Option<Name>,
    /// Of this name.
    pub name: Option<Name>,
    /// Of a key that begins so.
    pub key: Option<String>,
    /// Last used before this.
    pub unused_since: Option<Timestamp>,
}

impl CacheWish {
    fn fits(&self, entry: &CacheEntry) -> bool {
        self.project
            .as_ref()
            .is_none_or(|project| *project == entry.project)
            && self.name.as_ref().is_none_or(|name| *name == entry.name)
            && self
                .key
                .as_ref()
                .is_none_or(|key| entry.key.starts_with(key.as_str()))
            && self.unused_since.is_none_or(|since| entry.used_at < since)
    }
}

/// What became of caches that were to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// They are gone.
    pub gone: Vec<CacheEntry>,
    /// They are being read and stay.
    pub in_use: Vec<CacheEntry>,
}

/// Removes the caches below a folder that fit.
///
/// # Errors
/// If a folder cannot be read or a file cannot be removed.
pub fn remove(caches: &Path, wish: &CacheWish) -> io::Result<Removed> {
    let fitting = list(caches)?.into_iter().filter(|entry| wish.fits(entry));
    remove_all(fitting)
}

/// Removes references to what is in none of these stores: nobody can use them, and they would count.
pub(super) fn remove_strays(caches: &Path, stores: &[String]) -> io::Result<()> {
    for file in files(caches)? {
        if !file.file.ends_with(CACHE_REF) {
            continue;
        }
        let Some(reference) = CacheRef::read(&file.path)? else {
            continue;
        };
        if !stores.contains(&reference.store) {
            tracing::info!(
                "forgets the cache `{}` of `{}`, which is in a store that no cluster has any more: {}",
                file.name,
                file.project,
                reference.store
            );
            fs::remove_file(&file.path)?;
        }
    }
    Ok(())
}

pub(super) fn remove_all(entries: impl Iterator<Item = CacheEntry>) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for entry in entries {
        if remove_unused(&entry.path)? {
            removed.gone.push(entry);
        } else {
            removed.in_use.push(entry);
        }
    }
    Ok(removed)
}

/// Whether the file is gone; it stays while somebody reads it.
fn remove_unused(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(false),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // Another may have been saved in its place meanwhile, which nobody asked to remove.
    let is_same = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        metadata => metadata?.ino() == file.metadata()?.ino(),
    };
    if is_same {
        fs::remove_file(path)?;
    }
    Ok(is_same)
}
