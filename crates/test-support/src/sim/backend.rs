//! The backend of a simulation: a site of supervisors that outlives every server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use pipekeeper_backend::{Backend, Capacity, Launch, LaunchError, Observation, Scarce, Ticket, What};
use pipekeeper_model::{AttemptId, Holder, Millis, Name, plan::Feature};
use tokio::sync::mpsc;

use super::{
    Bug, Fault,
    supervisor::{Mail, Phase, Play, Supervisor},
    world::World,
};

/// Where attempts run.
pub(crate) struct Site {
    pub(crate) world: Arc<World>,
    listeners: Mutex<BTreeMap<usize, mpsc::UnboundedSender<Observation>>>,
    attempts: Mutex<BTreeMap<AttemptId, Vec<Seat>>>,
}

/// One supervisor as the site knows it.
struct Seat {
    holder: Holder,
    mail: mpsc::UnboundedSender<Mail>,
    phase: Phase,
}

impl Site {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            listeners: Mutex::default(),
            attempts: Mutex::default(),
        }
    }

    /// A server listens anew; what it was before hears nothing any more.
    pub(crate) fn connect(&self, server: usize) -> mpsc::UnboundedReceiver<Observation> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.insert(server, sender);
        receiver
    }

    /// The attempts that are not removed.
    pub(crate) fn known(&self) -> Vec<AttemptId> {
        self.attempts().keys().copied().collect()
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<AttemptId, Vec<Seat>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, attempt: AttemptId, holder: &Holder, phase: Phase) {
        let mut attempts = self.attempts();
        let seats = attempts.get_mut(&attempt).into_iter().flatten();
        for seat in seats.filter(|seat| seat.holder == *holder) {
            seat.phase = phase.clone();
        }
    }

    /// Whether nothing of an attempt is left.
    pub(crate) fn is_gone(&self, attempt: AttemptId) -> bool {
        let attempts = self.attempts();
        let mut seats = attempts.get(&attempt).into_iter().flatten();
        seats.all(|seat| seat.phase == Phase::Gone)
    }

    /// Tells whoever listens, as reliably as the world is.
    pub(crate) fn tell(self: &Arc<Self>, attempt: AttemptId, what: What) {
        if self.world.strikes(Fault::ObservationLost) {
            self.world.trace(|| format!("{attempt}: an observation is lost"));
            return;
        }
        self.send(attempt, what.clone());
        if self.world.strikes(Fault::ObservationTwice) {
            self.send(attempt, what.clone());
        }
        let may_be_old = matches!(what, What::CheckedIn { .. } | What::Finished { .. });
        if may_be_old && self.world.strikes(Fault::ObservationStale) {
            let site = Arc::clone(self);
            let later = Millis(self.world.between(1, 900_000));
            self.world.spawner.spawn(async move {
                site.world.sleep(later).await;
                site.send(attempt, what);
            });
        }
    }

    fn send(&self, attempt: AttemptId, what: What) {
        self.world.trace(|| {
            let text = format!("{what:?}");
            let name: String = text.chars().take_while(char::is_ascii_alphanumeric).collect();
            format!("{attempt}: seen: {name}")
        });
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.values() {
            let what = what.clone();
            // A dead server hears nothing.
            let _ = listener.send(Observation { attempt, what });
        }
    }

    fn create(self: &Arc<Self>, launch: &Launch, play: &Play) {
        let attempt = launch.attempt;
        if self.attempts().contains_key(&attempt) {
            return self.report(attempt);
        }
        self.world.trace(|| format!("{attempt}: launched"));
        let count = if play.second { 2 } else { 1 };
        let mut seats = Vec::new();
        for number in 0..count {
            let (sender, mail) = mpsc::unbounded_channel();
            let holder = Holder(format!("{attempt}-h{number}"));
            let mut play = play.clone();
            play.be_number(number);
            let supervisor = Supervisor {
                site: Arc::clone(self),
                attempt,
                holder: holder.clone(),
                play,
                mail,
            };
            seats.push(Seat {
                holder,
                mail: sender,
                phase: Phase::Starting,
            });
            self.world.spawner.spawn(supervisor.work());
        }
        self.attempts().insert(attempt, seats);
    }

    /// Tells the present state of an attempt.
    fn report(self: &Arc<Self>, attempt: AttemptId) {
        let states: Vec<(Holder, Phase)> = self
            .attempts()
            .get(&attempt)
            .into_iter()
            .flatten()
            .map(|seat| (seat.holder.clone(), seat.phase.clone()))
            .collect();
        if states.iter().all(|(_, phase)| *phase == Phase::Gone) {
            let reason = "nothing is known of it here".to_owned();
            return self.tell(attempt, What::Gone { reason });
        }
        for (holder, phase) in states {
            match phase {
                Phase::Starting | Phase::Gone => {}
                Phase::CheckedIn | Phase::Running => self.tell(attempt, What::CheckedIn { holder }),
                Phase::Ended(record) => self.tell(attempt, What::Finished { holder, record }),
            }
        }
    }

    fn post(&self, attempt: AttemptId, holder: Option<&Holder>, mail: Mail) -> bool {
        let attempts = self.attempts();
        let Some(seats) = attempts.get(&attempt) else {
            return false;
        };
        for seat in seats
            .iter()
            .filter(|seat| holder.is_none_or(|holder| seat.holder == *holder))
        {
            // One that ended reads nothing.
            let _ = seat.mail.send(mail);
        }
        true
    }
}

/// The backend as one server sees it.
pub(crate) struct SimBackend {
    pub(crate) site: Arc<Site>,
    pub(crate) features: BTreeSet<Feature>,
}

impl SimBackend {
    async fn call(&self) -> Result<(), LaunchError> {
        self.site.world.pause().await;
        if self.site.world.strikes(Fault::BackendFails) {
            return Err(transient("the backend is away"));
        }
        Ok(())
    }
}

fn transient(reason: &str) -> LaunchError {
    LaunchError::Transient {
        reason: reason.to_owned(),
    }
}

#[async_trait]
impl Backend for SimBackend {
    fn supports(&self, _: &Name) -> &BTreeSet<Feature> {
        &self.features
    }

    fn capacity(&self, _: &Name, _: Option<&Name>) -> Option<Capacity> {
        let spare = usize::from(self.site.world.has_bug(Bug::OneAttemptTooMany));
        let room = self.site.world.options.room()?;
        Some(Capacity {
            place: 0,
            attempts: room.saturating_add(spare),
        })
    }

    fn knows(&self, _: AttemptId) -> bool {
        true
    }

    async fn launch(&self, launch: Launch) -> Result<(), LaunchError> {
        let world = &self.site.world;
        self.call().await?;
        if world.strikes(Fault::LaunchFails) {
            let reason = "no place now".to_owned();
            return Err(LaunchError::Occupied {
                of: Scarce::Quota,
                reason,
            });
        }
        world.check(|ledger| ledger.keeps_secrets(&launch));
        let play = Play::draw(world, launch.attempt, launch.timeout);
        if play.refused {
            return Err(LaunchError::Terminal {
                reason: "no such image".to_owned(),
            });
        }
        self.site.create(&launch, &play);
        world.pause().await;
        if world.strikes(Fault::LaunchLosesReply) {
            return Err(transient("the reply is lost"));
        }
        Ok(())
    }

    async fn answer(&self, attempt: AttemptId, holder: &Holder, ticket: Ticket) -> Result<(), LaunchError> {
        self.call().await?;
        if self.site.world.strikes(Fault::AnswerLost) {
            return Err(transient("the answer is lost"));
        }
        let mail = match ticket {
            Ticket::Go { secrets } => {
                if !secrets.is_empty() {
                    self.site.world.hit("guard I10 secret handed over");
                }
                Mail::Go
            }
            Ticket::Exit => {
                self.site.world.hit("guard I1 second holder refused");
                Mail::Exit
            }
        };
        self.site
            .world
            .trace(|| format!("{attempt}: {holder} is told {mail:?}"));
        self.site.post(attempt, Some(holder), mail);
        self.site.world.pause().await;
        Ok(())
    }

    async fn stop(&self, attempt: AttemptId, _grace: Millis) -> Result<(), LaunchError> {
        self.call().await?;
        self.site.world.trace(|| format!("{attempt}: is told to stop"));
        if !self.site.post(attempt, None, Mail::Stop) {
            self.site.report(attempt);
        }
        self.site.world.pause().await;
        Ok(())
    }

    async fn observe(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.call().await?;
        self.site.report(attempt);
        Ok(())
    }

    async fn processes(&self, _: AttemptId) -> Result<String, LaunchError> {
        Err(LaunchError::Terminal {
            reason: "a simulated attempt has no processes".to_owned(),
        })
    }

    async fn forget(&self, attempt: AttemptId) -> Result<(), LaunchError> {
        self.call().await?;
        let mut attempts = self.site.attempts();
        let is_over = |seat: &Seat| matches!(seat.phase, Phase::Ended(_) | Phase::Gone);
        if attempts
            .get(&attempt)
            .is_some_and(|seats| seats.iter().all(is_over))
        {
            attempts.remove(&attempt);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<AttemptId>, LaunchError> {
        self.call().await?;
        let known = self.site.known();
        self.site.world.pause().await;
        Ok(known)
    }
}
