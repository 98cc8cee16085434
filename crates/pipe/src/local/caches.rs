//! The archive caches of local runs: a folder for each working tree.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pipekeeper_controller::caches::{self, CacheEntry, CacheWish, Removed};
use pipekeeper_model::{Plan, plan::CacheMode};

use crate::{
    config,
    failure::{Failure, OrFail},
    folders,
    term::{self, clean},
};

/// The file that says whose caches a folder holds.
const TREE: &str = "tree";

/// The caches of one working tree.
#[derive(Debug)]
pub(crate) struct TreeCaches {
    /// The working tree; empty if nobody noted it.
    pub(crate) tree: String,
    folder: PathBuf,
}

/// The folder of the caches of a tree, by the tree's id.
pub(crate) fn folder_of(id: &str) -> Result<PathBuf, Failure> {
    Ok(all()?.join(id))
}

/// Writes down whose caches a folder holds.
pub(crate) fn note_tree(folder: &Path, tree: &Path) -> Result<(), Failure> {
    let file = folder.join(TREE);
    if file.exists() {
        return Ok(());
    }
    folders::write_private(&file, &tree.display().to_string())
}

/// Every tree that has caches.
pub(crate) fn trees() -> Result<Vec<TreeCaches>, Failure> {
    let mut trees: Vec<TreeCaches> = fs::read_dir(all()?)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let tree = fs::read_to_string(folder.join(TREE)).unwrap_or_default();
            folder.is_dir().then_some(TreeCaches { tree, folder })
        })
        .collect();
    trees.sort_by(|a, b| a.tree.cmp(&b.tree));
    Ok(trees)
}

impl TreeCaches {
    /// Its caches.
    pub(crate) fn list(&self) -> Result<Vec<CacheEntry>, Failure> {
        caches::list(&self.folder).or_usage(format_args!("read `{}`", self.folder.display()))
    }

    /// Removes those that fit.
    pub(crate) fn remove(&self, wish: &CacheWish) -> Result<Removed, Failure> {
        caches::remove(&self.folder, wish)
            .or_usage(format_args!("remove caches below `{}`", self.folder.display()))
    }
}

/// Makes room after a run that may have saved caches, and says what went.
pub(crate) fn trim_after(plan: &Plan) -> Result<(), Failure> {
    if !plan.caches.values().any(|cache| cache.mode == CacheMode::Archive) {
        return Ok(());
    }
    let quota = config::local_cache_quota()?;
    let folders: Vec<PathBuf> = trees()?.into_iter().map(|tree| tree.folder).collect();
    let removed = caches::trim(&folders, quota).or_usage("make room among the caches")?;
    for entry in &removed.gone {
        term::note(format_args!(
            "evicted the cache `{}` of {} (key `{}`, {}): {} a project and {} in all may be kept",
            entry.name,
            entry.project,
            clean(&entry.key),
            entry.bytes,
            quota.project,
            quota.total,
        ));
    }
    Ok(())
}

fn all() -> Result<PathBuf, Failure> {
    Ok(folders::cache()?.join("caches"))
}
