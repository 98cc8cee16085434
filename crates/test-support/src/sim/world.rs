//! What everything in a simulation shares: time, chance, faults, the checker's book and the trace.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use pipekeeper_controller::{Clock as _, Handle};
use pipekeeper_model::{Millis, Timestamp};
use pipekeeper_store::{Epoch, Hint};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::{
    Bug, Fault, Options, Violation, check::Ledger, clock::SimClock, executor::Spawner, people::People,
    rng::Rng,
};

/// How often things happened that must happen sometimes.
#[derive(Clone, Debug, Default)]
pub struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    /// Counts one.
    pub(crate) fn hit(&mut self, what: &str) {
        if let Some(count) = self.0.get_mut(what) {
            *count += 1;
        } else {
            self.0.insert(what.to_owned(), 1);
        }
    }

    /// How often something happened.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds another simulation's counts.
    pub fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }
}

/// The lease as a store keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseRow {
    pub(crate) epoch: Epoch,
    pub(crate) renewed_at: Timestamp,
}

/// One world.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) clock: SimClock,
    pub(crate) spawner: Spawner,
    inner: Mutex<Inner>,
    ledger: Mutex<Ledger>,
}

struct Inner {
    rng: Rng,
    healed: bool,
    disk_full_until: Timestamp,
    handles: Vec<Option<Handle>>,
    hints: Vec<Option<mpsc::Sender<Hint>>>,
    lease: LeaseRow,
    violation: Option<Violation>,
    coverage: Coverage,
    trace: Vec<String>,
    traced: u64,
    hash: u64,
    next_write: u64,
    /// Writes that wait for their turn, with the server that makes them.
    writes: BTreeMap<u64, Option<usize>>,
    waiting: Vec<Waker>,
}

/// A write's place in the one writer's queue; dropping it gives the place up.
pub(crate) struct Turn {
    world: Arc<World>,
    number: u64,
}

impl World {
    pub(crate) fn new(options: Options, clock: SimClock) -> Self {
        let (seed, room) = (options.seed, options.room());
        let servers = options.servers.max(1) as usize;
        let inner = Inner {
            rng: Rng::derived(options.seed, &[2]),
            healed: false,
            disk_full_until: clock.now(),
            handles: vec![None; servers],
            hints: vec![None; servers],
            lease: LeaseRow {
                epoch: Epoch(0),
                renewed_at: Timestamp(0),
            },
            violation: None,
            coverage: Coverage::default(),
            trace: Vec::new(),
            traced: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            next_write: 0,
            writes: BTreeMap::new(),
            waiting: Vec::new(),
        };
        Self {
            options,
            clock,
            spawner: Spawner::default(),
            inner: Mutex::new(inner),
            ledger: Mutex::new(Ledger::new(People::of(seed), room)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the checker see or hear something; what it finds wrong ends the simulation.
    pub(crate) fn check<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let result = look(&mut ledger);
        let (violation, hits) = ledger.take_findings();
        drop(ledger);
        let mut inner = self.inner();
        for hit in hits {
            inner.coverage.hit(hit);
        }
        if inner.violation.is_none() {
            inner.violation = violation;
        }
        result
    }

    pub(crate) fn violate(&self, violation: Violation) {
        self.inner().violation.get_or_insert(violation);
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.inner().violation.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn has_bug(&self, bug: Bug) -> bool {
        self.options.bug == Some(bug)
    }

    /// Whether a fault strikes now.
    pub(crate) fn strikes(&self, fault: Fault) -> bool {
        self.strikes_at(fault, self.options.rate(fault))
    }

    /// Whether a fault that has few occasions strikes at this one.
    pub(crate) fn strikes_often(&self, fault: Fault) -> bool {
        let rate = if self.options.rate(fault) > 0 { 600 } else { 0 };
        self.strikes_at(fault, rate)
    }

    fn strikes_at(&self, fault: Fault, rate: u32) -> bool {
        let mut inner = self.inner();
        let strikes = rate > 0 && !inner.healed && inner.rng.chance(rate);
        if strikes {
            inner.coverage.hit(&fault.name());
        }
        strikes
    }

    pub(crate) fn hit(&self, what: &str) {
        self.inner().coverage.hit(what);
    }

    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.inner().rng.between(low, high)
    }

    pub(crate) fn heal(&self) {
        let mut inner = self.inner();
        inner.healed = true;
        inner.disk_full_until = Timestamp(0);
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.inner().healed
    }

    pub(crate) fn fill_disk(&self, until: Timestamp) {
        self.inner().disk_full_until = until;
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        let now = self.now();
        self.inner().disk_full_until > now
    }

    /// Some server that is up.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let mut inner = self.inner();
        let up: Vec<Handle> = inner.handles.iter().flatten().cloned().collect();
        let place = if up.len() > 1 {
            inner.rng.index(up.len())
        } else {
            0
        };
        up.into_iter().nth(place)
    }

    /// The handle of one server, if it is up.
    pub(crate) fn handle_of(&self, server: usize) -> Option<Handle> {
        self.inner().handles.get(server).cloned().flatten()
    }

    pub(crate) fn set_handle(&self, server: usize, handle: Option<Handle>) {
        let mut inner = self.inner();
        if handle.is_none()
            && let Some(ears) = inner.hints.get_mut(server)
        {
            *ears = None;
        }
        if let Some(place) = inner.handles.get_mut(server) {
            *place = handle;
        }
    }

    /// What a server hears from now on of what others store.
    pub(crate) fn listen(&self, server: usize) -> mpsc::Receiver<Hint> {
        let (hints, heard) = mpsc::channel(64);
        if let Some(ears) = self.inner().hints.get_mut(server) {
            *ears = Some(hints);
        }
        heard
    }

    /// Tells other servers than this one; false if there is nobody to tell.
    pub(crate) fn tell(&self, from: Option<usize>, hint: Hint) -> bool {
        let lost = self.strikes(Fault::HintLost);
        let inner = self.inner();
        let others = inner
            .hints
            .iter()
            .enumerate()
            .filter(|(server, _)| Some(*server) != from);
        let mut told = false;
        for ears in others.filter_map(|(_, ears)| ears.as_ref()) {
            told = true;
            if !lost {
                // One that is far behind looks at everything soon.
                let _ = ears.try_send(hint);
            }
        }
        told
    }

    /// Lets a server look at everything; false once it has gone.
    pub(crate) fn remind(&self, server: usize) -> bool {
        let inner = self.inner();
        let ears = inner.hints.get(server).and_then(Option::as_ref);
        ears.is_some_and(|ears| !matches!(ears.try_send(Hint::Missed), Err(TrySendError::Closed(_))))
    }

    /// The lease as the store has it.
    pub(crate) fn lease<T>(&self, look: impl FnOnce(&mut LeaseRow) -> T) -> T {
        look(&mut self.inner().lease)
    }

    /// Notes that something happened.
    pub(crate) fn trace(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        let mut inner = self.inner();
        inner.traced += 1;
        if self.options.trace {
            let line = format!("{:>10} {}", now.0 - super::simulation::START.0, line());
            for byte in line.bytes() {
                inner.hash = (inner.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            inner.trace.push(line);
        }
    }

    /// The number of things that happened, their hash, their lines and the counts.
    pub(crate) fn take_trace(&self) -> (u64, u64, Vec<String>, Coverage) {
        let mut inner = self.inner();
        let (lines, coverage) = (
            std::mem::take(&mut inner.trace),
            std::mem::take(&mut inner.coverage),
        );
        (inner.traced, inner.hash, lines, coverage)
    }

    pub(crate) async fn sleep(&self, length: Millis) {
        self.clock.sleep_until(self.now() + length).await;
    }

    /// Some time passes, or only a turn, or nothing.
    pub(crate) async fn pause(&self) {
        let kind = self.between(0, 9);
        match kind {
            0..=3 => {}
            4..=6 => {
                for _ in 0..kind - 3 {
                    yield_now().await;
                }
            }
            _ => self.sleep(Millis(self.between(1, 40))).await,
        }
    }

    /// The store gives up what a server that does not answer was writing.
    pub(crate) fn abandon(&self, server: usize) {
        let waiting = {
            let mut inner = self.inner();
            inner.writes.retain(|_, writer| *writer != Some(server));
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Takes a place in the queue of writes.
    pub(crate) fn enter(self: &Arc<Self>, server: Option<usize>) -> Turn {
        let mut inner = self.inner();
        inner.next_write += 1;
        let number = inner.next_write;
        inner.writes.insert(number, server);
        Turn {
            world: Arc::clone(self),
            number,
        }
    }
}

impl Turn {
    /// Waits until every earlier write is done or given up; false if this one was given up.
    pub(crate) async fn come(&self) -> bool {
        poll_fn(|context| {
            let mut inner = self.world.inner();
            if !inner.writes.contains_key(&self.number) {
                Poll::Ready(false)
            } else if inner.writes.first_key_value().map(|(first, _)| *first) == Some(self.number) {
                Poll::Ready(true)
            } else {
                inner.waiting.push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let waiting = {
            let mut inner = self.world.inner();
            inner.writes.remove(&self.number);
            std::mem::take(&mut inner.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
