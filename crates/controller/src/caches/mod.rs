//! The archive caches that are kept: which there are, what may stay, what goes.
//!
//! ```text
//! caches/PROJECT/TIER/NAME/KEY.tar.zst     whole, or not there: made beside and renamed
//!                          KEY.ref         stands for one whose bytes are in an object store
//! ```
//! A file's date of change says when it was saved, its date of access when it was used last; whoever restores one sets the
//! latter, which costs one system call and works on file systems that keep no such date themselves. Whoever reads one
//! holds a shared lock on it, so that nothing in use is removed; a file that goes between two looks is a miss.
//! A reference says both in its own way ([`CacheRef`]). Entry function: [`list`].

mod collect;
mod job;
mod quota;
mod remove;

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use pipekeeper_backend::{CACHE_FILE, CACHE_REF, CacheRef};
use pipekeeper_model::{Bytes, Name, Timestamp};

pub(crate) use collect::COLLECT_EVERY;
pub use collect::{CacheStore, StoredCache};
pub use quota::{CacheQuota, trim};
pub use remove::{CacheWish, Removed, remove};

/// One archive cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheEntry {
    /// The project that it belongs to.
    pub project: Name,
    /// The trust tier that wrote it.
    pub tier: String,
    /// The cache's name.
    pub name: Name,
    /// Its key, or its key's digest.
    pub key: String,
    /// Its size.
    pub bytes: Bytes,
    /// When it was saved.
    pub created_at: Timestamp,
    /// When it was restored last; when it was saved, if never.
    pub used_at: Timestamp,
    path: PathBuf,
}

/// Every cache below a folder of caches, by project, tier, name and key.
///
/// # Errors
/// If a folder cannot be read; one that is not there holds nothing.
pub fn list(caches: &Path) -> io::Result<Vec<CacheEntry>> {
    let mut found = Vec::new();
    for file in files(caches)? {
        let Some((key, kept)) = kept(&file)? else { continue };
        let Kept {
            bytes,
            created_at,
            used_at,
        } = kept;
        found.push(CacheEntry {
            bytes,
            project: file.project,
            tier: file.tier,
            name: file.name,
            path: file.path,
            key,
            created_at,
            used_at,
        });
    }
    let place = |entry: &CacheEntry| {
        (
            entry.project.clone(),
            entry.tier.clone(),
            entry.name.clone(),
            entry.key.clone(),
        )
    };
    found.sort_by_key(place);
    Ok(found)
}

/// Every reference below a folder of caches.
fn references(caches: &Path) -> io::Result<Vec<CacheRef>> {
    let mut found = Vec::new();
    for file in files(caches)? {
        if file.file.ends_with(CACHE_REF) {
            found.extend(CacheRef::read(&file.path)?);
        }
    }
    Ok(found)
}

/// How large a cache is, and its dates.
pub(crate) struct Kept {
    bytes: Bytes,
    pub(crate) created_at: Timestamp,
    used_at: Timestamp,
}

/// The key of a file that is a cache or stands for one.
fn kept(file: &Found) -> io::Result<Option<(String, Kept)>> {
    kept_as(&file.file, &file.path, &file.metadata)
}

/// What a file is as a cache, with its key; none if it is none.
pub(crate) fn kept_as(
    name: &str,
    path: &Path,
    metadata: &fs::Metadata,
) -> io::Result<Option<(String, Kept)>> {
    let changed_at = to_timestamp(metadata.modified()?);
    if let Some(key) = name.strip_suffix(CACHE_FILE) {
        let used_at = metadata.accessed().map_or(changed_at, to_timestamp);
        let kept = Kept {
            bytes: Bytes(metadata.len()),
            created_at: changed_at,
            used_at: used_at.max(changed_at),
        };
        return Ok(Some((key.to_owned(), kept)));
    }
    let Some(key) = name.strip_suffix(CACHE_REF) else {
        return Ok(None);
    };
    Ok(CacheRef::read(path)?.map(|reference| {
        let kept = Kept {
            bytes: reference.bytes,
            created_at: reference.saved_at,
            used_at: changed_at.max(reference.saved_at),
        };
        (key.to_owned(), kept)
    }))
}

/// A file in the place of a cache.
struct Found {
    project: Name,
    tier: String,
    name: Name,
    file: String,
    path: PathBuf,
    metadata: fs::Metadata,
}

/// Every file three folders down whose folders have the names of project, tier and cache.
fn files(caches: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for (project, projects) in folders(caches)? {
        let Ok(project) = project.parse::<Name>() else {
            continue;
        };
        for (tier, tiers) in folders(&projects)? {
            for (name, names) in folders(&tiers)? {
                let Ok(name) = name.parse::<Name>() else { continue };
                for entry in entries(&names)? {
                    let metadata = match entry.metadata() {
                        Err(error) if error.kind() == ErrorKind::NotFound => continue,
                        metadata => metadata?,
                    };
                    let Ok(file) = entry.file_name().into_string() else {
                        continue;
                    };
                    if metadata.is_file() {
                        found.push(Found {
                            project: project.clone(),
                            tier: tier.clone(),
                            name: name.clone(),
                            file,
                            path: entry.path(),
                            metadata,
                        });
                    }
                }
            }
        }
    }
    Ok(found)
}

fn folders(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = entries(folder)?.into_iter();
    Ok(entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect())
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.collect(),
    }
}

pub(crate) fn to_timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
