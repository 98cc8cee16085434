//! `GET /api/v1/projects`: the projects there are.

use std::sync::Arc;

use axum::{Json, extract::State};
use pipekeeper_model::Name;
use serde::Serialize;

use crate::app::App;

#[derive(Serialize)]
pub(crate) struct ProjectsResponse {
    projects: Vec<Name>,
}

/// Their names, sorted.
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<ProjectsResponse> {
    let mut projects = app.parts.projects.names();
    projects.sort();
    Json(ProjectsResponse { projects })
}
