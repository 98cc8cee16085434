//! Whom a pod stays for once its attempt ended, and how it goes.

use std::sync::Arc;

use pipekeeper_agent::protocol::RecordOutcome;
use tokio::time::Instant;

use super::{Job, Lane};
use crate::pod::{link::Link, pool::send_away};

/// Whom the pod of an attempt that ended may stay for.
pub(super) enum Stay {
    Nobody,
    /// An attempt that wants the like.
    Another {
        likeness: String,
        made_at: Instant,
    },
    /// People who look into this container, whose step failed.
    Person {
        container: usize,
    },
}

impl Lane {
    /// Whom the pod may stay for, after this outcome.
    pub(super) fn stay(&self, outcome: &RecordOutcome) -> Stay {
        let Some(order) = self
            .order
            .as_ref()
            .filter(|_| self.stopping.is_none() && !self.is_going)
        else {
            return Stay::Nobody;
        };
        let failed = match outcome {
            RecordOutcome::Succeeded => {
                let wanted = order.likeness.clone().zip(self.made_at);
                return wanted.map_or(Stay::Nobody, |(likeness, made_at)| Stay::Another {
                    likeness,
                    made_at,
                });
            }
            RecordOutcome::Failed { step, .. } => Some(*step),
            RecordOutcome::TimedOut { step } => *step,
            RecordOutcome::Cancelled | RecordOutcome::Errored { .. } | RecordOutcome::Refused => None,
        };
        let step = failed.and_then(|failed| order.spec.steps.get(failed));
        let may_be_held = order.spec.pod.as_ref().is_some_and(|pod| pod.holds);
        step.filter(|_| may_be_held)
            .map_or(Stay::Nobody, |step| Stay::Person {
                container: step.container,
            })
    }

    /// Keeps the pod for those whom it may stay for; or sends the supervisor away and removes the pod, beside everything
    /// else; a sweep repeats it.
    pub(super) fn let_go(&mut self, stay: Stay) {
        let link = std::mem::replace(&mut self.link, Link::Down);
        self.why = None;
        self.end_due = None;
        self.removal_due = None;
        self.look_due = None;
        // Services go with the pod alone.
        let has_services = self.order.as_ref().is_none_or(|order| !order.services.is_empty());
        let link = match (link, stay) {
            (Link::Up(wire), Stay::Another { likeness, made_at }) => {
                match self.shared.keep_pod(self.attempt, likeness, wire, made_at) {
                    Ok(()) => return,
                    Err(wire) => Link::Up(*wire),
                }
            }
            (Link::Up(wire), Stay::Person { container }) => {
                let home = self.order.as_ref().and_then(|order| order.home.clone());
                match self.shared.hold_pod(self.attempt, (container, home), wire) {
                    Ok(()) => return,
                    Err(wire) => Link::Up(*wire),
                }
            }
            (
                link @ (Link::Up(_) | Link::Down | Link::Awaited(_) | Link::Opening(_) | Link::Parked(_)),
                _,
            ) => link,
        };
        let (host, attempt) = (Arc::clone(&self.shared.host), self.attempt);
        self.jobs.spawn(async move {
            if let Link::Up(wire) = link
                && send_away(wire).await
                && !has_services
            {
                host.has_left(attempt);
            }
            if let Err(error) = host.remove(attempt).await {
                tracing::info!(attempt.id = %attempt, "its pod is removed later: {error}");
            }
            Job::Removed
        });
    }
}
