//! The engine's API: one client, and what its errors mean. Entry type: [`Engine`].

use std::time::Duration;

use bollard::{Docker, errors::Error};
use tokio::sync::OnceCell;

use crate::LaunchError;

/// How long a call may take to be answered.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// An engine, connected to when it is first needed.
pub(super) struct Engine {
    socket: String,
    client: OnceCell<Docker>,
}

impl Engine {
    pub(super) fn new(socket: String) -> Self {
        Self {
            socket,
            client: OnceCell::new(),
        }
    }

    /// The client, which speaks the version that the engine does.
    pub(super) async fn client(&self) -> Result<&Docker, Error> {
        self.client
            .get_or_try_init(|| async {
                Docker::connect_with_host(&self.socket)?
                    .with_timeout(CALL_LIMIT)
                    .negotiate_version()
                    .await
            })
            .await
    }

    /// Judges an error of any call but one that creates.
    pub(super) fn explain(&self, error: &Error) -> LaunchError {
        let reason = match (status(error), error) {
            (Some(status), _) => format!("the container engine answers {status}: {}", told(error)),
            (None, Error::JsonDataError { .. }) => {
                format!(
                    "the container engine answers what cannot be understood: {}",
                    told(error)
                )
            }
            (None, _) => format!(
                "the container engine at `{}` cannot be reached: {}; check that it runs and that we may use its socket",
                self.socket,
                told(error)
            ),
        };
        LaunchError::Transient { reason }
    }

    /// Judges an error of a call that creates.
    pub(super) fn refused(&self, error: &Error) -> LaunchError {
        match status(error) {
            Some(400 | 403 | 405 | 413 | 422) => LaunchError::Terminal {
                reason: format!("the container engine refuses the container: {}", told(error)),
            },
            Some(_) | None => self.explain(error),
        }
    }
}

/// The status that the engine answered with, if it did.
pub(super) fn status(error: &Error) -> Option<u16> {
    if let Error::DockerResponseServerError { status_code, .. } = error {
        Some(*status_code)
    } else {
        None
    }
}

/// Whether it is not there.
pub(super) fn is_not_found(error: &Error) -> bool {
    status(error) == Some(404)
}

/// Whether there is something of that name already; Podman has no code for it.
pub(super) fn is_conflict(error: &Error) -> bool {
    status(error) == Some(409) || (status(error).is_some() && told(error).contains("is already in use"))
}

/// What the engine said, or what kept it from answering.
pub(super) fn told(error: &Error) -> String {
    if let Error::DockerResponseServerError { message: said, .. } | Error::DockerStreamError { error: said } =
        error
    {
        return said.trim().to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
