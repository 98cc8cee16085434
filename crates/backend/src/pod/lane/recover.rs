//! What the cluster kept of a log, and the last words of services.

use std::io;

use pipekeeper_agent::protocol::CONTAINER_MARK;
use pipekeeper_model::AttemptId;

use super::Lane;
use crate::{
    LaunchError, What,
    pod::{
        LogOf,
        mirror::{Log, Missing},
    },
};

impl Lane {
    /// Adds the last words of its services to the log: they may be why nothing could start.
    pub(super) async fn quote_services(&mut self) {
        let services = self.order.as_ref().map(|order| order.services.clone());
        for service in services.unwrap_or_default() {
            match self
                .shared
                .host
                .container_log(self.attempt, LogOf::Service(&service))
                .await
            {
                Ok(words) if !words.is_empty() => {
                    let added = note_of(&format!("what the service `{service}` said last"), &words);
                    if let Err(error) = self.add_to_log(&added) {
                        tracing::warn!(attempt.id = %self.attempt, "cannot keep a service's words: {error}");
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(attempt.id = %self.attempt, "a service's words cannot be read: {error}");
                }
            }
        }
    }

    pub(super) fn add_to_log(&mut self, text: &[u8]) -> io::Result<()> {
        let log = self.log()?;
        log.append_line(text)?;
        let bytes = log.bytes();
        self.report(What::LogGrew { bytes });
        Ok(())
    }

    /// Takes from the cluster what of the log never came, and says so in it.
    pub(super) async fn recover_log(&mut self, reason: &str) {
        let recovered = self
            .shared
            .host
            .container_log(self.attempt, LogOf::Supervisor)
            .await;
        let recovered = recovered.map(|log| own_part(log, self.attempt));
        match self.keep_recovered(recovered, reason) {
            Ok(Some(bytes)) => self.report(What::LogGrew { bytes }),
            Ok(None) => {}
            Err(error) => tracing::warn!(attempt.id = %self.attempt, "cannot keep a recovered log: {error}"),
        }
    }

    /// The log's new size, if anything was added.
    fn keep_recovered(
        &mut self,
        recovered: Result<Vec<u8>, LaunchError>,
        reason: &str,
    ) -> io::Result<Option<u64>> {
        let Some(order) = self.order()? else {
            return Ok(None);
        };
        let mut log = Log::open(&order.log)?;
        let added = match recovered {
            Ok(recovered) => match log.missing(&recovered)? {
                Missing::Nothing => return Ok(None),
                Missing::Rest(rest) => note_of("what follows was recovered from the cluster", rest),
                Missing::AfterGap(rest) => note_of(
                    "output is missing here; what follows was recovered from the cluster",
                    rest,
                ),
            },
            Err(error) => {
                tracing::debug!(attempt.id = %self.attempt, "its log cannot be recovered: {error}");
                note_of(&format!("{reason}; what was put out last may be missing"), &[])
            }
        };
        log.append_line(&added)?;
        let bytes = log.bytes();
        self.log = Some(log);
        Ok(Some(bytes))
    }
}

/// What of a container's log is of this attempt, if its pod served others before.
fn own_part(mut log: Vec<u8>, attempt: AttemptId) -> Vec<u8> {
    let mark = format!("{CONTAINER_MARK}{attempt}\n");
    let at = log
        .windows(mark.len())
        .rposition(|window| window == mark.as_bytes());
    log.drain(..at.map_or(0, |at| at + mark.len()));
    log
}

pub(super) fn note_of(text: &str, rest: &[u8]) -> Vec<u8> {
    [format!("pipekeeper: {text}\n").as_bytes(), rest].concat()
}
