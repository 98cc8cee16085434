//! The loop's part about duty: of the servers that share a database one performs, and the others only decide.
//!
//! Deciding is loading a run, judging an input and storing what follows, which any server may do, since a commit compares.
//! Performing is everything that happens at one place only: effects, timers, deliveries, what backends tell. A server that
//! is told that it lost the lease ends; whoever started it starts it anew, with nothing in memory.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use pipekeeper_backend::LaunchError;
use pipekeeper_model::{Millis, RunId, Timestamp};
use pipekeeper_store::{Claim, Claimed, Epoch, Hint, Lease, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Controller, News,
    controller::{STORE_PAUSE, Timer},
    job::Done,
};

/// How a controller shares its store with others.
pub struct Sharing {
    /// The database's lease.
    pub lease: Arc<dyn Lease>,
    /// What the others store.
    pub hints: mpsc::Receiver<Hint>,
    /// What this server is called, for people.
    pub name: String,
    /// The lease's times.
    pub pace: Pace,
}

/// The times of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long it lasts that is not renewed: a server that dies is missed for this long and a claim more.
    pub length: Millis,
    /// How often the one who has it renews it.
    pub renew_every: Millis,
    /// How often the others ask for it.
    pub ask_every: Millis,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            length: Millis::seconds(8),
            renew_every: Millis::seconds(2),
            ask_every: Millis::seconds(1),
        }
    }
}

impl Sharing {
    fn claim(&self, held: Option<Epoch>) -> Claim {
        Claim {
            holder: self.name.clone(),
            held,
            length: self.pace.length,
        }
    }
}

/// What a controller does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It decides, and has effects performed: as the only one, or with the lease of this epoch.
    Performing(Option<Epoch>),
    /// It decides; another server, if its name is known, performs.
    Deciding {
        /// What that one is called.
        performer: Option<String>,
    },
}

/// Why a controller ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Drained,
    /// Another server performs now. What this one has in memory and under way is out of date.
    LeaseLost,
}

/// What a controller does now, for whoever wants to know; clones see the same.
#[derive(Clone, Debug)]
pub struct DutyBoard {
    duty: Arc<Mutex<Duty>>,
}

impl Default for DutyBoard {
    fn default() -> Self {
        Self {
            duty: Arc::new(Mutex::new(Duty::Deciding { performer: None })),
        }
    }
}

impl DutyBoard {
    /// What it does.
    pub fn duty(&self) -> Duty {
        self.duty.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, duty: Duty) {
        *self.duty.lock().unwrap_or_else(PoisonError::into_inner) = duty;
    }
}

/// The loop's memory of its duty.
pub(crate) struct DutyState {
    pub(crate) duty: Duty,
    /// The lease came with the last answer: what is stored is to be taken up.
    pub(crate) taking_over: Option<Epoch>,
    pub(crate) lost: bool,
    claiming: bool,
    pub(crate) catching_up: bool,
    pub(crate) catch_up_again: bool,
    /// Runs whose attempts are asked about once the effects that others stored with them are known.
    pub(crate) unobserved: BTreeSet<RunId>,
    /// The last stored effect that was looked at.
    pub(crate) seen_effect: Option<u64>,
    /// When the claim was made that last gave this server the lease.
    renewed_at: Timestamp,
}

/// What became of taking over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenOver {
    Done,
    /// Another server has the lease.
    Lost,
}

impl DutyState {
    pub(crate) fn new() -> Self {
        Self {
            duty: Duty::Deciding { performer: None },
            taking_over: None,
            lost: false,
            claiming: false,
            catching_up: false,
            catch_up_again: false,
            unobserved: BTreeSet::new(),
            seen_effect: None,
            renewed_at: Timestamp(0),
        }
    }
}

impl Controller {
    /// Whether it performs, beside deciding.
    pub(crate) fn performs(&self) -> bool {
        matches!(self.duty.duty, Duty::Performing(_))
    }

    /// Whether it may act outside of the store: as long as nobody else can have the lease, by its own clock.
    pub(crate) fn may_act(&self) -> bool {
        let sharing = self.ports.sharing.as_ref();
        sharing.is_none_or(|sharing| self.now() < self.duty.renewed_at + sharing.pace.length)
    }

    /// The epoch of the lease that it has.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        match self.duty.duty {
            Duty::Performing(epoch) => epoch,
            Duty::Deciding { .. } => None,
        }
    }

    pub(crate) fn set_duty(&mut self, duty: Duty) {
        self.tools.handle.duty.set(duty.clone());
        self.duty.duty = duty;
    }

    /// Performs with the store that refuses it once another server does.
    pub(crate) fn perform_as(&mut self, epoch: Epoch) {
        if let Some(sharing) = &self.ports.sharing {
            self.ports.store = sharing.lease.fenced(epoch);
            self.tools.store = Arc::clone(&self.ports.store);
        }
        self.set_duty(Duty::Performing(Some(epoch)));
    }

    /// Asks for the lease, or renews it.
    pub(crate) fn claim(&mut self) {
        let Some(sharing) = &self.ports.sharing else {
            return;
        };
        if self.draining || std::mem::replace(&mut self.duty.claiming, true) {
            return;
        }
        self.timers.retain(|(_, timer)| *timer != Timer::Lease);
        let (lease, held) = (Arc::clone(&sharing.lease), self.epoch());
        let claim = sharing.claim(held);
        let asked_at = self.now();
        self.start(Box::pin(async move {
            Done::Claimed {
                held,
                asked_at,
                result: lease.claim(claim).await,
            }
        }));
    }

    pub(crate) fn claimed(
        &mut self,
        (held, asked_at): (Option<Epoch>, Timestamp),
        result: Result<Claimed, StoreError>,
    ) {
        self.duty.claiming = false;
        if matches!(result, Ok(Claimed::Held(_))) {
            let could_act = self.may_act();
            self.duty.renewed_at = asked_at;
            if !could_act && held.is_some() {
                // It was cut off for so long that another server could have had the lease, and none had.
                let lanes = self.outbox.lanes();
                lanes.iter().for_each(|lane| self.perform(lane));
                self.sweep();
            }
        }
        let pace = self
            .ports
            .sharing
            .as_ref()
            .map(|sharing| sharing.pace)
            .unwrap_or_default();
        let pause = match (held, result) {
            (Some(held), Ok(Claimed::Held(epoch))) if held == epoch => pace.renew_every,
            (Some(_), Ok(Claimed::Held(_) | Claimed::Other { .. })) => {
                self.duty.lost = true;
                return;
            }
            (None, Ok(Claimed::Held(epoch))) => {
                self.duty.taking_over = Some(epoch);
                pace.renew_every
            }
            (None, Ok(Claimed::Other { holder })) => {
                let performer = Some(holder);
                self.set_duty(Duty::Deciding { performer });
                self.publish(News::Elsewhere);
                pace.ask_every
            }
            // It may still be this server's; until that is known again, nothing is done outside of the store.
            (Some(_) | None, Err(error)) => {
                tracing::warn!("cannot ask for the lease: {error}");
                STORE_PAUSE
            }
        };
        let at = self.now() + pause;
        self.arm(at, Timer::Lease);
    }

    /// Takes up what is stored; a store that does not answer is asked again.
    pub(crate) async fn take_over(&mut self) -> TakenOver {
        loop {
            match self.recover().await {
                Ok(()) => return TakenOver::Done,
                Err(StoreError::Fenced) => return TakenOver::Lost,
                Err(error) => tracing::warn!("cannot take up what is stored yet: {error}"),
            }
            let at = self.now() + STORE_PAUSE;
            self.ports.clock.sleep_until(at).await;
            if self.keep_lease().await.is_err() {
                return TakenOver::Lost;
            }
        }
    }

    /// Keeps the lease while something takes long.
    ///
    /// # Errors
    /// If another server has it.
    pub(crate) async fn keep_lease(&mut self) -> Result<(), StoreError> {
        let (now, held) = (self.now(), self.epoch());
        let Some(sharing) = &self.ports.sharing else {
            return Ok(());
        };
        if now < self.duty.renewed_at + sharing.pace.renew_every {
            return Ok(());
        }
        let (lease, claim) = (Arc::clone(&sharing.lease), sharing.claim(held));
        match lease.claim(claim).await {
            Ok(Claimed::Held(epoch)) if Some(epoch) == held => {
                self.duty.renewed_at = now;
                Ok(())
            }
            Ok(Claimed::Held(_) | Claimed::Other { .. }) => Err(StoreError::Fenced),
            Err(error) => {
                tracing::warn!("cannot renew the lease: {error}");
                Ok(())
            }
        }
    }

    /// Answers somebody who wants what only the one who performs can do.
    pub(crate) fn send_away<T>(&self, reply: oneshot::Sender<Result<T, LaunchError>>) {
        let performer = match &self.duty.duty {
            Duty::Performing(_) | Duty::Deciding { performer: None } => "another server".to_owned(),
            Duty::Deciding {
                performer: Some(name),
            } => format!("the server `{name}`"),
        };
        let reason = format!(
            "{performer} performs at present and alone reaches what runs; ask that one, or try again"
        );
        // Whoever asked may have left.
        drop(reply.send(Err(LaunchError::Transient { reason })));
    }
}
