//! `pipe run --on`: the working tree on a cluster of a server, followed as if it ran here.

mod ask;
mod link;
mod listen;
mod send;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use pipekeeper_engine::{Earlier, Run};
use pipekeeper_model::{Millis, Name, RunId};
use serde_json::json;

use self::link::RemoteLink;
use crate::{
    client::{Client, view},
    cmd::run::Approve,
    failure::Failure,
    follow::{Desk, Ending, Following},
    local::Place,
    report::{Report, View},
    term,
};

/// The pause before a server is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// A run that a server is to make of a working tree.
#[derive(Debug)]
pub(crate) struct Job {
    /// The working tree.
    pub(crate) root: PathBuf,
    /// What people call it.
    pub(crate) subject: String,
    /// The project that it is a tree of; none means the one that bears the repository's name, or the only one.
    pub(crate) project: Option<Name>,
    /// The repository's name.
    pub(crate) repository: String,
    /// The pipeline.
    pub(crate) pipeline: Name,
    /// The cluster.
    pub(crate) cluster: Name,
    /// Parameters as text.
    pub(crate) params: Vec<(Name, String)>,
    /// Only these actions and what they need; none means all.
    pub(crate) actions: Vec<String>,
    /// Whether earlier successes may stand in for its actions.
    pub(crate) earlier: Earlier,
    /// What happens at gates.
    pub(crate) approve: Approve,
    /// How it is shown.
    pub(crate) view: View,
    /// How long it may take.
    pub(crate) limit: Option<Millis>,
}

/// Sends the tree, starts the run and follows it.
pub(crate) async fn run(client: Client, place: &Place, job: Job) -> Result<Ending, Failure> {
    let project = project(&client, &job).await?;
    let tree = send::send(&client, place, &job.root, &project, &job.subject).await?;
    let body = json!({
        "project": project,
        "pipeline": job.pipeline,
        "tree": { "id": tree, "cluster": job.cluster },
        "params": job.params.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "actions": job.actions,
        "reuse": job.earlier == Earlier::Adopt,
    });
    let started: Started = view(client.post(&["runs"], &body).await?)?;
    term::note(client.page(&["runs", &started.run.to_string()])?);
    let (link, plan) = RemoteLink::open(client, started.run, place.layout()).await?;
    let following = Following {
        report: Report::new(job.view, &plan, place.layout()),
        run: Run::new(started.run),
        desk: Desk::new(job.approve),
        view: job.view,
    };
    let (ending, _) = following.follow(link, job.limit, None).await?;
    Ok(ending)
}

#[derive(serde::Deserialize)]
struct Started {
    run: RunId,
}

#[derive(serde::Deserialize)]
struct Projects {
    projects: Vec<Name>,
}

async fn project(client: &Client, job: &Job) -> Result<Name, Failure> {
    if let Some(named) = &job.project {
        return Ok(named.clone());
    }
    let Projects { projects } = view(client.get(&["projects"], &[]).await?)?;
    chosen(&projects, &job.repository).cloned().ok_or_else(|| {
        let known: Vec<&str> = projects.iter().map(Name::as_str).collect();
        Failure::usage(format!(
            "no project of the server is called like the repository `{}`",
            job.repository
        ))
        .hint(match known.as_slice() {
            [] => "the server has no project: its administrator adds one to its configuration".to_owned(),
            known => format!("name one with `--project`: {}", known.join(", ")),
        })
    })
}

/// The project called like the repository, else the only one.
fn chosen<'a>(projects: &'a [Name], repository: &str) -> Option<&'a Name> {
    let last = repository.rsplit('/').next().unwrap_or(repository);
    let named = projects.iter().find(|project| project.as_str() == last);
    named.or(match projects {
        [only] => Some(only),
        _ => None,
    })
}
