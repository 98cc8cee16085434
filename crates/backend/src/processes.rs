//! Questions about what runs in an attempt, and their answers. Entry type: [`Lookers`].

use std::time::Duration;

use tokio::{sync::oneshot, time::timeout};

use crate::LaunchError;

/// How long a supervisor may take to look.
const PATIENCE: Duration = Duration::from_secs(5);

/// Those who asked what runs, and were not told yet.
#[derive(Debug, Default)]
pub(crate) struct Lookers(Vec<oneshot::Sender<String>>);

impl Lookers {
    pub(crate) fn add(&mut self, teller: oneshot::Sender<String>) {
        self.0.retain(|known| !known.is_closed());
        self.0.push(teller);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(oneshot::Sender::is_closed)
    }

    pub(crate) fn tell(&mut self, text: &str) {
        for teller in self.0.drain(..) {
            // Some do not wait so long.
            let _ = teller.send(text.to_owned());
        }
    }
}

/// Waits for the answer.
pub(crate) async fn await_told(told: oneshot::Receiver<String>) -> Result<String, LaunchError> {
    match timeout(PATIENCE, told).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(_)) => Err(LaunchError::Transient {
            reason: "nothing of it runs now".to_owned(),
        }),
        Err(_) => Err(LaunchError::Transient {
            reason: "its supervisor does not answer".to_owned(),
        }),
    }
}
