//! Looks after pods that are held for people once a step of their attempt has failed, and lets people in.
//!
//! The attempt has ended for everybody: its record, its log and its files are here. Its supervisor stays, with everything
//! as the step left it, as long as a stream is open to it. Should this process die, the pod ends itself, and the next
//! sweep removes it. Entry functions: [`Shared::hold_pod`] and [`enter`].

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, ready};
use pipekeeper_agent::protocol::{FromAgent, Incoming, ToAgent};
use pipekeeper_model::{AttemptId, Timestamp};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    OpenError, PodState, StreamRole,
    backend::Shared,
    debug::{left, terminal},
    pool::send_away,
    wire::{Need, Wire},
};
use crate::{EnterOrder, Entered, LaunchError, Observation, Terminal, Told, What, debug::Keep};

/// How long a supervisor may take to make ready.
const READY: Duration = Duration::from_secs(6);
/// For how long a stream that broke is opened anew; a supervisor waits for a minute.
const REOPENING: Duration = Duration::from_secs(50);
/// The pause before a supervisor is reached for again, and before a pod is looked at again.
const AGAIN: Duration = Duration::from_secs(2);
/// What a session that had its time may still say.
const LAST_WORDS: Duration = Duration::from_secs(60);
/// How long a pod that was removed may take to go.
const GONE: Duration = Duration::from_secs(60);

/// Somebody who looks into a held pod.
struct Visit {
    shared: Arc<Shared>,
    attempt: AttemptId,
}

impl Keep for Visit {
    fn remove(self: Box<Self>) -> BoxFuture<'static, ()> {
        drop(self);
        Box::pin(ready(()))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.held.leave(self.attempt);
    }
}

/// Opens a shell in a pod that is held.
pub(super) async fn enter(shared: &Arc<Shared>, order: EnterOrder) -> Result<Entered, LaunchError> {
    if shared.options.hold.is_none() {
        return Ok(Entered::NeverHeld);
    }
    let attempt = order.attempt;
    let Some(entrance) = shared
        .held
        .enter(attempt, Instant::now() + order.limit.to_duration() + LAST_WORDS)?
    else {
        return Ok(Entered::NotHeld);
    };
    let visit = Visit {
        shared: Arc::clone(shared),
        attempt,
    };
    match shared.host.look(attempt).await? {
        PodState::Waiting(_) | PodState::Running(_) => {}
        PodState::Absent | PodState::Going | PodState::Ended { .. } => return Ok(Entered::NotHeld),
    }
    let until = entrance.until.time_of_day();
    let note =
        format!("this is the pod of the attempt itself, as the step left it; it is held until {until}");
    order.told.send(Told::Note(note)).await.map_err(|_| left())?;
    let opened = tokio::select! {
        opened = terminal(shared, attempt, entrance.container, (order.size, &order.term)) => opened?,
        () = order.told.closed() => return Err(left()),
    };
    let (stream, sizes) = opened;
    Ok(Entered::Open(Terminal {
        stream,
        sizes,
        afterwards: format!(
            "its pod is held until {until}; `pipe debug --release` with the same name lets it go before"
        ),
        keep: Box::new(visit),
    }))
}

impl Shared {
    /// Holds the pod of an attempt whose step failed in this container of a pod in this namespace; or gives it back.
    pub(super) fn hold_pod(
        self: &Arc<Self>,
        attempt: AttemptId,
        place: (usize, Option<String>),
        wire: Wire,
    ) -> Result<(), Box<Wire>> {
        let admitted =
            (self.options.hold).and_then(|options| self.held.admit(attempt, place, options, Instant::now()));
        let Some(changed) = admitted else {
            return Err(Box::new(wire));
        };
        let shared = Arc::clone(self);
        self.spawn(async move {
            let wire = shared.look_after(attempt, wire, &changed).await;
            shared.dismiss(attempt, wire).await;
        });
        Ok(())
    }

    /// Looks after a held pod until it is to be removed; its stream then, if that is still there.
    async fn look_after(&self, attempt: AttemptId, mut wire: Wire, changed: &Notify) -> Option<Wire> {
        if !timeout(READY, make_ready(&mut wire)).await.unwrap_or(false) {
            tracing::info!(attempt.id = %attempt, "its pod cannot be held");
            return Some(wire);
        }
        let until = self.held.is_ready(attempt);
        if let Some(until) = until {
            tracing::info!(attempt.id = %attempt, "its pod is held until {}", until.time_of_day());
        }
        self.tell_held(attempt, until);
        while let Some(due) = self.held.due(attempt, Instant::now()) {
            let beat = wire.due();
            let is_there = tokio::select! {
                () = changed.notified() => true,
                () = sleep_until(due) => true,
                said = wire.next() => said.is_some(),
                () = sleep_until(beat) => match wire.need() {
                    Need::Nothing => true,
                    Need::Ping => wire.send(&ToAgent::Ping).await.is_ok(),
                    Need::End => false,
                },
            };
            if !is_there {
                // Its place may be all that there is.
                drop(wire);
                wire = self.open_again(attempt, changed).await?;
            }
        }
        Some(wire)
    }

    /// Another stream to a supervisor; none if it does not run any more, cannot be reached in time, or is to go.
    async fn open_again(&self, attempt: AttemptId, changed: &Notify) -> Option<Wire> {
        let opening = async {
            loop {
                // Also before the first try: some streams break as soon as they are open.
                sleep(AGAIN).await;
                let place = self.streams.place().await?;
                match self.host.open(attempt, StreamRole::Control).await {
                    Ok(stream) => return Some(Wire::new((stream, place))),
                    Err(OpenError::NotRunning) => return None,
                    Err(OpenError::Unreachable(reason)) => {
                        tracing::debug!(attempt.id = %attempt, "its held pod cannot be reached: {reason}");
                    }
                }
            }
        };
        tokio::select! {
            opened = timeout(REOPENING, opening) => opened.ok().flatten(),
            () = self.is_to_go(attempt, changed) => None,
        }
    }

    async fn is_to_go(&self, attempt: AttemptId, changed: &Notify) {
        while let Some(due) = self.held.due(attempt, Instant::now()) {
            tokio::select! {
                () = changed.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Removes a pod that was held.
    async fn dismiss(&self, attempt: AttemptId, wire: Option<Wire>) {
        if let Some(wire) = wire {
            send_away(wire).await;
        }
        if let Err(error) = self.host.remove(attempt).await {
            tracing::info!(attempt.id = %attempt, "its pod is removed later: {error}");
        }
        // Whoever waits for its room finds it only then.
        let _ = timeout(GONE, self.is_away(attempt)).await;
        self.held.is_gone(attempt);
        tracing::info!(attempt.id = %attempt, "its pod is held no more");
        self.tell_held(attempt, None);
    }

    async fn is_away(&self, attempt: AttemptId) {
        while !matches!(
            self.host.look(attempt).await,
            Ok(PodState::Absent | PodState::Ended { .. })
        ) {
            sleep(AGAIN).await;
        }
    }

    fn tell_held(&self, attempt: AttemptId, until: Option<Timestamp>) {
        // Nobody listens any more when the controller is gone, and the pod is not held by its successor.
        let _ = self.options.on_observation.send(Observation {
            attempt,
            what: What::Held { until },
        });
    }
}

/// Has the supervisor stay as it is; whether it does.
async fn make_ready(wire: &mut Wire) -> bool {
    if wire.send(&ToAgent::Hold).await.is_err() {
        return false;
    }
    while let Some(incoming) = wire.next().await {
        if matches!(incoming, Incoming::Message(FromAgent::Held)) {
            return true;
        }
    }
    false
}
