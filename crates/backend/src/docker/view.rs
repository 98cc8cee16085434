//! Looking at an attempt's containers, and telling what they mean.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bollard::{
    errors::Error,
    models::{ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum},
    query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder},
};
use pipekeeper_model::AttemptId;
use tokio::time::sleep;

use super::{
    engine::is_not_found,
    host::Inner,
    judge::{Shown, Status, judge},
    keeper,
    names::{self, Role},
    render::Crew,
};
use crate::pod::PodState;

/// How long a container may be in a state that nobody else knows.
const ODD_STATE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(30);

/// An attempt's containers as they are now.
pub(super) struct View {
    pub(super) shown: Vec<Shown>,
    /// What is to stand beside the supervisor, if that is there to tell.
    pub(super) crew: Option<Arc<Crew>>,
}

impl View {
    /// How a container stands, if it is there.
    pub(super) fn status(&self, role: &Role) -> Option<&Status> {
        self.shown
            .iter()
            .find(|shown| shown.role == *role)
            .map(|shown| &shown.status)
    }
}

/// Asks the engine for the containers of an attempt.
pub(super) async fn view(inner: &Inner, attempt: AttemptId) -> Result<View, Error> {
    let mut view = View {
        shown: Vec::new(),
        crew: None,
    };
    for container in list(inner, Some(attempt)).await? {
        let labels = container.labels.unwrap_or_default();
        let Some(role) = labels.get(names::ROLE).and_then(|role| Role::of_label(role)) else {
            continue;
        };
        let status = match container.state {
            Some(ContainerSummaryStateEnum::REMOVING) => None,
            Some(ContainerSummaryStateEnum::EXITED | ContainerSummaryStateEnum::DEAD) => {
                let ended = inspect(inner, container.id.as_deref().unwrap_or_default()).await?;
                ended.map(|(status, _)| status)
            }
            Some(ContainerSummaryStateEnum::CREATED | ContainerSummaryStateEnum::EMPTY) | None => {
                Some(Status::Created)
            }
            Some(
                ContainerSummaryStateEnum::RUNNING
                | ContainerSummaryStateEnum::PAUSED
                | ContainerSummaryStateEnum::RESTARTING
                | ContainerSummaryStateEnum::STOPPING,
            ) => Some(Status::Running),
        };
        let Some(status) = status else { continue };
        if role == Role::Agent {
            view.crew = crew_of(attempt, &labels);
        }
        view.shown.push(Shown { role, status });
    }
    confirm(inner, attempt, &mut view).await?;
    Ok(view)
}

/// Asks for each container that the list lacks by its name: a list that was made while others came and went may miss
/// one, and an attempt must not end for that.
async fn confirm(inner: &Inner, attempt: AttemptId, view: &mut View) -> Result<(), Error> {
    let name = |role: &Role| names::container(&inner.options.instance, attempt, role);
    if view.status(&Role::Agent).is_none()
        && let Some((status, labels)) = inspect(inner, &name(&Role::Agent)).await?
    {
        view.crew = crew_of(attempt, &labels);
        let role = Role::Agent;
        view.shown.push(Shown { role, status });
    }
    if !inner.known.beside(attempt).is_made {
        return Ok(());
    }
    let members = view.crew.iter().flat_map(|crew| &crew.members);
    let missing: Vec<Role> = members
        .filter_map(|member| Role::of_label(&member.role))
        .filter(|role| view.status(role).is_none())
        .collect();
    for role in missing {
        if let Some((status, _)) = inspect(inner, &name(&role)).await? {
            view.shown.push(Shown { role, status });
        }
    }
    Ok(())
}

/// The containers of ours, of one attempt or of all.
pub(super) async fn list(inner: &Inner, attempt: Option<AttemptId>) -> Result<Vec<ContainerSummary>, Error> {
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&names::selector(&inner.options.instance, attempt))
        .build();
    let docker = inner.engine.client().await?;
    let mut containers = understood(|| docker.list_containers(Some(options.clone()))).await?;
    containers.retain(|container| {
        let labels = container.labels.as_ref();
        labels.is_some_and(|labels| names::is_selected(&inner.options.instance, attempt, labels))
    });
    Ok(containers)
}

/// Asks until the answer can be understood: Podman has a state of its own for a container between its end and what it
/// does about that.
async fn understood<T, F: Future<Output = Result<T, Error>>>(mut ask: impl FnMut() -> F) -> Result<T, Error> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(Error::JsonDataError { .. }) if begun.elapsed() < ODD_STATE => sleep(PAUSE).await,
            answered => return answered,
        }
    }
}

/// What the attempt's containers mean now, without telling anybody.
pub(super) async fn look(inner: &Arc<Inner>, attempt: AttemptId) -> Result<PodState, Error> {
    let view = view(inner, attempt).await?;
    if let (Some(crew), Some(Status::Created | Status::Running)) = (&view.crew, view.status(&Role::Agent)) {
        keeper::keep(inner, attempt, crew);
    }
    let beside = inner.known.beside(attempt);
    let patience = &inner.options.patience;
    Ok(judge(
        &view.shown,
        view.crew.as_deref(),
        &beside,
        patience,
        seconds_now(),
    ))
}

/// Looks at an attempt, and tells what is new.
pub(super) async fn refresh(inner: &Arc<Inner>, attempt: AttemptId) -> Result<PodState, Error> {
    let turn = inner.known.turn(attempt);
    let _turn = turn.lock().await;
    let state = look(inner, attempt).await?;
    inner.known.saw(attempt, &state);
    Ok(state)
}

/// Seconds since 1970.
pub(super) fn seconds_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// A container by its name or id, and its labels; none if it is not there.
async fn inspect(inner: &Inner, name: &str) -> Result<Option<(Status, HashMap<String, String>)>, Error> {
    let docker = inner.engine.client().await?;
    let container = match understood(|| docker.inspect_container(name, None::<InspectContainerOptions>)).await
    {
        Ok(container) => container,
        Err(error) if is_not_found(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let state = container.state.unwrap_or_default();
    let status = match state.status {
        Some(ContainerStateStatusEnum::REMOVING) => return Ok(None),
        Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => Status::Created,
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING,
        ) => Status::Running,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => Status::Exited {
            code: state.exit_code.unwrap_or_default(),
            is_short: state.oom_killed.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
        },
    };
    let labels = container.config.and_then(|config| config.labels);
    Ok(Some((status, labels.unwrap_or_default())))
}

fn crew_of(attempt: AttemptId, labels: &HashMap<String, String>) -> Option<Arc<Crew>> {
    let text = labels.get(names::POD)?;
    match serde_json::from_str(text) {
        Ok(crew) => Some(Arc::new(crew)),
        Err(error) => {
            tracing::warn!(attempt.id = %attempt, "its container tells what this version does not understand: {error}");
            None
        }
    }
}
