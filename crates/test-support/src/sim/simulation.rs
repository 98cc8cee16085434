//! One simulation from its first act to its rest. Entry: [`simulate`].

use std::{collections::BTreeSet, sync::Arc};

use pipekeeper_controller::{Controller, Ending, EngineRules, Layout, Pace, Ports, Rules, Sharing};
use pipekeeper_model::{Millis, Timestamp};
use pipekeeper_store::{Lease as _, MemoryStore, Store as _};

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

/// The times of a lease here: longer than in earnest, so that long simulations are not made of renewals.
const PACE: Pace = Pace {
    length: Millis::seconds(60),
    renew_every: Millis::seconds(20),
    ask_every: Millis::seconds(15),
};

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
    servers: Vec<Server>,
    crash_in: Option<(u64, usize)>,
    steps: u64,
}

/// The place of a server.
#[derive(Clone, Default)]
struct Server {
    task: Option<TaskId>,
    boot_at: Option<Timestamp>,
    wakes_at: Option<Timestamp>,
}

impl Simulation {
    fn new(options: Options) -> Self {
        let rng = Rng::derived(options.seed, &[7]);
        let servers = options.servers.max(1) as usize;
        let world = Arc::new(World::new(options, SimClock::new(START)));
        Self {
            executor: Executor::new(rng, world.spawner.clone()),
            site: Arc::new(Site::new(Arc::clone(&world))),
            store: MemoryStore::new(),
            servers: vec![
                Server {
                    boot_at: Some(START),
                    ..Server::default()
                };
                servers
            ],
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
        let now = self.world.now();
        for server in &mut self.servers {
            for time in [&mut server.boot_at, &mut server.wakes_at].into_iter().flatten() {
                *time = now;
            }
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
            What::Crash => self.crash_in = Some((act.salt % 60, self.any_server(act.salt / 64))),
            What::Restart => self.drain_server(self.any_server(act.salt)),
            What::Pause => self.pause(self.any_server(act.salt), Millis(act.salt / 64 % 300_000)),
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

    /// One server, or another.
    fn any_server(&self, salt: u64) -> usize {
        let count = u64::try_from(self.servers.len()).unwrap_or(1);
        usize::try_from(salt % count).unwrap_or_default()
    }

    fn boot(&mut self, place: usize) {
        self.world.trace(|| format!("server {place} starts"));
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
        let store = SimStore::of(self.store.clone(), &self.world, place);
        let sharing = (self.servers.len() > 1).then(|| Sharing {
            lease: Arc::new(store.clone()),
            hints: store.hints(),
            name: place.to_string(),
            pace: PACE,
        });
        let ports = Ports {
            store: Arc::new(store),
            sharing,
            backend: Arc::new(SimBackend {
                site: Arc::clone(&self.site),
                features: BTreeSet::new(),
            }),
            observations: self.site.connect(place),
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
            upkeep: None,
            cache_quota: None,
            outer_locks: None,
            cache_stores: Vec::new(),
        };
        let (controller, handle) = Controller::new(ports);
        self.world.set_handle(place, Some(handle));
        let world = Arc::clone(&self.world);
        let task = self.executor.spawn(Box::pin(async move {
            let ended = controller.run().await;
            if matches!(ended, Ok(Ending::LeaseLost)) {
                world.hit("guard I8 a server hears that it lost the lease");
            }
            world.trace(|| format!("server {place} ends: {ended:?}"));
        }));
        if let Some(server) = self.servers.get_mut(place) {
            server.task = Some(task);
        }
    }

    fn crash(&mut self, place: usize) {
        let task = self.servers.get_mut(place).and_then(|server| server.task.take());
        let Some(task) = task else { return };
        self.world.trace(|| format!("server {place} dies"));
        self.world.hit(&Fault::Crash.name());
        // Its last writes see that nobody lives to hear of them.
        self.world.set_handle(place, None);
        self.executor.kill(task);
        self.boot_later(place);
    }

    /// A server sleeps; the store does not wait for it.
    fn pause(&mut self, place: usize, length: Millis) {
        let now = self.world.now();
        let Some(server) = self.servers.get_mut(place) else {
            return;
        };
        let Some(task) = server.task else { return };
        server.wakes_at = Some(now + length);
        self.world
            .trace(|| format!("server {place} sleeps for {} ms", length.0));
        self.world.hit(&Fault::Pause.name());
        self.executor.pause(task);
        self.world.abandon(place);
    }

    fn boot_later(&mut self, place: usize) {
        let pause = match self.world.between(0, 3) {
            0 => 0,
            1 => 1_000,
            2 => 60_000,
            _ => 1_200_000,
        };
        let at = self.world.now() + Millis(pause);
        if let Some(server) = self.servers.get_mut(place) {
            *server = Server {
                boot_at: Some(at),
                ..Server::default()
            };
        }
    }

    fn drain_server(&mut self, place: usize) {
        if let Some(handle) = self.world.handle_of(place) {
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
            self.look_after_servers();
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
            let times = self
                .servers
                .iter()
                .flat_map(|server| [server.boot_at, server.wakes_at]);
            let next = times.flatten().fold(limit, Timestamp::min);
            if !self.world.clock.jump(next) {
                self.world.clock.set(next);
                if next == limit {
                    break;
                }
            }
        }
    }

    fn look_after_servers(&mut self) {
        let now = self.world.now();
        match &mut self.crash_in {
            Some((0, place)) => {
                let place = *place;
                self.crash_in = None;
                self.crash(place);
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        for place in 0..self.servers.len() {
            let Some(server) = self.servers.get_mut(place) else {
                continue;
            };
            if server.wakes_at.is_some_and(|at| at <= now) {
                server.wakes_at = None;
                if let Some(task) = server.task {
                    self.executor.go_on(task);
                }
            }
            let has_ended = server.task.is_some_and(|task| !self.executor.is_alive(task));
            let is_due = server.boot_at.is_some_and(|at| at <= now);
            if is_due {
                server.boot_at = None;
                self.boot(place);
            } else if has_ended {
                self.world.set_handle(place, None);
                self.boot_later(place);
            }
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
