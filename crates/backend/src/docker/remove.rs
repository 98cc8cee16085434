//! Removes all that was made for an attempt.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    errors::Error,
    query_parameters::{
        ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
    },
};
use futures_util::future::try_join_all;
use pipekeeper_model::AttemptId;
use tokio::time::sleep;

use super::{
    engine::status,
    host::Inner,
    names::{self, Role},
    view,
};

/// How long somebody else's removal of the same thing is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Removes containers, then volumes; what is not there counts as removed. The supervisor's container goes last: others
/// use its network, and as long as it is there, everybody sees that there is something to remove.
pub(super) async fn remove(inner: &Inner, attempt: AttemptId) -> Result<(), Error> {
    let docker = inner.engine.client().await?;
    let agent = Role::Agent.to_string();
    let containers = view::list(inner, Some(attempt)).await?;
    let mut ids = (Vec::new(), Vec::new());
    for container in containers {
        let Some(id) = container.id else { continue };
        let role = container.labels.and_then(|mut labels| labels.remove(names::ROLE));
        if role.as_deref() == Some(&agent) {
            ids.1.push(id);
        } else {
            ids.0.push(id);
        }
    }
    try_join_all(ids.0.iter().map(|id| remove_container(docker, id))).await?;
    try_join_all(ids.1.iter().map(|id| remove_container(docker, id))).await?;
    let volumes = volumes(inner, Some(attempt)).await?;
    try_join_all(volumes.keys().map(|name| remove_volume(docker, name))).await?;
    Ok(())
}

/// The volumes of ours, of one attempt or of all, with their labels.
pub(super) async fn volumes(
    inner: &Inner,
    attempt: Option<AttemptId>,
) -> Result<HashMap<String, HashMap<String, String>>, Error> {
    let options = ListVolumesOptionsBuilder::default()
        .filters(&names::selector(&inner.options.instance, attempt))
        .build();
    let listed = inner.engine.client().await?.list_volumes(Some(options)).await?;
    let volumes = listed.volumes.unwrap_or_default().into_iter();
    let volumes = volumes.map(|volume| (volume.name, volume.labels));
    // Podman lists what has any of several labels.
    Ok(volumes
        .filter(|(_, labels)| names::is_selected(&inner.options.instance, attempt, labels))
        .collect())
}

async fn remove_container(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = || {
        RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build()
    };
    until_gone(|| docker.remove_container(id, Some(options()))).await
}

async fn remove_volume(docker: &Docker, name: &str) -> Result<(), Error> {
    let options = || RemoveVolumeOptionsBuilder::default().build();
    until_gone(|| docker.remove_volume(name, Some(options()))).await
}

/// Removes until it is not there. A conflict is somebody else's removal, which may take a moment.
async fn until_gone<F: Future<Output = Result<(), Error>>>(
    mut remove: impl FnMut() -> F,
) -> Result<(), Error> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match remove().await {
            // Gone, or nearly: some engines answer before it is.
            Ok(()) => return Ok(()),
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) if matches!(status(&error), Some(409 | 500)) && begun.elapsed() < PATIENCE => {
                if !is_told {
                    tracing::debug!("removing again: {error}");
                    is_told = true;
                }
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}
