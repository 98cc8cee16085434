//! How much caches may take, and what goes when they take more: what is trusted least, and of that what was not used for
//! longest.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use pipekeeper_backend::Tier;
use pipekeeper_model::{Bytes, Name};

use super::{CacheEntry, Removed, files, kept, list, remove::remove_all};

/// A half-written cache that nobody wrote to for so long has no writer any more.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How much archive caches may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheQuota {
    /// Of one project.
    pub project: Bytes,
    /// Of all together.
    pub total: Bytes,
}

impl Default for CacheQuota {
    fn default() -> Self {
        Self {
            project: Bytes::gib(10),
            total: Bytes::gib(50),
        }
    }
}

/// Removes what goes beyond the quota, the least trusted first and of those the longest unused, and what killed writers left.
/// All folders together share the quota.
///
/// # Errors
/// If a folder cannot be read or a file cannot be removed.
pub fn trim<P: AsRef<Path>>(folders: &[P], quota: CacheQuota) -> io::Result<Removed> {
    let mut entries = Vec::new();
    for caches in folders {
        remove_leftovers(caches.as_ref())?;
        entries.extend(list(caches.as_ref())?);
    }
    remove_all(beyond(entries, quota).into_iter())
}

/// The caches to remove, so that what stays keeps to the quota. Pure.
fn beyond(mut entries: Vec<CacheEntry>, quota: CacheQuota) -> Vec<CacheEntry> {
    // The newest first: each stays if there is still room for it, so that one that is too large alone pushes no other out.
    // Trust before age, so that what a branch fills pushes nothing out that a protected one made.
    entries.sort_by_key(|entry| std::cmp::Reverse((trust(entry), entry.used_at, entry.created_at)));
    let mut total = 0_u64;
    let mut projects: BTreeMap<Name, u64> = BTreeMap::new();
    let mut gone: Vec<CacheEntry> = Vec::new();
    for entry in entries {
        let of_project = projects.entry(entry.project.clone()).or_default();
        let (with_it, all) = (
            of_project.saturating_add(entry.bytes.0),
            total.saturating_add(entry.bytes.0),
        );
        if with_it <= quota.project.0 && all <= quota.total.0 {
            (*of_project, total) = (with_it, all);
        } else {
            gone.push(entry);
        }
    }
    gone.reverse();
    gone
}

/// How far the writer of a cache is trusted; folders with no tier's name are not at all.
fn trust(entry: &CacheEntry) -> Option<usize> {
    let tiers = [Tier::Forks, Tier::Branches, Tier::Local, Tier::Protected];
    tiers.iter().position(|tier| tier.as_str() == entry.tier)
}

fn remove_leftovers(caches: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    let is_stale = |metadata: &fs::Metadata| {
        let age = metadata
            .modified()
            .ok()
            .and_then(|at| now.duration_since(at).ok());
        age.is_some_and(|age| age > STALE)
    };
    for file in files(caches)? {
        if is_stale(&file.metadata) && kept(&file)?.is_none() {
            tracing::info!("removes a cache that was never finished: {}", file.path.display());
            fs::remove_file(&file.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pipekeeper_model::Timestamp;

    use super::*;

    fn entry(project: &str, key: &str, bytes: u64, used_at: i64) -> CacheEntry {
        CacheEntry {
            project: project.parse().unwrap(),
            tier: "branches".to_owned(),
            name: "cargo".parse().unwrap(),
            key: key.to_owned(),
            bytes: Bytes(bytes),
            created_at: Timestamp(0),
            used_at: Timestamp(used_at),
            path: PathBuf::new(),
        }
    }

    fn gone(entries: Vec<CacheEntry>, project: u64, total: u64) -> Vec<String> {
        let quota = CacheQuota {
            project: Bytes(project),
            total: Bytes(total),
        };
        beyond(entries, quota)
            .into_iter()
            .map(|entry| entry.key)
            .collect()
    }

    #[test]
    fn the_longest_unused_go_first() {
        let all = || {
            vec![
                entry("a", "old", 40, 1),
                entry("a", "new", 40, 3),
                entry("a", "middle", 40, 2),
                entry("b", "other", 40, 0),
            ]
        };
        assert!(gone(all(), 120, 160).is_empty());
        assert_eq!(gone(all(), 119, 160), ["old"]);
        assert_eq!(gone(all(), 79, 160), ["old", "middle"]);
        assert_eq!(gone(all(), 120, 120), ["other"]);
        assert_eq!(gone(all(), 0, 160).len(), 4);
    }

    #[test]
    fn the_less_trusted_go_first() {
        let of_tier = |tier: &str, key: &str, used_at: i64| CacheEntry {
            tier: tier.to_owned(),
            ..entry("a", key, 40, used_at)
        };
        let all = || {
            vec![
                of_tier("protected", "protected", 0),
                of_tier("protected", "older", -1),
                of_tier("local", "local", 5),
                of_tier("branches", "branch", 8),
                of_tier("forks", "fork", 9),
                of_tier("what", "unknown", 10),
            ]
        };
        let order = ["unknown", "fork", "branch", "local", "older", "protected"];
        for (count, room) in [(0, 240), (1, 200), (2, 160), (4, 80), (5, 40)] {
            assert_eq!(gone(all(), room, 240), order[..count]);
            assert_eq!(gone(all(), 240, room), order[..count]);
        }
    }

    #[test]
    fn one_that_is_too_large_alone_pushes_no_other_out() {
        let all = vec![entry("a", "huge", 200, 9), entry("a", "small", 10, 1)];
        assert_eq!(gone(all, 100, 100), ["huge"]);
    }
}
