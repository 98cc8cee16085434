//! One attempt's lane: its calls one after the other, its stream, and what becomes of its pod. Entry type: [`Lane`].

mod end;
mod hear;
mod leave;
mod news;
mod obey;
mod recover;

use std::{io, sync::Arc, time::Duration};

use pipekeeper_agent::protocol::{AttemptSpec, ExitRecord, Orphan as AgentOrphan, ToAgent};
use pipekeeper_model::{AttemptId, Holder, Millis};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    OpenError, PodState, StreamRole, Why,
    backend::Shared,
    link::{Link, Said, Tries},
    mirror::{Log, Mirror},
    order,
    wire::{Need, Reached, Wire},
};
use crate::{Launch, LaunchError, Observation, Ticket, What, processes::Lookers};

/// After this long the cluster itself is asked again, in case its watch is silent.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often the cluster is asked about a pod that cannot be reached, in case a watch misses something.
const LOOK_EVERY: Duration = Duration::from_secs(25);
/// How long a pod that ended may still have a record on its way.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// A timer that is late by more is that of a process that slept.
const SLEPT: Duration = Duration::from_secs(5);

/// What a lane is told.
pub(super) enum Request {
    Call(Call),
    Seen(PodState),
}

/// A call, and where its result goes.
pub(super) struct Call {
    pub(super) order: Order,
    pub(super) reply: oneshot::Sender<Result<(), LaunchError>>,
}

/// What is asked; it has no `Debug`, because a ticket carries secrets.
pub(super) enum Order {
    Launch(Box<Launch>),
    Answer(Holder, Ticket),
    Stop(Millis),
    Observe,
    /// Somebody wants to know what runs.
    Look(oneshot::Sender<String>),
    Forget,
}

/// The task of one attempt.
pub(super) struct Lane {
    shared: Arc<Shared>,
    attempt: AttemptId,
    mirror: Mirror,
    /// What it was launched with, once it is needed.
    order: Option<Arc<order::Order>>,
    link: Link,
    seen: Seen,
    log: Option<Log>,
    jobs: JoinSet<Job>,
    files: Files,
    /// What its supervisor told of its end, while the files it names are fetched.
    record: Option<Box<ExitRecord>>,
    /// How often its pod gave nothing of that away.
    vain_fetches: u32,
    lookers: Lookers,
    /// When its pod was made, as far as that is known here.
    made_at: Option<Instant>,
    /// When the cluster itself was last asked.
    looked_at: Option<Instant>,
    /// What keeps its pod from going on, and since when.
    why: Option<(Why, Instant)>,
    /// Whether its services are all ready, as far as it has any.
    services: Services,
    /// Whether it has the volumes to itself that it must have so.
    alone: Alone,
    /// The grace it was told to stop with.
    stopping: Option<Millis>,
    /// When it is removed, because it was told to stop.
    removal_due: Option<Instant>,
    /// Whether it was removed for that reason, so that this is why it ends.
    is_removed: bool,
    /// Whether the cluster was told to end its pod.
    is_going: bool,
    /// When its pod is looked at again.
    look_due: Option<Instant>,
    /// When no record is waited for any more, and why the pod ended.
    end_due: Option<(Instant, String)>,
}

/// What was observed on this stream, to be told again.
#[derive(Default)]
struct Seen {
    holder: Option<Holder>,
    checked_in: bool,
    step: Option<usize>,
    /// For how many seconds it was silent.
    silent: Option<u64>,
}

/// Whether the pod has the files it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Unknown,
    UnderWay,
    /// They went out on the control stream, which may break before they arrive.
    Sent,
    InPlace,
}

impl Files {
    /// Whether what is sent from now on comes after them.
    fn are_there(self) -> bool {
        match self {
            Self::Sent | Self::InPlace => true,
            Self::Unknown | Self::UnderWay => false,
        }
    }

    /// What is known of them on another stream.
    fn on_another_stream(self) -> Self {
        match self {
            Self::Sent => Self::Unknown,
            Self::Unknown | Self::UnderWay | Self::InPlace => self,
        }
    }
}

/// Whether what stands beside the steps is ready for them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Services {
    Unknown,
    Ready,
}

/// Whether an attempt has its volumes to itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alone {
    Unknown,
    Asked,
    Yes,
}

/// Work that the lane does not wait for.
enum Job {
    Opened(Result<Reached, OpenError>),
    Put(io::Result<()>),
    Got(Got),
    Looked(Result<PodState, LaunchError>),
    /// Who has what it must have to itself.
    Asked(Result<Option<String>, LaunchError>),
    Removed,
    /// Something of ours is wrong; which work it was is not known.
    Broke(JoinError),
}

/// What came of fetching what a record names.
struct Got {
    result: io::Result<()>,
    /// How the container of a step ended that failed, as the cluster tells.
    end: Option<String>,
    /// For the attempt's log.
    notes: Vec<String>,
}

enum Happening {
    Request(Option<Request>),
    Said(Said),
    Done(Job),
    Due,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>, attempt: AttemptId) -> Self {
        let mirror = Mirror::new(&shared.attempts_folder(), attempt);
        Self {
            shared,
            attempt,
            mirror,
            order: None,
            link: Link::Down,
            seen: Seen::default(),
            log: None,
            jobs: JoinSet::new(),
            files: Files::Unknown,
            record: None,
            vain_fetches: 0,
            lookers: Lookers::default(),
            made_at: None,
            looked_at: None,
            why: None,
            services: Services::Unknown,
            alone: Alone::Unknown,
            stopping: None,
            removal_due: None,
            is_removed: false,
            is_going: false,
            look_due: None,
            end_due: None,
        }
    }

    /// Serves until there is nothing left to do, or the backend is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut crowd = self.shared.streams.crowd();
        loop {
            let due = self.next_due();
            let happening = tokio::select! {
                request = requests.recv() => Happening::Request(request),
                said = self.link.next() => Happening::Said(said),
                Some(done) = self.jobs.join_next() => match done {
                    Ok(job) => Happening::Done(job),
                    // That was us, below.
                    Err(error) if error.is_cancelled() => continue,
                    Err(error) => Happening::Done(Job::Broke(error)),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Happening::Due,
                // Whether anything is due may depend on it.
                Ok(()) = crowd.changed() => continue,
            };
            let handled = match happening {
                Happening::Request(None) => return,
                Happening::Request(Some(Request::Call(Call { order, reply }))) => {
                    let result = self.obey(order).await;
                    // The caller may have given up: the state is observed all the same.
                    let _ = reply.send(result);
                    Ok(())
                }
                Happening::Request(Some(Request::Seen(state))) => self.note(state).await,
                Happening::Said(Said::TimeToOpen) => {
                    self.open();
                    Ok(())
                }
                Happening::Said(Said::Frame(Some(incoming))) => self.hear(incoming).await,
                Happening::Said(Said::Frame(None)) => self.hung_up().await,
                Happening::Done(job) => self.done(job).await,
                Happening::Due => self.due().await,
            };
            if let Err(error) = handled {
                tracing::warn!(attempt.id = %self.attempt, "looking after an attempt: {error}");
            }
            let is_idle =
                matches!(self.link, Link::Down) && self.jobs.is_empty() && self.next_due().is_none();
            if is_idle && self.shared.lanes.retire(self.attempt, &requests) {
                return;
            }
        }
    }

    /// What it was launched with; none if it never was, here.
    fn order(&mut self) -> io::Result<Option<Arc<order::Order>>> {
        if self.order.is_none() {
            self.order = self.mirror.read_order()?.map(Arc::new);
            if let Some(home) = self.order.as_ref().and_then(|order| order.home.as_ref()) {
                self.shared.host.was_to_be(self.attempt, home);
            }
        }
        Ok(self.order.clone())
    }

    fn spec(&mut self) -> io::Result<AttemptSpec> {
        let order = self.order()?;
        let missing = || io::Error::other("it was never launched here");
        order.map(|order| order.spec.clone()).ok_or_else(missing)
    }

    /// Opens the control stream, beside everything else.
    fn open(&mut self) {
        self.link.wake();
        let Link::Awaited(tries) = self.link else { return };
        self.link = Link::Opening(tries);
        let (shared, attempt) = (Arc::clone(&self.shared), self.attempt);
        self.jobs.spawn(async move {
            let closed = || OpenError::Unreachable("this server is about to end".to_owned());
            let opened = async {
                let place = shared.streams.place().await.ok_or_else(closed)?;
                Ok((shared.host.open(attempt, StreamRole::Control).await?, place))
            };
            Job::Opened(opened.await)
        });
    }

    async fn done(&mut self, job: Job) -> io::Result<()> {
        match job {
            Job::Opened(opened) => self.was_opened(opened),
            Job::Removed => {}
            Job::Looked(Ok(state)) => return self.note(state).await,
            Job::Looked(Err(error)) => {
                tracing::debug!(attempt.id = %self.attempt, "its pod cannot be looked at: {error}");
            }
            Job::Asked(result) => self.was_asked(result),
            Job::Put(result) => return self.was_put(result).await,
            Job::Broke(error) => {
                tracing::error!(attempt.id = %self.attempt, "looking after an attempt broke: {error}");
                return self.begin_again();
            }
            Job::Got(got) => return self.was_fetched(got).await,
        }
        Ok(())
    }

    /// Begins whatever is under way once more.
    fn begin_again(&mut self) -> io::Result<()> {
        self.jobs.abort_all();
        if self.files == Files::UnderWay {
            self.files = Files::Unknown;
        }
        if self.alone == Alone::Asked {
            self.alone = Alone::Unknown;
        }
        if let Link::Opening(tries) | Link::Awaited(tries) = self.link {
            self.link = Link::Awaited(tries.failed());
        } else if let Link::Up(_) = self.link {
            self.link = Link::Awaited(Tries::at_once().failed());
        }
        self.fetch_again()
    }

    fn was_opened(&mut self, opened: Result<Reached, OpenError>) {
        let Link::Opening(tries) = self.link else { return };
        self.link = match opened {
            Ok(reached) => {
                self.seen = Seen::default();
                self.files = self.files.on_another_stream();
                Link::Up(Wire::new(reached))
            }
            Err(error) => {
                self.explain_try(tries, error);
                Link::Awaited(tries.failed())
            }
        };
    }

    /// Sends a message; false if there is nobody to hear it.
    async fn tell(&mut self, message: &ToAgent) -> bool {
        let Link::Up(wire) = &mut self.link else {
            return false;
        };
        let sent = wire.send(message).await;
        if sent.is_err() {
            self.link = Link::Awaited(Tries::at_once());
            self.look_due = Some(Instant::now() + LOOK_EVERY);
        }
        sent.is_ok()
    }

    /// The stream ended: the supervisor is asked again, unless there is none any more.
    async fn hung_up(&mut self) -> io::Result<()> {
        self.link = Link::Awaited(Tries::at_once().failed());
        self.look_due = Some(Instant::now() + LOOK_EVERY);
        if let Some((_, reason)) = self.end_due.take() {
            return self.end(reason).await;
        }
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        let why = self.why.as_ref().map(|(why, since)| *since + why.patience);
        let end = self.end_due.as_ref().map(|(at, _)| *at);
        let heartbeat = if let Link::Up(wire) = &self.link {
            Some(wire.due())
        } else {
            None
        };
        let look = self.look_due.filter(|_| self.wants_looks());
        [why, end, self.removal_due, heartbeat, look, self.park_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A process that slept for so long knows nothing of what others did to the pod meanwhile: it looks before it judges by
    /// old news.
    fn has_slept(&mut self, now: Instant) -> bool {
        let why = self.why.as_ref().map(|(why, since)| *since + why.patience);
        let end = self.end_due.as_ref().map(|(at, _)| *at);
        let due = [why, end, self.removal_due].into_iter().flatten().min();
        if due.is_none_or(|due| now.saturating_duration_since(due) <= SLEPT) {
            return false;
        }
        if let Some((_, since)) = &mut self.why {
            *since = now;
        }
        if let Some((at, _)) = &mut self.end_due {
            *at = now + LAST_WORDS;
        }
        self.removal_due = self.removal_due.map(|_| now + LAST_WORDS);
        self.look();
        true
    }

    async fn due(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.has_slept(now) {
            return Ok(());
        }
        if let Some((_, reason)) = self.end_due.take_if(|(at, _)| *at <= now) {
            return self.end(reason).await;
        }
        if self.removal_due.is_some_and(|at| at <= now) {
            self.remove_stopped(now);
        }
        if let Some((why, _)) = self.why.take_if(|(why, since)| *since + why.patience <= now) {
            return self.give_up(why.text).await;
        }
        if self.look_due.is_some_and(|at| at <= now) && self.wants_looks() {
            self.look();
        }
        if self.park_due().is_some_and(|at| at <= now) {
            self.link = Link::parked(self.shared.streams.parked());
        }
        let Link::Up(wire) = &mut self.link else {
            return Ok(());
        };
        match wire.need() {
            Need::Nothing => {}
            Need::Ping => {
                self.tell(&ToAgent::Ping).await;
            }
            Need::End => return self.hung_up().await,
        }
        Ok(())
    }

    /// When its stream is given up for others; never as long as more depends on it than its log.
    fn park_due(&self) -> Option<Instant> {
        let Link::Up(wire) = &self.link else { return None };
        let works_on = |order: &Arc<order::Order>| order.spec.orphan == AgentOrphan::WorkOn;
        let is_free = self.seen.step.is_some()
            && self.record.is_none()
            && self.stopping.is_none()
            && !self.is_going
            && self.lookers.is_empty()
            && self.order.as_ref().is_some_and(works_on);
        let (opened, loud) = wire.times();
        self.shared.streams.give_up_at(opened, loud).filter(|_| is_free)
    }

    /// Tells again what this stream told.
    fn repeat(&mut self) {
        self.check_in();
        if let Some(step) = self.seen.step {
            self.report(What::StepStarted { step });
        }
        if let Some(log) = &self.log {
            self.report(What::LogGrew { bytes: log.bytes() });
        }
        if let Some((why, _)) = &self.why {
            let reason = why.text.clone();
            self.report(What::Waiting { reason });
        }
    }

    fn report(&self, what: What) {
        // Nobody listens any more when the controller is gone; the files tell its successor.
        let _ = self.shared.listener(self.attempt).send(Observation {
            attempt: self.attempt,
            what,
        });
    }
}
