//! What the cluster says of a pod.

use std::{io, sync::Arc, time::Duration};

use pipekeeper_agent::protocol::ToAgent;
use tokio::time::Instant;

use super::{Job, LOOK_EVERY, Lane, Services};
use crate::{
    What,
    pod::{
        Cause, OpenError, PodState, Why,
        link::{Link, Tries},
        mirror::Ticketed,
    },
};

/// How many tries to reach a supervisor that runs are nobody's business.
const QUIET_TRIES: usize = 3;
/// The pause before a pod is removed again.
const REMOVE_AGAIN: Duration = Duration::from_secs(10);

impl Lane {
    /// A supervisor that ran and cannot be reached any more is asked after, or people are told what is in the way.
    pub(super) fn explain_try(&mut self, tries: Tries, error: OpenError) {
        match error {
            OpenError::NotRunning if tries.knows_it_runs() => self.look(),
            OpenError::NotRunning => {}
            OpenError::Unreachable(reason) if tries.count() == QUIET_TRIES => {
                let reason = format!("its supervisor cannot be reached: {reason}");
                self.report(What::Waiting { reason });
            }
            OpenError::Unreachable(reason) => {
                tracing::debug!(attempt.id = %self.attempt, "no stream yet: {reason}");
            }
        }
    }

    /// Asks the cluster about the pod, beside everything else.
    pub(super) fn look(&mut self) {
        self.look_due = Some(Instant::now() + LOOK_EVERY);
        let (host, attempt) = (Arc::clone(&self.shared.host), self.attempt);
        self.jobs
            .spawn(async move { Job::Looked(host.look(attempt).await) });
    }

    /// Takes news of the pod.
    pub(super) async fn note(&mut self, state: PodState) -> io::Result<()> {
        // What was forgotten, or never launched here, has no end to tell.
        if self.order()?.is_none() {
            return Ok(());
        }
        match state {
            PodState::Waiting(why) => self.note_why(why),
            PodState::Running(why) => {
                if why.is_none() {
                    self.services = Services::Ready;
                }
                self.note_why(why);
                self.check_in();
                self.reach_running()?;
            }
            // A kubelet may find out much later; until then steps would go on that count as gone.
            PodState::Going => {
                self.is_going = true;
                if self.record.is_none() {
                    self.tell(&ToAgent::PodEnds).await;
                }
                self.reach_running()?;
            }
            PodState::Ended { reason } => return self.pod_ended(reason).await,
            PodState::Absent => return self.pod_ended("its pod was deleted".to_owned()).await,
        }
        Ok(())
    }

    /// Opens the stream to a supervisor that runs, unless there is one.
    fn reach_running(&mut self) -> io::Result<()> {
        self.link.wake();
        self.link = match std::mem::replace(&mut self.link, Link::Down) {
            Link::Awaited(tries) => Link::Awaited(tries.now_runs()),
            Link::Down if self.record.is_none() && !self.is_over()? => Link::Awaited(Tries::at_once()),
            other @ (Link::Down | Link::Opening(_) | Link::Up(_) | Link::Parked(_)) => other,
        };
        self.look_due.get_or_insert_with(|| Instant::now() + LOOK_EVERY);
        Ok(())
    }

    /// What keeps the pod from going on matters until the attempt has its ticket; from then on its steps tell.
    pub(super) fn note_why(&mut self, why: Option<Why>) {
        let is_past = matches!(self.mirror.ticketed(), Ok(Ticketed::Pod(_)));
        match why.filter(|_| !is_past) {
            None => self.why = None,
            Some(why) => {
                let known = self
                    .why
                    .take()
                    .filter(|(known, _)| known.cause.is_same(why.cause));
                let (known, since) =
                    known.map_or((None, Instant::now()), |(known, since)| (Some(known), since));
                let why = match known {
                    Some(known) if why.cause == Cause::ImagePause || known.text == why.text => known,
                    Some(_) | None => {
                        let reason = why.text.clone();
                        self.report(What::Waiting { reason });
                        why
                    }
                };
                self.why = Some((why, since));
            }
        }
    }

    /// Whether there is a pod of which its supervisor does not tell all that matters: as long as no step runs, what
    /// keeps the other containers from starting.
    pub(super) fn wants_looks(&self) -> bool {
        match self.link {
            Link::Down | Link::Parked(_) => false,
            Link::Awaited(_) | Link::Opening(_) => true,
            Link::Up(_) => self.seen.step.is_none() && self.record.is_none(),
        }
    }

    /// A supervisor that does not stop is removed with its pod. Only once that is gone has it ended.
    pub(super) fn remove_stopped(&mut self, now: Instant) {
        self.removal_due = Some(now + REMOVE_AGAIN);
        self.is_removed = true;
        let (host, attempt) = (Arc::clone(&self.shared.host), self.attempt);
        self.jobs.spawn(async move {
            if let Err(error) = host.remove(attempt).await {
                tracing::info!(attempt.id = %attempt, "its pod cannot be removed yet: {error}");
            }
            Job::Looked(host.look(attempt).await)
        });
    }
}
