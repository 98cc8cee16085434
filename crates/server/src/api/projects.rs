//! `GET /api/v1/projects`: the projects there are.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_access::{Place, Verb};
use pipekeeper_model::Name;
use serde::Serialize;

use crate::{app::App, people::Caller};

#[derive(Serialize)]
pub(crate) struct ProjectsResponse {
    projects: Vec<Name>,
}

/// The names of those that the caller may see, sorted.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Json<ProjectsResponse> {
    let mut projects = app.parts.projects.names();
    projects.retain(|project| caller.may(Verb::ReadRuns, Place::project(project)));
    projects.sort();
    Json(ProjectsResponse { projects })
}
