//! One watch for each namespace, shared by all attempts in it, with lists that repair what a watch misses.

use std::{
    collections::BTreeSet,
    sync::Weak,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::{
    api::core::v1::{Namespace, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Error, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use pipekeeper_model::{AttemptId, Name};
use tokio::time::{sleep, timeout};

use crate::{calls::bounded, known::Known, listings::Need, refusal};

/// The cluster ends a watch after so many seconds; then a new one begins where it ended.
const WATCH_SECONDS: u32 = 280;
/// A watch that says nothing for so long, not even a bookmark, may have lost its other end.
const SILENCE: Duration = Duration::from_secs(90);
/// A watch that ends this soon was refused.
const SHORT: Duration = Duration::from_secs(1);
/// The pause after an error, doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The same where the cluster says no, which only a person changes.
const LONGEST_PAUSE_REFUSED: Duration = Duration::from_secs(60);

/// What a watch is about.
pub(crate) struct Watched {
    pub(crate) pods: Api<Pod>,
    pub(crate) cluster: Name,
    pub(crate) namespace: String,
    /// The labels of our pods.
    pub(crate) selector: String,
    /// Where to ask whether there is such a namespace, if it is made only when it is needed.
    pub(crate) namespaces: Option<Api<Namespace>>,
}

/// Watches a namespace for as long as there is somebody to know.
pub(crate) async fn watch(known: Weak<Known>, watched: Watched) {
    let (cluster, namespace) = (&watched.cluster, watched.namespace.as_str());
    let mut pause = FIRST_PAUSE;
    loop {
        let mut longest = LONGEST_PAUSE;
        let Some(listener) = known.upgrade() else { return };
        let listed = list(&listener, &watched).await;
        if listener.listings.is_absent(namespace) {
            return;
        }
        drop(listener);
        match listed {
            Ok(version) => {
                pause = FIRST_PAUSE;
                if let Err(error) = follow(&known, &watched, version).await {
                    tracing::debug!(namespace, "the watch ended: {error}");
                }
            }
            Err(error) if refusal::is_refused(&error) => longest = LONGEST_PAUSE_REFUSED,
            Err(error) => {
                tracing::warn!(%cluster, namespace, "cannot list pods: {}", refusal::cause(&error));
            }
        }
        sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Lists all pods; those that were known and are not there are gone. The version to watch from.
pub(crate) async fn list(known: &Known, watched: &Watched) -> Result<String, Error> {
    let known_before: BTreeSet<AttemptId> = known.inside(&watched.namespace);
    let parameters = ListParams::default().labels(&watched.selector);
    let found = bounded(watched.pods.list(&parameters)).await;
    let found = match found {
        Err(error) if refusal::is_refused(&error) => {
            note_refusal(known, watched, &error).await;
            return Err(error);
        }
        found => found?,
    };
    let version = found.metadata.resource_version.unwrap_or_default();
    let mut there = BTreeSet::new();
    for pod in found.items {
        there.extend(known.saw(&pod, Timestamp::now()));
    }
    for attempt in known_before.difference(&there) {
        known.lost(*attempt);
    }
    known.listings.listed(&watched.namespace);
    Ok(version)
}

/// People are told once of a namespace that does not open, and again when the cluster gives another reason.
async fn note_refusal(known: &Known, watched: &Watched, error: &Error) {
    if let Some(namespaces) = &watched.namespaces
        && let Ok(None) = bounded(namespaces.get_opt(&watched.namespace)).await
    {
        return known.listings.absent(&watched.namespace);
    }
    let (cluster, namespace) = (&watched.cluster, &watched.namespace);
    let cause = refusal::cause(error);
    match known.listings.refused(namespace, &cause) {
        Some(Need::Expected) => tracing::warn!(
            %cluster, namespace,
            "the pods in `{namespace}` cannot be seen: {cause}; create the namespace if it is missing, and grant the role in deploy/kubernetes"
        ),
        Some(Need::Possible) => {
            tracing::debug!(%cluster, namespace, "`{namespace}` is not open to us and counts as empty: {cause}");
        }
        None => {}
    }
}

/// Follows the watch until it breaks or falls silent.
async fn follow(known: &Weak<Known>, watched: &Watched, mut version: String) -> Result<(), Error> {
    while known.strong_count() > 0 {
        let parameters = WatchParams::default()
            .labels(&watched.selector)
            .timeout(WATCH_SECONDS);
        let begun = Instant::now();
        let mut events = bounded(watched.pods.watch(&parameters, &version)).await?.boxed();
        loop {
            let Ok(event) = timeout(SILENCE, events.try_next()).await else {
                tracing::info!(
                    namespace = watched.namespace,
                    "the watch is silent and is begun anew"
                );
                return Ok(());
            };
            let Some(event) = event? else {
                // A version that is too old ends some watches at once and without a word.
                if begun.elapsed() < SHORT {
                    return Ok(());
                }
                break;
            };
            let Some(known) = known.upgrade() else {
                return Ok(());
            };
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    version = pod.resource_version().unwrap_or(version);
                    known.saw(&pod, Timestamp::now());
                }
                WatchEvent::Deleted(pod) => {
                    version = pod.resource_version().unwrap_or(version);
                    known.deleted(&pod, Timestamp::now());
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(Error::Api(status)),
            }
        }
    }
    Ok(())
}
