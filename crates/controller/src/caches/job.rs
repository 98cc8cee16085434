//! The job that makes room after attempts that may have saved a cache.

use std::io;

use pipekeeper_model::Timestamp;

use super::{CacheQuota, Removed, remove::remove_strays, trim};
use crate::job::{Done, Job, Tools};

impl Tools {
    /// Makes room among the archive caches if they take more than they may.
    pub(crate) fn trim_caches(&self, now: Timestamp) -> Option<Job> {
        let (caches, quota) = (self.layout.caches(), self.cache_quota?);
        let tools = self.clone();
        Some(Box::pin(async move {
            let stores: Vec<String> = tools
                .cache_stores
                .iter()
                .map(|store| store.name().to_owned())
                .collect();
            let trimmed = tokio::task::spawn_blocking(move || {
                remove_strays(&caches, &stores)?;
                trim(&[caches], quota)
            })
            .await;
            match trimmed.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(removed) => {
                    tell_removed(&removed, quota);
                    if let Some(collect) = tools.collect_caches(now).filter(|_| !removed.gone.is_empty()) {
                        return collect.await;
                    }
                }
                Err(error) => tracing::warn!("cannot make room among the caches: {error}"),
            }
            Done::Quiet
        }))
    }
}

fn tell_removed(removed: &Removed, quota: CacheQuota) {
    for entry in &removed.gone {
        tracing::info!(
            project.name = %entry.project,
            "evicted the cache `{}` ({}, key `{}`, {}): {} a project and {} in all may be kept",
            entry.name, entry.tier, entry.key, entry.bytes, quota.project, quota.total,
        );
    }
    for entry in &removed.in_use {
        tracing::info!(
            project.name = %entry.project,
            "the cache `{}` (key `{}`) is to be evicted and is in use: it stays for now",
            entry.name, entry.key,
        );
    }
}
