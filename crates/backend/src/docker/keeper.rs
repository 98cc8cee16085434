//! Makes what stands beside a supervisor, however often that is interrupted, and finds out when services are ready.
//! Entry function: [`keep`].

use std::{sync::Arc, time::Duration};

use bollard::{
    Docker,
    errors::Error,
    models::ContainerCreateBody,
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::{
    TryStreamExt,
    future::{join_all, try_join, try_join_all},
};
use pipekeeper_model::AttemptId;
use tokio::time::{sleep, timeout};

use super::{
    engine::{is_conflict, is_not_found, status, told},
    exec,
    host::Inner,
    judge::Status,
    names::{self, Role},
    pull,
    render::{Crew, Member},
    view::{self, View},
};
use crate::pod::{Cause, Why};

/// The pause after something did not work, doubled for each further time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often a service is asked whether it is ready.
const PROBE_PAUSE: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Has the attempt's crew made, beside everything else, unless that is under way or done.
pub(super) fn keep(inner: &Arc<Inner>, attempt: AttemptId, crew: &Arc<Crew>) {
    inner.known.keep(attempt, || {
        let keeper = Keeper {
            inner: Arc::clone(inner),
            attempt,
            crew: Arc::clone(crew),
        };
        tokio::spawn(keeper.run()).abort_handle()
    });
}

struct Keeper {
    inner: Arc<Inner>,
    attempt: AttemptId,
    crew: Arc<Crew>,
}

impl Keeper {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        while let Err(why) = self.make().await {
            self.inner.known.hold(self.attempt, Some(why));
            self.refresh().await;
            sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
        self.inner.known.made(self.attempt);
        self.refresh().await;
        let members = self.crew.members.iter();
        join_all(members.filter_map(|member| {
            let command = member.ready.as_deref()?;
            Some(self.probe(member, command))
        }))
        .await;
    }

    /// Tells how the attempt stands; what does not work now, the watch repeats.
    async fn refresh(&self) {
        if let Err(error) = view::refresh(&self.inner, self.attempt).await {
            tracing::debug!(attempt.id = %self.attempt, "cannot look at its containers: {}", told(&error));
        }
    }

    /// Makes what is missing and starts what never ran.
    async fn make(&self) -> Result<(), Why> {
        let docker = self.inner.engine.client().await.map_err(|e| self.away(&e))?;
        let view = view::view(&self.inner, self.attempt)
            .await
            .map_err(|e| self.away(&e))?;
        // Without its supervisor nothing is to be made any more.
        let (Some(Status::Created | Status::Running), crew) = (view.status(&Role::Agent), &self.crew) else {
            return Ok(());
        };
        let todo: Vec<(Role, &Member)> = crew
            .members
            .iter()
            .filter_map(|member| Some((Role::of_label(&member.role)?, member)))
            .filter(|(role, _)| matches!(view.status(role), None | Some(Status::Created)))
            .collect();
        let missing = todo.iter().filter(|(role, _)| view.status(role).is_none());
        let missing: Vec<_> = missing.collect();
        self.pull(docker, missing.iter().map(|(_, member)| member.image()))
            .await?;
        let created = try_join_all(
            missing
                .iter()
                .map(|(role, member)| self.create(docker, role, &member.body)),
        );
        try_join(created, self.start_agent(docker, &view)).await?;
        try_join_all(todo.iter().map(|(role, member)| async move {
            let name = self.name(role);
            let started = docker.start_container(&name, None::<StartContainerOptions>).await;
            started.map_err(|error| self.unstarted(member.image(), &error))
        }))
        .await?;
        Ok(())
    }

    /// Makes sure of all images, each once.
    async fn pull<'a>(&self, docker: &Docker, images: impl Iterator<Item = &'a str>) -> Result<(), Why> {
        let mut images: Vec<&str> = images.collect();
        images.sort_unstable();
        images.dedup();
        let patience = &self.inner.options.patience;
        try_join_all(images.iter().map(|image| {
            pull::ensure(docker, image, patience, |why| {
                self.inner.known.hold(self.attempt, Some(why));
                let (inner, attempt) = (Arc::clone(&self.inner), self.attempt);
                tokio::spawn(async move { view::refresh(&inner, attempt).await });
            })
        }))
        .await?;
        self.inner.known.hold(self.attempt, None);
        Ok(())
    }

    /// Makes a container, unless it is there: another server of ours may be making it too.
    async fn create(&self, docker: &Docker, role: &Role, body: &ContainerCreateBody) -> Result<(), Why> {
        match create(docker, &self.name(role), body).await {
            Ok(()) => Ok(()),
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => {
                let image = body.image.as_deref().unwrap_or_default();
                let patience = self.inner.options.patience.start;
                Err(Why {
                    cause: Cause::Container,
                    text: format!("the container of `{image}` cannot be made: {}", told(&error)),
                    patience: if status(&error) == Some(400) {
                        Duration::ZERO
                    } else {
                        patience
                    },
                })
            }
        }
    }

    /// Starts the supervisor, and tells so at once: its stream can open while the others start.
    async fn start_agent(&self, docker: &Docker, view: &View) -> Result<(), Why> {
        if view.status(&Role::Agent) != Some(&Status::Created) {
            return Ok(());
        }
        if let Some(install) = &self.crew.install {
            self.install(docker, install).await?;
        }
        let name = self.name(&Role::Agent);
        docker
            .start_container(&name, None::<StartContainerOptions>)
            .await
            .map_err(|error| Why {
                cause: Cause::Container,
                text: format!("its supervisor cannot start: {}", told(&error)),
                patience: self.inner.options.patience.start,
            })?;
        self.refresh().await;
        Ok(())
    }

    /// Puts the program in place and waits for that.
    async fn install(&self, docker: &Docker, body: &ContainerCreateBody) -> Result<(), Why> {
        self.create(docker, &Role::Install, body).await?;
        let name = self.name(&Role::Install);
        let failed = |reason: String| Why {
            cause: Cause::Container,
            text: format!("the supervisor's program could not be put in place: {reason}"),
            patience: self.inner.options.patience.start,
        };
        let installed = async {
            docker
                .start_container(&name, None::<StartContainerOptions>)
                .await?;
            let ended: Result<Vec<_>, Error> = docker
                .wait_container(&name, None::<WaitContainerOptions>)
                .try_collect()
                .await;
            ended
        };
        installed.await.map_err(|error| failed(told(&error)))?;
        // An engine may tell the end of a container that ended before it was asked as an error, or not at all.
        let shown = docker
            .inspect_container(&name, None::<InspectContainerOptions>)
            .await
            .map_err(|error| failed(told(&error)))?;
        match shown.state.and_then(|state| state.exit_code) {
            Some(0) => Ok(()),
            code => Err(failed(format!("code {}", code.unwrap_or(-1)))),
        }
    }

    /// Asks a service until it is ready, or is not there to ask.
    async fn probe(&self, member: &Member, command: &str) {
        let Some(role) = Role::of_label(&member.role) else {
            return;
        };
        let name = self.name(&role);
        loop {
            let asked = async {
                let docker = self.inner.engine.client().await?;
                exec::run(docker, &name, &["sh", "-c", command]).await
            };
            match timeout(PROBE_LIMIT, asked).await {
                Ok(Ok(Some(0))) => {
                    self.inner.known.ready(self.attempt, &member.role);
                    return self.refresh().await;
                }
                Ok(Err(error)) if is_not_found(&error) || status(&error) == Some(409) => {
                    return self.refresh().await;
                }
                Ok(Ok(_) | Err(_)) | Err(_) => sleep(PROBE_PAUSE).await,
            }
        }
    }

    fn unstarted(&self, image: &str, error: &Error) -> Why {
        let message = told(error);
        let is_final = ["executable file not found", "no such file", "permission denied"]
            .iter()
            .any(|words| message.to_lowercase().contains(words));
        Why {
            cause: Cause::Container,
            text: format!("the container of `{image}` cannot start: {message}"),
            patience: if is_final {
                Duration::ZERO
            } else {
                self.inner.options.patience.start
            },
        }
    }

    fn away(&self, error: &Error) -> Why {
        Why {
            cause: Cause::Container,
            text: self.inner.engine.explain(error).to_string(),
            patience: self.inner.options.patience.pull,
        }
    }

    fn name(&self, role: &Role) -> String {
        names::container(&self.inner.options.instance, self.attempt, role)
    }
}

/// Makes a container of this name.
pub(super) async fn create(docker: &Docker, name: &str, body: &ContainerCreateBody) -> Result<(), Error> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    docker.create_container(Some(options), body.clone()).await?;
    Ok(())
}
