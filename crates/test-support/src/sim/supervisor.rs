//! One simulated supervisor: it checks in, obeys its ticket once, runs for a while and ends in one way or another.

use std::{collections::BTreeMap, sync::Arc};

use pipekeeper_backend::What;
use pipekeeper_controller::Clock as _;
use pipekeeper_model::{AttemptId, AttemptOutcome, AttemptRecord, Holder, Millis};
use tokio::sync::mpsc;

use super::{Bug, Fault, backend::Site, intake::CANARY, rng::Rng, world::World};

/// What a supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mail {
    Go,
    Exit,
    Stop,
}

/// Where a supervisor stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    Starting,
    CheckedIn,
    Running,
    Ended(Box<AttemptRecord>),
    Gone,
}

/// What an attempt does, drawn from its id.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    pub(crate) refused: bool,
    pub(crate) second: bool,
    check_in: Option<Millis>,
    repeats: u64,
    breaks_early: bool,
    length: Option<Millis>,
    vanishes: bool,
    tells_vanishing: bool,
    outcome: AttemptOutcome,
    ignores_stop: bool,
    claims_success: bool,
}

impl Play {
    pub(crate) fn draw(world: &World, attempt: AttemptId, timeout: Millis) -> Self {
        let salts = [
            3,
            attempt.run.0,
            u64::from(attempt.node.0),
            u64::from(attempt.number),
        ];
        let mut rng = Rng::derived(world.options.seed, &salts);
        let healed = world.is_healed();
        let strikes = |fault: Fault, rng: &mut Rng| {
            let strikes = rng.chance(world.options.rate(fault)) && !healed;
            if strikes {
                world.hit(&fault.name());
            }
            strikes
        };
        let never = strikes(Fault::NeverChecksIn, &mut rng);
        let check_in = match (never, rng.below(3)) {
            (true, 0) => Some(Millis::minutes(11)),
            (true, _) => None,
            (false, _) => Some(Millis(rng.between(0, 3_000))),
        };
        let hangs = strikes(Fault::Hangs, &mut rng);
        let natural = Millis(rng.pick(10, &[500, 5_000, 60_000, 900_000]));
        let (length, outcome) = match rng.below(10) {
            0..=6 => (natural, AttemptOutcome::Succeeded),
            7..=8 => (natural, AttemptOutcome::Failed),
            _ => (natural, AttemptOutcome::Errored),
        };
        let (length, outcome) = if length > timeout {
            (timeout, AttemptOutcome::TimedOut)
        } else {
            (length, outcome)
        };
        Self {
            refused: strikes(Fault::LaunchRefused, &mut rng),
            second: strikes(Fault::SecondHolder, &mut rng),
            check_in,
            repeats: rng.below(3),
            breaks_early: strikes(Fault::BreaksEarly, &mut rng),
            length: (!hangs).then_some(length),
            vanishes: strikes(Fault::Vanishes, &mut rng),
            tells_vanishing: rng.chance(500),
            outcome,
            ignores_stop: strikes(Fault::StopIgnored, &mut rng),
            claims_success: strikes(Fault::ForeignRecord, &mut rng),
        }
    }
}

impl Play {
    /// The second supervisor of an attempt has a clock of its own, and a will of its own.
    pub(crate) fn be_number(&mut self, number: u64) {
        if number > 0 {
            self.check_in = self.check_in.map(|length| Millis(length.0 * 7 % 4_000));
            self.breaks_early = false;
        }
    }
}

/// One supervisor at work.
pub(crate) struct Supervisor {
    pub(crate) site: Arc<Site>,
    pub(crate) attempt: AttemptId,
    pub(crate) holder: Holder,
    pub(crate) play: Play,
    pub(crate) mail: mpsc::UnboundedReceiver<Mail>,
}

enum Heard {
    Mail(Mail),
    Time,
}

impl Supervisor {
    pub(crate) async fn work(mut self) {
        if self.starts().await && self.gets_ticket().await {
            self.runs().await;
        }
    }

    /// Until it checks in.
    async fn starts(&mut self) -> bool {
        loop {
            match (self.hear(self.play.check_in).await, self.play.breaks_early) {
                (Heard::Mail(Mail::Go), _) => {}
                (Heard::Mail(Mail::Stop | Mail::Exit), _) => return self.goes("it was stopped"),
                (Heard::Time, true) => return self.ends(AttemptOutcome::Errored, false),
                (Heard::Time, false) => break,
            }
        }
        self.site.set(self.attempt, &self.holder, Phase::CheckedIn);
        self.checks_in();
        true
    }

    /// Until it may start user code; it never does otherwise.
    async fn gets_ticket(&mut self) -> bool {
        let mut repeats = self.play.repeats;
        loop {
            let again = (repeats > 0).then(|| Millis(self.site.world.between(10, 20_000)));
            match self.hear(again).await {
                Heard::Mail(Mail::Go) => return true,
                Heard::Mail(Mail::Exit) if self.play.claims_success => {
                    return self.ends(AttemptOutcome::Succeeded, false);
                }
                Heard::Mail(Mail::Exit) => return self.goes("it was refused its ticket"),
                Heard::Mail(Mail::Stop) => return self.goes("it was stopped before it started"),
                Heard::Time => {
                    repeats -= 1;
                    self.checks_in();
                }
            }
        }
    }

    async fn runs(&mut self) {
        let world = Arc::clone(&self.site.world);
        world.trace(|| format!("{}: user code starts for {}", self.attempt, self.holder));
        self.site.set(self.attempt, &self.holder, Phase::Running);
        world.check(|ledger| ledger.started(self.attempt, &self.holder));
        self.site.tell(self.attempt, What::StepStarted { step: 0 });
        let ends_at = self.play.length.map(|length| world.now() + length);
        loop {
            let left = ends_at.map(|at| at.since(world.now()));
            match self.hear(left).await {
                Heard::Mail(Mail::Go | Mail::Exit) => {}
                Heard::Mail(Mail::Stop) if self.play.ignores_stop && !world.is_healed() => {}
                Heard::Mail(Mail::Stop) => {
                    world.sleep(Millis(world.between(0, 10_000))).await;
                    self.ends(AttemptOutcome::Cancelled, true);
                    return;
                }
                Heard::Time if self.play.vanishes => {
                    if self.play.tells_vanishing {
                        self.goes("its host is gone");
                    } else {
                        self.site.set(self.attempt, &self.holder, Phase::Gone);
                    }
                    return;
                }
                Heard::Time => {
                    self.ends(self.play.outcome, true);
                    return;
                }
            }
        }
    }

    /// Waits for mail, for at most so long.
    async fn hear(&mut self, at_most: Option<Millis>) -> Heard {
        let clock = self.site.world.clock.clone();
        let until = at_most.map(|length| clock.now() + length);
        let time = async {
            match until {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            mail = self.mail.recv() => mail.map_or(Heard::Mail(Mail::Stop), Heard::Mail),
            () = time => Heard::Time,
        }
    }

    fn checks_in(&self) {
        let holder = self.holder.clone();
        self.site.tell(self.attempt, What::CheckedIn { holder });
    }

    fn goes(&self, reason: &str) -> bool {
        self.site.set(self.attempt, &self.holder, Phase::Gone);
        if self.site.is_gone(self.attempt) {
            let reason = reason.to_owned();
            self.site.tell(self.attempt, What::Gone { reason });
        }
        false
    }

    fn ends(&self, outcome: AttemptOutcome, started: bool) -> bool {
        let now = self.site.world.now();
        let mut record = AttemptRecord::without_steps(outcome, "the play says so", now);
        if outcome == AttemptOutcome::Succeeded {
            record.reason = None;
            record.outputs = BTreeMap::from([("k".to_owned(), self.attempt.to_string().into())]);
            if self.site.world.has_bug(Bug::SecretTold) {
                record.outputs.insert("s".to_owned(), CANARY.into());
            }
        }
        if started {
            self.site
                .world
                .check(|ledger| ledger.recorded(self.attempt, &self.holder, outcome));
        }
        let record = Box::new(record);
        self.site
            .set(self.attempt, &self.holder, Phase::Ended(record.clone()));
        let holder = self.holder.clone();
        self.site.tell(self.attempt, What::Finished { holder, record });
        false
    }
}
