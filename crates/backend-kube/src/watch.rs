//! One watch for each namespace, shared by all attempts in it, with lists that repair what a watch misses.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Error, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use pipekeeper_backend::pod::PodState;
use pipekeeper_model::AttemptId;
use tokio::time::{sleep, timeout};

use crate::{
    host::{Inner, bounded},
    judge, names,
};

/// The cluster ends a watch after so many seconds; then a new one begins where it ended.
const WATCH_SECONDS: u32 = 280;
/// A watch that says nothing for so long, not even a bookmark, may have lost its other end.
const SILENCE: Duration = Duration::from_secs(90);
/// A watch that ends this soon was refused.
const SHORT: Duration = Duration::from_secs(1);
/// The pause after an error, doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Watches a namespace for as long as its host lives.
pub(crate) async fn watch(inner: std::sync::Weak<Inner>, pods: Api<Pod>, namespace: String) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(host) = inner.upgrade() else { return };
        let listed = list(&host, &pods, &namespace).await;
        drop(host);
        match listed {
            Ok(version) => {
                pause = FIRST_PAUSE;
                if let Err(error) = follow(&inner, &pods, &namespace, version).await {
                    tracing::debug!(namespace, "the watch ended: {error}");
                }
            }
            Err(error) => tracing::warn!(namespace, "cannot list pods: {error}"),
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Lists all pods; those that were known and are not there are gone. The version to watch from.
pub(crate) async fn list(host: &Arc<Inner>, pods: &Api<Pod>, namespace: &str) -> Result<String, Error> {
    let known_before: BTreeSet<AttemptId> = host.known_in(namespace);
    let parameters = ListParams::default().labels(&names::selector(&host.cluster.instance));
    let found = bounded(pods.list(&parameters)).await?;
    let version = found.metadata.resource_version.unwrap_or_default();
    let mut there = BTreeSet::new();
    for pod in found.items {
        there.extend(host.saw(&pod, Timestamp::now()));
    }
    for attempt in known_before.difference(&there) {
        host.lost(*attempt);
    }
    host.listed(namespace);
    Ok(version)
}

/// Follows the watch until it breaks or falls silent.
async fn follow(
    inner: &std::sync::Weak<Inner>,
    pods: &Api<Pod>,
    namespace: &str,
    mut version: String,
) -> Result<(), Error> {
    loop {
        let Some(host) = inner.upgrade() else {
            return Ok(());
        };
        let parameters = WatchParams::default()
            .labels(&names::selector(&host.cluster.instance))
            .timeout(WATCH_SECONDS);
        drop(host);
        let begun = Instant::now();
        let mut events = bounded(pods.watch(&parameters, &version)).await?.boxed();
        loop {
            let Ok(event) = timeout(SILENCE, events.try_next()).await else {
                tracing::info!(namespace, "the watch is silent and is begun anew");
                return Ok(());
            };
            let Some(event) = event? else {
                // A version that is too old ends some watches at once and without a word.
                if begun.elapsed() < SHORT {
                    return Ok(());
                }
                break;
            };
            let Some(host) = inner.upgrade() else {
                return Ok(());
            };
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    version = pod.resource_version().unwrap_or(version);
                    host.saw(&pod, Timestamp::now());
                }
                WatchEvent::Deleted(pod) => {
                    version = pod.resource_version().unwrap_or(version);
                    if let Some(attempt) = names::attempt_of(&host.cluster.instance, &pod) {
                        host.deleted(attempt, &pod);
                    }
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(Error::Api(status)),
            }
        }
    }
}

/// What a pod's state is now.
pub(crate) fn state_of(host: &Inner, pod: &Pod, now: Timestamp) -> PodState {
    judge::judge(pod, now, &host.cluster.patience)
}
