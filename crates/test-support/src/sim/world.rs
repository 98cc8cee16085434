//! What everything in a simulation shares: time, chance, faults, the checker's book and the trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use pipekeeper_controller::{Clock as _, Handle};
use pipekeeper_model::{Millis, Timestamp};

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
    handle: Option<Handle>,
    violation: Option<Violation>,
    coverage: Coverage,
    trace: Vec<String>,
    traced: u64,
    hash: u64,
    next_write: u64,
    writes: BTreeSet<u64>,
    waiting: Vec<Waker>,
}

/// A write's place in the one writer's queue; dropping it gives the place up.
pub(crate) struct Turn {
    world: Arc<World>,
    number: u64,
}

impl World {
    pub(crate) fn new(options: Options, clock: SimClock) -> Self {
        let seed = options.seed;
        let inner = Inner {
            rng: Rng::derived(options.seed, &[2]),
            healed: false,
            disk_full_until: clock.now(),
            handle: None,
            violation: None,
            coverage: Coverage::default(),
            trace: Vec::new(),
            traced: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            next_write: 0,
            writes: BTreeSet::new(),
            waiting: Vec::new(),
        };
        Self {
            options,
            clock,
            spawner: Spawner::default(),
            inner: Mutex::new(inner),
            ledger: Mutex::new(Ledger::new(People::of(seed))),
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

    pub(crate) fn handle(&self) -> Option<Handle> {
        self.inner().handle.clone()
    }

    pub(crate) fn set_handle(&self, handle: Option<Handle>) {
        self.inner().handle = handle;
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

    /// Takes a place in the queue of writes.
    pub(crate) fn enter(self: &Arc<Self>) -> Turn {
        let mut inner = self.inner();
        inner.next_write += 1;
        let number = inner.next_write;
        inner.writes.insert(number);
        Turn {
            world: Arc::clone(self),
            number,
        }
    }
}

impl Turn {
    /// Waits until every earlier write is done or given up.
    pub(crate) async fn come(&self) {
        poll_fn(|context| {
            let mut inner = self.world.inner();
            if inner.writes.first() == Some(&self.number) {
                Poll::Ready(())
            } else {
                inner.waiting.push(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
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
