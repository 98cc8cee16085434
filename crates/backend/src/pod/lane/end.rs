//! How an attempt ends: with its record, without one, or without ever having started.

use std::{io, sync::Arc, time::Duration};

use pipekeeper_agent::protocol::{ExitRecord, RecordOutcome, ToAgent};
use pipekeeper_model::Holder;
use tokio::time::{Instant, sleep, timeout};

use super::{Job, LAST_WORDS, Lane, hear::unreachable};
use crate::{
    What,
    pod::{
        PodState, StreamRole, files,
        link::Link,
        mirror::{Log, Ticketed},
    },
    record::collect,
};

/// The pause before files are fetched again.
const FETCH_AGAIN: Duration = Duration::from_secs(1);
/// How long a supervisor may take to leave.
const FAREWELL: Duration = Duration::from_secs(2);

impl Lane {
    /// Whether nothing more will be learned of it.
    pub(super) fn is_over(&self) -> io::Result<bool> {
        Ok(self.mirror.record()?.is_some() || self.mirror.gone()?.is_some())
    }

    /// Its supervisor told how it ended; the log came before. What it made is fetched before anybody hears of it.
    pub(super) async fn told_end(&mut self, record: Box<ExitRecord>) -> io::Result<()> {
        let spec = self.spec()?;
        if (&record.attempt, &record.nonce) != (&spec.attempt, &spec.nonce) {
            return Err(io::Error::other("the record is another attempt's"));
        }
        if self.record.is_some() || self.is_over()? {
            return Ok(());
        }
        let holder = Ticketed::Pod(Holder(record.holder.clone()));
        if record.started_ms.is_some() && self.mirror.ticketed()? != holder {
            return Err(io::Error::other("the record is of a pod without the ticket"));
        }
        if record.outcome == RecordOutcome::Refused {
            return self.end("it was refused its ticket".to_owned()).await;
        }
        self.end_due = None;
        self.removal_due = None;
        self.record = Some(record);
        self.fetch(Duration::ZERO)
    }

    /// Fetches what the record names.
    fn fetch(&mut self, pause: Duration) -> io::Result<()> {
        let (Some(record), Some(order)) = (self.record.clone(), self.order()?) else {
            return Ok(());
        };
        let (host, attempt, mirror) = (Arc::clone(&self.shared.host), self.attempt, self.mirror.clone());
        self.jobs.spawn(async move {
            if !files::names_any(&mirror, &order, &record) {
                return Job::Got(Ok(()));
            }
            sleep(pause).await;
            let got = async {
                let stream = host.open(attempt, StreamRole::Get).await.map_err(unreachable)?;
                files::get(stream, &mirror, &order, &record).await
            };
            Job::Got(got.await)
        });
        Ok(())
    }

    pub(super) async fn was_fetched(&mut self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            let reason = format!("what it made cannot be fetched: {error}");
            let state = self.shared.host.look(self.attempt).await;
            if !matches!(state, Ok(PodState::Absent | PodState::Ended { .. })) {
                self.report(What::Waiting { reason });
                return self.fetch(FETCH_AGAIN);
            }
            if let Some(record) = self.record.as_mut() {
                record.outcome = RecordOutcome::Errored { reason };
                record.artifacts.clear();
                record.caches.clear();
            }
        }
        let Some(record) = self.record.take() else {
            return Ok(());
        };
        let (mirror, written) = (self.mirror.clone(), record.clone());
        tokio::task::spawn_blocking(move || mirror.write_record(&written))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.finish(*record).await;
        self.let_go();
        Ok(())
    }

    /// Tells the record.
    pub(super) async fn finish(&mut self, record: ExitRecord) {
        let holder = Holder(record.holder.clone());
        let (artifacts, attempt, dir) = (
            self.shared.options.artifacts.clone(),
            self.attempt,
            self.mirror.dir().clone(),
        );
        let collected = tokio::task::spawn_blocking(move || collect(&artifacts, attempt, &dir, record));
        match collected.await {
            Ok(record) => self.report(What::Finished {
                holder,
                record: Box::new(record),
            }),
            Err(error) => tracing::error!(attempt.id = %self.attempt, "collecting an attempt broke: {error}"),
        }
    }

    /// Its pod ended. A stream that is there, or a record that is being handled, goes first.
    pub(super) async fn pod_ended(&mut self, reason: String) -> io::Result<()> {
        if self.record.is_some() || self.is_over()? {
            return Ok(());
        }
        match self.link {
            Link::Up(_) => {
                self.end_due.get_or_insert((Instant::now() + LAST_WORDS, reason));
                Ok(())
            }
            Link::Down | Link::Awaited(_) | Link::Opening(_) => self.end(reason).await,
        }
    }

    /// No record will come.
    pub(super) async fn end(&mut self, reason: String) -> io::Result<()> {
        if self.is_over()? {
            return Ok(());
        }
        if let Ticketed::Pod(_) = self.mirror.ticketed()? {
            self.recover_log().await;
        }
        self.mirror.ticket(&Ticketed::Void)?;
        self.mirror.set_gone(&reason)?;
        self.report(What::Gone { reason });
        self.let_go();
        Ok(())
    }

    /// Something keeps its pod from starting for longer than it may.
    pub(super) async fn give_up(&mut self, reason: String) -> io::Result<()> {
        if self.is_over()? {
            return Ok(());
        }
        if let Ticketed::Pod(_) = self.mirror.ticket(&Ticketed::Void)? {
            return self.end(reason).await;
        }
        self.mirror.set_gone(&reason)?;
        self.report(What::Hopeless { reason });
        self.let_go();
        Ok(())
    }

    /// Sends the supervisor away and removes the pod, beside everything else; a sweep repeats it.
    fn let_go(&mut self) {
        let link = std::mem::replace(&mut self.link, Link::Down);
        self.why = None;
        self.end_due = None;
        self.removal_due = None;
        let (host, attempt) = (Arc::clone(&self.shared.host), self.attempt);
        self.jobs.spawn(async move {
            if let Link::Up(mut wire) = link {
                // A cluster takes its time to end containers that do not end themselves.
                let leaving = async {
                    if wire.send(&ToAgent::Leave).await.is_ok() {
                        while wire.next().await.is_some() {}
                    }
                };
                let _ = timeout(FAREWELL, leaving).await;
            }
            if let Err(error) = host.remove(attempt).await {
                tracing::info!(attempt.id = %attempt, "its pod is removed later: {error}");
            }
            Job::Removed
        });
    }

    /// Takes from the cluster what of the log never came, and says so in it.
    async fn recover_log(&mut self) {
        let Ok(recovered) = self.shared.host.recover_log(self.attempt).await else {
            return;
        };
        let Ok(Some(order)) = self.order() else { return };
        let Ok(log) = Log::open(&order.log) else { return };
        let have = usize::try_from(log.bytes()).unwrap_or(usize::MAX);
        let Some(rest) = recovered.get(have..).filter(|rest| !rest.is_empty()) else {
            return;
        };
        let mut log = log;
        let marker = b"pipekeeper: what follows was recovered from the cluster; its end may be missing\n";
        let text = [marker.as_slice(), rest].concat();
        let written = log.write(log.bytes(), &text);
        match written {
            Ok(()) => self.report(What::LogGrew { bytes: log.bytes() }),
            Err(error) => tracing::warn!(attempt.id = %self.attempt, "cannot keep a recovered log: {error}"),
        }
        self.log = Some(log);
    }
}
