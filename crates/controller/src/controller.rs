//! The loop: it waits for one thing to happen, and answers it without waiting for anything.
//!
//! What takes time is a job whose end is the next thing to happen. Dropping the loop at any point is a crash, and
//! [`crate::recovery`] is how the next one goes on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use pipekeeper_backend::{Observation, What};
use pipekeeper_engine::{Effect, EffectKey, Envelope, Input};
use pipekeeper_model::{Actor, AttemptId, Millis, Name, RunId, Timestamp};
use pipekeeper_store::{Delivery, DeliveryId, Hint, StoreError};
use tokio::sync::{broadcast, mpsc};

use crate::{
    Duty, DutyBoard, Ending, Handle, HeldPods, KeptBoard, Locks, News, Obstacles, Ports, SubmitError,
    duty::{DutyState, TakenOver},
    handle::Command,
    job::{Done, Job, Tools},
    locks::Line,
    outbox::Outbox,
    room::Room,
    slot::{Queued, Slot, Then},
};

/// How many commands may wait.
const COMMANDS: usize = 1_024;
/// How many news a slow listener may be behind before it has to look at the store.
const NEWS: usize = 4_096;
/// How long performed effects wait for a commit that takes their settlement along.
const FLUSH_AFTER: Millis = Millis(200);
/// How often backend and store are compared.
pub(crate) const SWEEP_EVERY: Millis = Millis::minutes(5);
/// How long until what could not be removed at an attempt's end is looked for.
const LEFT_OVER_PAUSE: Millis = Millis::seconds(5);
/// How long until a supervisor that could not be given its ticket is looked at again.
const ANSWER_PAUSE: Millis = Millis::seconds(5);
/// How long to wait before asking a store again that could not answer.
pub(crate) const STORE_PAUSE: Millis = Millis::seconds(1);

/// Runs runs.
pub struct Controller {
    pub(crate) ports: Ports,
    pub(crate) tools: Tools,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) jobs: FuturesUnordered<Job>,
    pub(crate) slots: BTreeMap<RunId, Slot>,
    pub(crate) outbox: Outbox,
    pub(crate) timers: BTreeSet<(Timestamp, Timer)>,
    pub(crate) run_timers: BTreeMap<RunId, Timestamp>,
    pub(crate) settled: BTreeMap<RunId, BTreeSet<EffectKey>>,
    pub(crate) line: Line,
    pub(crate) room: Room,
    pub(crate) intake: IntakeState,
    pub(crate) next_run: u64,
    /// When the next look at what is old was set, by the clock and by what nobody can set.
    pub(crate) tidy_armed: (Timestamp, Instant),
    pub(crate) draining: bool,
    pub(crate) duty: DutyState,
    /// Active runs that left memory, with the number of their events.
    pub(crate) parked: BTreeMap<RunId, u64>,
}

/// Deliveries in memory: one at a time per project, in order.
#[derive(Default)]
pub(crate) struct IntakeState {
    pub(crate) looking: bool,
    pub(crate) look_again: bool,
    pub(crate) cursor: Option<DeliveryId>,
    pub(crate) in_hand: BTreeMap<DeliveryId, Name>,
    pub(crate) queues: BTreeMap<Name, DeliveryQueue>,
    pub(crate) busy: BTreeSet<Name>,
    pub(crate) failures: BTreeMap<DeliveryId, u32>,
}

/// A project's deliveries. Only the next few are in memory with their bodies, of 25 MiB each at worst.
#[derive(Default)]
pub(crate) struct DeliveryQueue {
    pub(crate) ready: VecDeque<Delivery>,
    pub(crate) waiting: VecDeque<DeliveryId>,
}

/// What the clock is waited for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Run(RunId),
    Reload(RunId),
    Lane(crate::outbox::LaneKey),
    Flush,
    Intake,
    Delivery(Name),
    Sweep,
    Collect,
    TidyUp,
    Lease,
    /// Others may have given locks back.
    Locks,
    /// A look at an attempt makes its backend tell the check-in again.
    Observe(AttemptId),
}

enum Happening {
    Told(Option<Command>),
    Seen(Option<Observation>),
    Hinted(Option<Hint>),
    Done(Done),
    Due,
}

impl Controller {
    /// A controller and the handle to it; nothing happens before [`Controller::run`].
    pub fn new(ports: Ports) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let (news, _) = broadcast::channel(NEWS);
        let handle = Handle {
            commands: sender,
            news,
            obstacles: Obstacles::default(),
            held: HeldPods::default(),
            duty: DutyBoard::default(),
            locks: Locks::default(),
            kept: KeptBoard::default(),
        };
        let tools = Tools {
            store: Arc::clone(&ports.store),
            backend: Arc::clone(&ports.backend),
            supplies: Arc::clone(&ports.supplies),
            handle: handle.clone(),
            layout: Arc::new(ports.layout.clone()),
            upkeep: ports.upkeep.clone(),
            tidying: Arc::default(),
            cache_quota: ports.cache_quota,
            cache_stores: ports.cache_stores.clone().into(),
            collecting: Arc::default(),
        };
        let controller = Self {
            ports,
            tools,
            commands,
            jobs: FuturesUnordered::new(),
            slots: BTreeMap::new(),
            outbox: Outbox::default(),
            timers: BTreeSet::new(),
            run_timers: BTreeMap::new(),
            settled: BTreeMap::new(),
            line: Line::default(),
            room: Room::default(),
            intake: IntakeState::default(),
            next_run: 1,
            tidy_armed: (Timestamp(0), Instant::now()),
            draining: false,
            duty: DutyState::new(),
            parked: BTreeMap::new(),
        };
        (controller, handle)
    }

    /// Recovers what the store knows, as soon as it is this one's turn to perform, then works until it is asked to drain or
    /// another server performs.
    ///
    /// # Errors
    /// If the store cannot be read at the start; later failures are waited out.
    pub async fn run(mut self) -> Result<Ending, StoreError> {
        if self.ports.sharing.is_some() {
            self.next_run = self.ports.store.last_run().await? + 1;
            self.claim();
        } else {
            self.set_duty(Duty::Performing(None));
            self.recover().await?;
        }
        let ending = self.work().await?;
        if let (Some(sharing), Some(epoch), Ending::Drained) = (&self.ports.sharing, self.epoch(), ending)
            && let Err(error) = sharing.lease.release(epoch).await
        {
            tracing::warn!("others wait until the lease has run out: {error}");
        }
        Ok(ending)
    }

    async fn work(&mut self) -> Result<Ending, StoreError> {
        let mut alarm: (Option<Timestamp>, BoxFuture<'static, ()>) = (None, Box::pin(std::future::pending()));
        let (mut observing, mut listening) = (true, true);
        while !self.is_drained() {
            let due = self.timers.first().map(|(at, _)| *at);
            if alarm.0 != due {
                alarm.0 = due;
                alarm.1 = match due {
                    Some(at) => self.ports.clock.sleep_until(at),
                    None => Box::pin(std::future::pending()),
                };
            }
            let hinted = async {
                match &mut self.ports.sharing {
                    Some(sharing) => sharing.hints.recv().await,
                    None => std::future::pending().await,
                }
            };
            let happening = tokio::select! {
                // What pods tell comes last: however much it is, it keeps no person and no deadline waiting.
                biased;
                () = &mut alarm.1 => Happening::Due,
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => Happening::Done(done),
                told = self.commands.recv() => Happening::Told(told),
                hint = hinted, if listening => Happening::Hinted(hint),
                seen = self.ports.observations.recv(), if observing => Happening::Seen(seen),
            };
            match happening {
                Happening::Done(done) => self.done(done),
                Happening::Seen(Some(observation)) => self.seen(observation),
                Happening::Seen(None) => observing = false,
                Happening::Hinted(Some(hint)) => self.hinted(hint),
                Happening::Hinted(None) => listening = false,
                Happening::Told(Some(command)) => self.told(command),
                Happening::Told(None) => self.draining = true,
                Happening::Due => {
                    alarm = (None, Box::pin(std::future::pending()));
                    self.due();
                }
            }
            if self.duty.lost {
                tracing::warn!("another server performs now; this one begins anew");
                return Ok(Ending::LeaseLost);
            }
            if let Some(epoch) = self.duty.taking_over.take() {
                self.perform_as(epoch);
                tracing::info!("performs now, with the lease {epoch}");
                if self.take_over().await == TakenOver::Lost {
                    return Ok(Ending::LeaseLost);
                }
            }
        }
        Ok(Ending::Drained)
    }

    /// Draining ends when nothing is under way; what is queued is stored or will be observed again.
    fn is_drained(&self) -> bool {
        self.draining && self.jobs.is_empty()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    pub(crate) fn start(&self, job: Job) {
        self.jobs.push(job);
    }

    pub(crate) fn publish(&self, news: News) {
        // Nobody listening is no failure.
        let _ = self.tools.handle.news.send(news);
    }

    pub(crate) fn arm(&mut self, at: Timestamp, timer: Timer) {
        self.timers.insert((at, timer));
    }

    /// Queues an input for a run and does what can be done at once.
    pub(crate) fn queue(&mut self, run: RunId, actor: Actor, input: Input, then: Then) {
        let envelope = Envelope {
            at: self.now(),
            actor,
            body: input,
        };
        let slot = self.slots.entry(run).or_insert_with(Slot::absent);
        slot.add(Queued { envelope, then });
        self.pump(run);
    }

    fn told(&mut self, command: Command) {
        if self.draining {
            // Whoever asks hears that nobody is there; a job of our own that asks must not keep the end waiting.
            return drop(command);
        }
        match command {
            Command::Submit {
                run,
                actor,
                input,
                reply,
            } => self.queue(run, actor, input, Then::Reply(reply)),
            Command::Create {
                actor,
                request,
                reply,
            } => self.create(actor, request, reply),
            Command::Wish { actor, wish, reply } => self.wish(actor, wish, reply),
            Command::Retry {
                run,
                actor,
                which,
                earlier,
                reply,
            } => self.retry(run, actor, (which, earlier), reply),
            Command::Processes { reply, .. } if !self.performs() => self.send_away(reply),
            Command::Debug { reply, .. } if !self.performs() => self.send_away(reply),
            Command::Release { reply, .. } if !self.performs() => self.send_away(reply),
            Command::Processes { attempt, reply } => {
                let backend = Arc::clone(&self.ports.backend);
                self.start(Box::pin(async move {
                    // Whoever asked may have left.
                    let _ = reply.send(backend.processes(attempt).await);
                    Done::Quiet
                }));
            }
            Command::Debug { wish, told, reply } => self.start(self.tools.debug(*wish, told, reply)),
            Command::Release { attempt, reply } => {
                let backend = Arc::clone(&self.ports.backend);
                self.start(Box::pin(async move {
                    // Whoever asked may have left.
                    let _ = reply.send(backend.release(attempt).await);
                    Done::Quiet
                }));
            }
            Command::DeliveryStored => self.look_for_deliveries(),
            Command::CachesRemoved => self.collect_caches(),
            Command::Drain => {
                self.draining = true;
                self.flush();
            }
        }
    }

    pub(crate) fn done(&mut self, done: Done) {
        match done {
            Done::Loaded { run, result } => self.loaded(run, result),
            Done::Committed {
                run,
                expected,
                events,
                effects,
                settled,
                result,
            } => {
                self.committed((run, expected), &events, effects, settled, result);
            }
            Done::Created {
                delivery,
                runs,
                result,
            } => self.created(delivery, runs, result),
            Done::Performed { lane, effect, result } => self.performed(&lane, &effect, result),
            Done::Pending { result } => self.pending(result),
            Done::Fetched { project, batch } => self.fetched(&project, batch),
            Done::Admitted { delivery, result } => self.admitted(*delivery, result),
            Done::SettledDelivery { delivery, result } => self.settled_delivery(delivery, result),
            Done::Flushed { keys, result } => self.flushed(keys, result),
            Done::Swept(swept) => self.swept(swept),
            Done::Claimed {
                held,
                asked_at,
                result,
            } => self.claimed((held, asked_at), result),
            Done::Listed { result } => self.listed(result),
            Done::CaughtUp { unobserved, result } => self.caught_up(unobserved, result),
            Done::Counted { wanted, result } => self.counted(wanted, result),
            Done::Wished { wished, result } => match result {
                Ok(request) => self.create(wished.actor, request, wished.reply),
                Err(error) => drop(wished.reply.send(Err(error))),
            },
            Done::LeftOver => {
                let at = self.now() + LEFT_OVER_PAUSE;
                self.arm(at, Timer::Sweep);
            }
            Done::Unanswered { attempt, reason } => {
                self.seen(Observation {
                    attempt,
                    what: What::Waiting { reason },
                });
                let at = self.now() + ANSWER_PAUSE;
                self.arm(at, Timer::Observe(attempt));
            }
            Done::Stood {
                attempt,
                holder,
                standings,
            } => self.ask_ticket(attempt, holder, standings),
            Done::Quiet => {}
        }
    }

    fn due(&mut self) {
        let now = self.now();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Run(run) => {
                    self.run_timers.remove(&run);
                    self.queue(run, Actor::System, Input::DeadlineReached, Then::Nothing);
                }
                Timer::Reload(run) => self.reload(run),
                Timer::Lane(lane) => self.perform(&lane),
                Timer::Flush => self.flush(),
                Timer::Intake => self.look_for_deliveries(),
                Timer::Delivery(project) => self.admit_next(&project),
                Timer::Sweep => self.sweep(),
                Timer::Collect => self.collect_caches(),
                Timer::TidyUp => self.tidy_up(),
                Timer::Lease => self.claim(),
                Timer::Locks => self.give_locks(),
                Timer::Observe(attempt) => self.start(self.tools.observe(attempt)),
            }
        }
    }

    /// Marks an effect as performed; its row goes with the run's next commit, or soon without one.
    pub(crate) fn settle(&mut self, run: RunId, key: EffectKey) {
        if self.settled.is_empty() {
            let at = self.now() + FLUSH_AFTER;
            self.arm(at, Timer::Flush);
        }
        self.settled.entry(run).or_default().insert(key);
    }

    fn flush(&mut self) {
        let keys: Vec<EffectKey> = std::mem::take(&mut self.settled)
            .into_values()
            .flatten()
            .collect();
        if keys.is_empty() {
            return;
        }
        pipekeeper_failpoint::hit("settling");
        let store = Arc::clone(&self.ports.store);
        self.start(Box::pin(async move {
            let result = store.settle_effects(keys.clone()).await;
            Done::Flushed { keys, result }
        }));
    }

    fn flushed(&mut self, keys: Vec<EffectKey>, result: Result<(), StoreError>) {
        if let Err(error) = result {
            tracing::warn!("cannot settle {} effects yet: {error}", keys.len());
            // Whose run it is matters only for riding along with a commit.
            self.settled.entry(RunId(0)).or_default().extend(keys);
            let at = self.now() + STORE_PAUSE;
            self.arm(at, Timer::Flush);
        }
    }

    /// The lane of an attempt's effects.
    pub(crate) fn attempt_lane(attempt: AttemptId) -> crate::outbox::LaneKey {
        (attempt.run, Effect::LaunchAttempt { attempt }.lane())
    }
}

pub(crate) fn refuse<T>(reply: tokio::sync::oneshot::Sender<Result<T, SubmitError>>, error: SubmitError) {
    // Whoever asked may have gone.
    drop(reply.send(Err(error)));
}
