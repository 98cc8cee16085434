//! How an attempt ends: with its record, without one, or without ever having started.

use std::{io, sync::Arc, time::Duration};

use pipekeeper_agent::protocol::{CONTAINER_ENDED, ExitRecord, RecordOutcome};
use pipekeeper_model::{AttemptId, Holder};
use tokio::time::{Instant, sleep, timeout};

use super::{Got, Job, LAST_WORDS, Lane, hear::most_of_log, leave::Stay, recover::note_of};
use crate::{
    What,
    pod::{PodHost, PodState, StreamRole, files, link::Link, mirror::Ticketed, objects, order::Order},
    record::collect,
};

/// How often files are fetched in vain from a pod that can be reached.
const VAIN_FETCHES: u32 = 12;
/// The pause before files are fetched again, doubled each time that a pod gave nothing.
const FETCH_AGAIN: Duration = Duration::from_secs(1);
/// The pause before the cluster is asked again how a container ended, and how long it may take to know.
const END_AGAIN: Duration = Duration::from_millis(300);
const END_PATIENCE: Duration = Duration::from_secs(15);

impl Lane {
    /// Whether nothing more will be learned of it.
    pub(super) fn is_over(&self) -> io::Result<bool> {
        Ok(self.mirror.record()?.is_some() || self.mirror.end()?.is_some())
    }

    /// Its supervisor told how it ended; the log came before. What it made is fetched before anybody hears of it.
    pub(super) async fn told_end(&mut self, mut record: Box<ExitRecord>) -> io::Result<()> {
        let spec = self.spec()?;
        if (&record.attempt, &record.nonce) != (&spec.attempt, &spec.nonce) {
            return Err(io::Error::other("the record is another attempt's"));
        }
        if self.record.is_some() || self.is_over()? {
            return Ok(());
        }
        record.log_bytes = record.log_bytes.min(most_of_log(&spec));
        if record.started_ms.is_some() && self.log()?.bytes() < record.log_bytes {
            // Whoever just came is told at once. It is told again behind the last byte of the log.
            return Ok(());
        }
        let holder = Ticketed::Pod(Holder(record.holder.clone()));
        if record.started_ms.is_some() && self.mirror.ticketed()? != holder {
            return Err(io::Error::other("the record is of a pod without the ticket"));
        }
        if record.outcome == RecordOutcome::Refused {
            return self.end("it was refused its ticket".to_owned()).await;
        }
        if let Err(reason) = files::check(&spec, &record) {
            forgo(&mut record, reason);
        }
        self.end_due = None;
        self.removal_due = None;
        self.record = Some(record);
        self.fetch(Duration::ZERO)
    }

    /// Fetches what the record names.
    fn fetch(&mut self, pause: Duration) -> io::Result<()> {
        let (Some(mut record), Some(order)) = (self.record.clone(), self.order()?) else {
            return Ok(());
        };
        let (shared, attempt, mirror) = (Arc::clone(&self.shared), self.attempt, self.mirror.clone());
        self.jobs.spawn(async move {
            sleep(pause).await;
            let end = end_of_container(&*shared.host, attempt, &order, &record).await;
            let notes = match &shared.options.objects {
                Some(store) => objects::settle(store, attempt, &order, &mut record).await,
                None => Vec::new(),
            };
            if !files::names_any(&mirror, &order, &record) {
                let result = Ok(());
                return Job::Got(Got { result, end, notes });
            }
            let got = async {
                let (_permit, stream) = shared.open_bulk(attempt, StreamRole::Get).await?;
                files::get(stream, &mirror, &order, &record).await?;
                objects::drop_replaced(attempt, &order, &record);
                Ok(())
            };
            let result = got.await;
            Job::Got(Got { result, end, notes })
        });
        Ok(())
    }

    /// Fetches once more what a record names, if there is one.
    pub(super) fn fetch_again(&mut self) -> io::Result<()> {
        self.fetch(FETCH_AGAIN)
    }

    pub(super) async fn was_fetched(&mut self, got: Got) -> io::Result<()> {
        let Got { result, end, notes } = got;
        if let Err(error) = &result {
            let reason = format!("what it made cannot be fetched: {error}");
            // A pod that cannot be reached may be so later; one that gives nothing away does so for ever.
            if error.kind() != io::ErrorKind::NotConnected {
                self.vain_fetches += 1;
            }
            let state = self.shared.host.look(self.attempt).await;
            let is_there = !matches!(state, Ok(PodState::Absent | PodState::Ended { .. }));
            let may_come = error.kind() != io::ErrorKind::FileTooLarge;
            if is_there && may_come && self.vain_fetches < VAIN_FETCHES {
                self.report(What::Waiting { reason });
                return self.fetch(FETCH_AGAIN * 2_u32.pow(self.vain_fetches.min(5)));
            }
            if let Some(record) = self.record.as_mut() {
                forgo(record, reason);
            }
        }
        let Some(mut record) = self.record.take() else {
            return Ok(());
        };
        if let (RecordOutcome::Failed { reason, .. }, Some(end)) = (&mut record.outcome, end) {
            *reason = Some(end);
        }
        let (mirror, written) = (self.mirror.clone(), record.clone());
        let kept = tokio::task::spawn_blocking(move || mirror.write_record(&written))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = kept {
            let reason = format!("the server cannot keep its record: {error}; free space on its disk");
            self.report(What::Waiting { reason });
            self.record = Some(record);
            return self.fetch(FETCH_AGAIN);
        }
        for note in notes {
            if let Err(error) = self.add_to_log(&note_of(&note, &[])) {
                tracing::warn!(attempt.id = %self.attempt, "cannot keep a note: {error}: {note}");
            }
        }
        let stay = self.stay(&record.outcome);
        if let Stay::Person { .. } = stay {
            // It is held once the attempt has ended for everybody.
            self.finish(*record).await;
            self.let_go(stay);
        } else {
            // The record is here: the pod is free before anybody hears of it, and may serve who waits for that.
            self.let_go(stay);
            self.finish(*record).await;
        }
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
        let reason = if self.is_removed {
            "it was stopped, and its supervisor did not answer".to_owned()
        } else {
            reason
        };
        match self.link {
            Link::Up(_) => {
                self.end_due.get_or_insert((Instant::now() + LAST_WORDS, reason));
                Ok(())
            }
            Link::Down | Link::Awaited(_) | Link::Opening(_) | Link::Parked(_) => self.end(reason).await,
        }
    }

    /// No record will come.
    pub(super) async fn end(&mut self, reason: String) -> io::Result<()> {
        if self.is_over()? {
            return Ok(());
        }
        if let Ticketed::Pod(_) = self.mirror.ticketed()? {
            self.recover_log(&reason).await;
        }
        self.mirror.ticket(&Ticketed::Void)?;
        let end = What::Gone { reason };
        self.mirror.set_end(&end)?;
        self.report(end);
        self.let_go(Stay::Nobody);
        Ok(())
    }

    /// Something keeps its pod from starting for longer than it may.
    pub(super) async fn give_up(&mut self, reason: String) -> io::Result<()> {
        if self.is_over()? {
            return Ok(());
        }
        if let Ticketed::Pod(_) = self.mirror.ticketed()? {
            // It started after all, with the ticket of another server.
            self.look();
            return Ok(());
        }
        if let Ticketed::Pod(_) = self.mirror.ticket(&Ticketed::Void)? {
            return self.end(reason).await;
        }
        self.quote_services().await;
        let end = What::Hopeless { reason };
        self.mirror.set_end(&end)?;
        self.report(end);
        self.let_go(Stay::Nobody);
        Ok(())
    }
}

/// Ends without what it made.
fn forgo(record: &mut ExitRecord, reason: String) {
    record.outcome = RecordOutcome::Errored { reason };
    record.artifacts.clear();
    record.caches.clear();
    record.large_outputs.clear();
    record.reports.clear();
}

/// What the cluster knows of the end of the container whose end is all that the supervisor knows.
async fn end_of_container(
    host: &dyn PodHost,
    attempt: AttemptId,
    order: &Order,
    record: &ExitRecord,
) -> Option<String> {
    let RecordOutcome::Failed {
        step,
        reason: Some(reason),
        ..
    } = &record.outcome
    else {
        return None;
    };
    if reason != CONTAINER_ENDED {
        return None;
    }
    let container = order.spec.steps.get(*step)?.container;
    let told = async {
        loop {
            match host.container_end(attempt, container).await {
                Ok(Some(text)) => return text,
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(attempt.id = %attempt, "the end of a container is not known yet: {error}");
                }
            }
            sleep(END_AGAIN).await;
        }
    };
    timeout(END_PATIENCE, told).await.ok()
}
