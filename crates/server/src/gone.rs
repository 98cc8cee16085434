//! What of a run is no longer kept, and how that is said.

use pipekeeper_controller::tell_gone;
use pipekeeper_model::{AttemptId, RunId};
use serde::Serialize;

use crate::{
    app::App,
    error::{ApiError, Problem},
};

/// What of a run is gone, for people; none while it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Missing {
    /// When its logs went, and why.
    #[serde(rename = "logs_gone", skip_serializing_if = "Option::is_none")]
    pub(crate) logs: Option<String>,
    /// When its artifacts went, and why.
    #[serde(rename = "artifacts_gone", skip_serializing_if = "Option::is_none")]
    pub(crate) artifacts: Option<String>,
}

impl App {
    /// What of a run is gone.
    pub(crate) async fn missing(&self, run: RunId) -> Result<Missing, ApiError> {
        let Some(estate) = self.parts.estates.estate(run).await? else {
            return Ok(Missing::default());
        };
        Ok(Missing {
            logs: estate.logs_gone.as_ref().map(tell_gone),
            artifacts: estate.artifacts_gone.as_ref().map(tell_gone),
        })
    }

    /// Why an attempt's log is gone that is shown with a run: the attempt may be another run's, whose result it adopted.
    pub(crate) async fn log_gone(&self, run: RunId, attempt: AttemptId) -> Result<Option<String>, ApiError> {
        let missing = self.missing(attempt.run).await?;
        if missing.logs.is_some() || attempt.run == run {
            return Ok(missing.logs);
        }
        let is_known = self.parts.store.stamp(attempt.run).await?.is_some();
        Ok((!is_known).then(|| format!("removed with run {}", attempt.run)))
    }

    /// Refuses to give a file of a run once its artifacts are gone.
    pub(crate) async fn check_artifacts(&self, run: RunId, what: &str) -> Result<(), ApiError> {
        match self.missing(run).await?.artifacts {
            Some(how) => Err(gone(what, &how)),
            None => Ok(()),
        }
    }
}

/// Says that something is no longer kept.
pub(crate) fn gone(what: &str, how: &str) -> ApiError {
    ApiError::new(Problem::Gone, format!("{what} was {how}"))
}
