//! Seeds: the controller's own loop in many worlds, every invariant checked after every step.

mod common;

use pipekeeper_test_support::sim::{Coverage, Fault, Options};

fn part(number: u64) {
    for seed in (number..common::count()).step_by(8) {
        common::run(&Options::draw(seed));
    }
}

macro_rules! parts {
    ($($name:ident = $number:literal),*) => { $(
        #[test]
        fn $name() {
            part($number);
        }
    )* };
}

parts!(
    part_0 = 0,
    part_1 = 1,
    part_2 = 2,
    part_3 = 3,
    part_4 = 4,
    part_5 = 5,
    part_6 = 6,
    part_7 = 7
);

/// A simulation that is not deterministic could not be repeated: the same seed must take the same steps.
#[test]
fn the_same_seed_takes_the_same_steps() {
    for seed in 0..40 {
        let mut options = Options::draw(seed);
        options.trace = true;
        let (first, second) = (common::run(&options), common::run(&options));
        assert_eq!(first.lines, second.lines, "seed {seed}");
        assert_eq!(
            (first.hash, first.steps),
            (second.hash, second.steps),
            "seed {seed}"
        );
    }
}

/// Every failure that was ever found stays found: each file holds options, one a line.
#[test]
fn saved_regressions_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            common::run(&line.parse().unwrap());
            tried += 1;
        }
    }
    assert!(tried > 0, "there are saved regressions");
}

/// What an options line says is what is run.
#[test]
fn options_are_read_back() {
    for seed in 0..200 {
        let options = Options::draw(seed);
        assert_eq!(options.to_string().parse(), Ok(options));
    }
}

/// What must happen sometimes: otherwise no seed says anything about it.
const HAPPENS: [&str; 87] = [
    "fact RunCreated",
    "fact TurnAwaited",
    "fact TurnCame",
    "fact NodeReadied",
    "fact NodeSkipped",
    "fact NodeAdopted",
    "fact StartAwaited",
    "fact StartLooked",
    "fact StartGiven",
    "fact WaitBegan",
    "fact GateOpened",
    "fact GateApproved",
    "fact GateRejected",
    "fact GateVoided",
    "fact GateBypassed",
    "fact AttemptScheduled",
    "fact SearchBegan",
    "fact InputsKnown",
    "fact LaunchHeldUp",
    "fact LaunchWentOn",
    "fact NodeReused",
    "fact TicketGranted",
    "fact StopAsked",
    "fact AttemptFinished",
    "fact NodeFinished",
    "fact RunHalted",
    "fact LocksAwaited",
    "fact LocksTaken",
    "fact LocksReleased",
    "fact CancelBegan",
    "fact FinallyBegan",
    "fact FinallyStopped",
    "fact RunFinished",
    "state AwaitingStart",
    "state AwaitingTime",
    "state Deciding",
    "state Ready",
    "state Running",
    "state Backoff",
    "state Done",
    "state Skipped",
    "guard I1 second holder refused",
    "guard I2 condition judged",
    "guard I2 skipped passes",
    "guard I3 ticket behind a gate",
    "guard I3 ticket behind the gate of an environment",
    "guard I3 ticket in an open window",
    "guard I3 an environment asks",
    "guard I3 a branch is not admitted",
    "guard I3 an environment is not entered",
    "guard I3 a window is waited for",
    "guard I3 a window took an attempt back",
    "guard I3 two approvals",
    "guard I3 two approvals for a stranger",
    "guard I3 a rule names who decides",
    "guard I3 an attempt is withdrawn",
    "guard I3 start confirmed",
    "guard I3 start confirmed by another",
    "guard I3 a retried run asks again",
    "guard I3 late or stale decision refused",
    "guard I4 cancelled",
    "guard I4 finally after cancel",
    "guard I5 start expired",
    "guard I5 gate expired",
    "guard I5 locks expired",
    "guard I5 finally expired",
    "guard I6 replayed",
    "guard I6 snapshot loaded",
    "guard I8 an old holder is refused",
    "guard I8 a server hears that it lost the lease",
    "guard I8 told others",
    "guard I9 success recorded",
    "guard I9 a reused result was reused again",
    "guard I11 all places taken",
    "guard I11 no room is left",
    "guard I11 tried again",
    "guard I11 last free try",
    "guard I11 several hold a lock",
    "guard I11 locks waited for",
    "guard I11 locks given back at a gate",
    "guard I11 locks given back at a window",
    "guard I11 superseded",
    "guard I11 superseded at gate",
    "guard I10 secret handed over",
    "guard I12 nothing left",
    "guard delivery ran",
    "guard delivery duplicate",
];

#[test]
fn everything_happens_sometimes() {
    let faults = Fault::ALL.iter().map(|fault| format!("fault {fault:?}"));
    let wanted: Vec<String> = HAPPENS.iter().map(ToString::to_string).chain(faults).collect();
    let mut coverage = Coverage::default();
    let mut missing = wanted.clone();
    for seed in 0..common::count().max(2_000) {
        coverage.add(&common::run(&Options::draw(seed)).coverage);
        missing.retain(|what| coverage.count(what) == 0);
        if missing.is_empty() {
            return;
        }
    }
    panic!("no seed did any of {missing:?}");
}
