//! One stream of events for all attempts, with lists that repair what it misses.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use bollard::{
    errors::Error,
    models::EventMessage,
    query_parameters::{EventsOptionsBuilder, InspectContainerOptions},
};
use futures_util::{StreamExt, TryStreamExt};
use pipekeeper_model::AttemptId;
use tokio::time::{sleep, timeout};

use super::{
    engine::told,
    host::Inner,
    names,
    view::{self, refresh, seconds_now},
};

/// All is looked at again this often, whatever the events say.
const REPAIR: Duration = Duration::from_secs(60);
/// The pause after an error, doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Watches for as long as the host lives.
pub(super) async fn watch(inner: Weak<Inner>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some(host) = inner.upgrade() else { return };
        let since = seconds_now();
        let looked = look_at_all(&host).await;
        drop(host);
        match looked {
            Ok(()) => {
                pause = FIRST_PAUSE;
                match follow(&inner, since).await {
                    Followed::LongEnough => continue,
                    Followed::LostTrack => {}
                    Followed::ToItsEnd => {
                        if let Some(host) = inner.upgrade() {
                            host.known.set_away(true);
                        }
                    }
                }
            }
            Err(error) => tracing::warn!("cannot list containers: {}", told(&error)),
        }
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// Why a stream of events is not followed any further.
enum Followed {
    /// All is to be looked at again.
    LongEnough,
    /// What an event is about could not be looked at.
    LostTrack,
    /// It ended, as it does when the engine does.
    ToItsEnd,
}

/// Looks at all that is known and all that is there.
async fn look_at_all(host: &Arc<Inner>) -> Result<(), Error> {
    for attempt in attempts(host).await?.into_iter().chain(host.known.attempts()) {
        refresh(host, attempt).await?;
    }
    host.known.set_away(false);
    Ok(())
}

/// The attempts that containers of ours are there for.
pub(super) async fn attempts(host: &Inner) -> Result<BTreeSet<AttemptId>, Error> {
    let containers = view::list(host, None).await?;
    let labels = containers.into_iter().filter_map(|container| container.labels);
    Ok(labels
        .filter_map(|labels| names::attempt_of(&host.options.instance, &labels))
        .collect())
}

/// Follows the events since then.
async fn follow(inner: &Weak<Inner>, since: i64) -> Followed {
    let Some(host) = inner.upgrade() else {
        return Followed::ToItsEnd;
    };
    let mut filters: HashMap<String, Vec<String>> = names::selector(&host.options.instance, None);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let options = EventsOptionsBuilder::default()
        .since(&since.to_string())
        .filters(&filters)
        .build();
    let mut events = match host.engine.client().await {
        Ok(docker) => docker.events(Some(options)).boxed(),
        Err(_) => return Followed::ToItsEnd,
    };
    drop(host);
    let followed = async {
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return Followed::ToItsEnd,
                Err(error) => {
                    tracing::debug!("the stream of events broke: {}", told(&error));
                    return Followed::ToItsEnd;
                }
            };
            let Some(host) = inner.upgrade() else {
                return Followed::ToItsEnd;
            };
            let Some(attempt) = attempt_of(&host, &event) else {
                continue;
            };
            settle(&host, &event).await;
            if let Err(error) = refresh(&host, attempt).await {
                tracing::debug!(attempt.id = %attempt, "cannot look at its containers: {}", told(&error));
                return Followed::LostTrack;
            }
        }
    };
    timeout(REPAIR, followed).await.unwrap_or(Followed::LongEnough)
}

/// Docker tells of a container's end before its lists show that. It answers a question about the container itself only
/// once they do.
async fn settle(host: &Inner, event: &EventMessage) {
    let ended = event.action.as_deref() == Some("die");
    let id = event.actor.as_ref().and_then(|actor| actor.id.as_deref());
    if let (true, Some(id), Ok(docker)) = (ended, id, host.engine.client().await) {
        // What matters is that it was answered.
        let _ = docker
            .inspect_container(id, None::<InspectContainerOptions>)
            .await;
    }
}

/// The attempt that an event is about, if it may change how that stands.
fn attempt_of(host: &Inner, event: &EventMessage) -> Option<AttemptId> {
    let action = event.action.as_deref().unwrap_or_default();
    // Streams and probes come and go.
    if action.starts_with("exec") || action.starts_with("create") {
        return None;
    }
    let labels = event.actor.as_ref()?.attributes.as_ref()?;
    names::attempt_of(&host.options.instance, labels)
}
