//! One simulation from its first act to its rest. Entry: [`simulate`].

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_controller::{Controller, EngineRules, Layout, Ports, Rules};
use pipekeeper_model::{Millis, Timestamp};
use pipekeeper_store::{MemoryStore, Store as _};

use super::{
    Coverage, Fault, Options,
    backend::{SimBackend, Site},
    bugs::BrokenRules,
    clock::SimClock,
    executor::{Executor, TaskId},
    intake::{SimIntake, SimPeople, SimSupplies},
    rng::Rng,
    script::{self, Act, What},
    store::SimStore,
    users,
    world::World,
};

/// When every simulation starts: a Monday morning.
pub(crate) const START: Timestamp = Timestamp(1_767_603_600_000);
/// More steps than this without the clock moving are a loop.
const STEPS_AT_ONCE: u64 = 100_000;
/// How long deliveries and people may take after the faults stopped.
const SETTLING: Millis = Millis::minutes(40);
/// How long the controller may take to tidy up: three of its sweeps.
const TIDYING: Millis = Millis::minutes(17);

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What was seen.
    pub text: String,
}

/// How a simulation went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first violation, if there was one.
    pub violation: Option<Violation>,
    /// How many steps the tasks took.
    pub steps: u64,
    /// How many things happened.
    pub happened: u64,
    /// A hash over all that happened; meaningful with `trace`.
    pub hash: u64,
    /// All that happened, with `trace`.
    pub lines: Vec<String>,
    /// What happened how often.
    pub coverage: Coverage,
}

/// Runs one simulation.
pub fn simulate(options: &Options) -> Report {
    let mut simulation = Simulation::new(options.clone());
    simulation.live();
    let (happened, hash, lines, coverage) = simulation.world.take_trace();
    Report {
        violation: simulation.world.violation(),
        steps: simulation.steps,
        happened,
        hash,
        lines,
        coverage,
    }
}

struct Simulation {
    world: Arc<World>,
    store: MemoryStore,
    site: Arc<Site>,
    executor: Executor,
    server: Option<TaskId>,
    boot_at: Option<Timestamp>,
    crash_in: Option<u64>,
    steps: u64,
}

impl Simulation {
    fn new(options: Options) -> Self {
        let rng = Rng::derived(options.seed, &[7]);
        let world = Arc::new(World::new(options, SimClock::new(START)));
        Self {
            executor: Executor::new(rng, world.spawner.clone()),
            site: Arc::new(Site::new(Arc::clone(&world))),
            store: MemoryStore::new(),
            server: None,
            boot_at: Some(START),
            crash_in: None,
            steps: 0,
            world,
        }
    }

    fn live(&mut self) {
        let acts = script::draw(&self.world.options, START + Millis(10));
        for act in acts {
            self.run_until(act.at);
            if self.world.violation().is_some() {
                return;
            }
            self.act(&act);
        }
        self.run_for(Millis(self.world.between(0, 1_200_000)));
        self.world.heal();
        self.crash_in = None;
        if self.boot_at.is_some() {
            self.boot_at = Some(self.world.now());
        }
        self.world.trace(|| "healed".to_owned());
        self.run_for(SETTLING);
        self.drain();
        self.run_for(TIDYING);
        self.rest();
    }

    fn act(&mut self, act: &Act) {
        let is_slow = self.world.options.is_slow();
        self.world.trace(|| format!("act: {:?}", act.what));
        match act.what {
            What::Crash => self.crash_in = Some(act.salt % 60),
            What::Restart => self.drain_server(),
            What::FillDisk => {
                let until = self.world.now() + Millis(act.salt % 300_000);
                self.world.fill_disk(until);
            }
            What::Deliver { push } if is_slow => {
                users::act(&self.world, &self.store, What::Create { push }, act.salt);
            }
            What::Deliver { .. }
            | What::Create { .. }
            | What::Approve
            | What::ApproveLate
            | What::ApproveOther
            | What::Reject
            | What::Press
            | What::Cancel
            | What::Retry => users::act(&self.world, &self.store, act.what, act.salt),
        }
    }

    fn boot(&mut self) {
        self.world.trace(|| "the server starts".to_owned());
        let rules: Arc<dyn Rules> = match self.world.options.bug {
            Some(bug) => Arc::new(BrokenRules(bug)),
            None => Arc::new(EngineRules),
        };
        let intake: Option<Arc<dyn pipekeeper_controller::Intake>> = if self.world.options.is_slow() {
            None
        } else {
            Some(Arc::new(SimIntake {
                world: Arc::clone(&self.world),
                store: self.store.clone(),
            }))
        };
        let ports = Ports {
            store: Arc::new(SimStore {
                inner: self.store.clone(),
                world: Arc::clone(&self.world),
            }),
            backend: Arc::new(SimBackend {
                site: Arc::clone(&self.site),
                features: BTreeSet::new(),
            }),
            observations: self.site.connect(),
            supplies: Arc::new(SimSupplies {
                world: Arc::clone(&self.world),
            }),
            intake,
            people: Arc::new(SimPeople {
                world: Arc::clone(&self.world),
            }),
            clock: Arc::new(self.world.clock.clone()),
            rules,
            layout: Layout::new("/nowhere"),
            cache_quota: None,
            cache_stores: Vec::new(),
        };
        let (controller, handle) = Controller::new(ports);
        self.world.set_handle(Some(handle));
        let world = Arc::clone(&self.world);
        self.server = Some(self.executor.spawn(Box::pin(async move {
            let ended = controller.run().await;
            world.trace(|| format!("the server ends: {ended:?}"));
        })));
    }

    fn crash(&mut self) {
        let Some(server) = self.server.take() else { return };
        self.world.trace(|| "the server dies".to_owned());
        self.world.hit(&Fault::Crash.name());
        // Its last writes see that nobody lives to hear of them.
        self.world.set_handle(None);
        self.executor.kill(server);
        self.boot_later();
    }

    fn boot_later(&mut self) {
        let pause = match self.world.between(0, 3) {
            0 => 0,
            1 => 1_000,
            2 => 60_000,
            _ => 1_200_000,
        };
        self.boot_at = Some(self.world.now() + Millis(pause));
    }

    fn drain_server(&mut self) {
        if let Some(handle) = self.world.handle() {
            self.world.hit(&Fault::Restart.name());
            self.world.spawner.spawn(async move { handle.drain().await });
        }
    }

    fn run_for(&mut self, length: Millis) {
        self.run_until(self.world.now() + length);
    }

    /// Lets everything happen up to a moment.
    fn run_until(&mut self, limit: Timestamp) {
        let mut at_once = 0;
        while self.world.violation().is_none() {
            self.look_after_server();
            if self.executor.step().is_some() {
                self.steps += 1;
                at_once += 1;
                if at_once > STEPS_AT_ONCE {
                    let text = "the clock does not move any more".to_owned();
                    return self.world.violate(Violation {
                        invariant: "I5",
                        text,
                    });
                }
                continue;
            }
            at_once = 0;
            let next = self.boot_at.map_or(limit, |at| at.min(limit));
            if !self.world.clock.jump(next) {
                self.world.clock.set(next);
                if next == limit {
                    break;
                }
            }
        }
    }

    fn look_after_server(&mut self) {
        if self.boot_at.is_some_and(|at| at <= self.world.now()) {
            self.boot_at = None;
            self.boot();
        }
        match &mut self.crash_in {
            Some(0) => {
                self.crash_in = None;
                self.crash();
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if let Some(server) = self.server
            && !self.executor.is_alive(server)
        {
            self.server = None;
            self.world.set_handle(None);
            self.boot_later();
        }
    }

    /// After the faults: everything ends within its deadlines.
    fn drain(&mut self) {
        let left = self.world.check(|ledger| ledger.time_left());
        let limit = self.world.now() + left;
        while self.world.violation().is_none() {
            let open: Vec<_> = self
                .world
                .check(|ledger| ledger.open_runs().map(|book| book.words()).collect());
            if open.is_empty() {
                break;
            }
            if self.world.now() > limit {
                let text = format!("after all deadlines, these runs have not ended: {open:?}");
                return self.world.violate(Violation {
                    invariant: "I5",
                    text,
                });
            }
            if !self.world.options.is_slow() {
                users::tidy(&self.world);
            }
            self.run_for(Millis::minutes(10));
        }
    }

    /// At rest nothing is left over.
    fn rest(&mut self) {
        let left = async {
            let effects = self.store.effects(None, u32::MAX).await;
            let deliveries = self.store.deliveries(None, None, u32::MAX).await;
            (effects, deliveries)
        };
        let mut left = std::pin::pin!(left);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // The memory store answers at once.
        let std::task::Poll::Ready((Ok(effects), Ok(deliveries))) = left.as_mut().poll(&mut context) else {
            return;
        };
        let known = self.site.known();
        if self.world.violation().is_none() {
            self.world
                .check(|ledger| ledger.rest(&known, &effects, &deliveries));
        }
    }
}
