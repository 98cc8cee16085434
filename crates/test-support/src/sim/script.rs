//! What people, forges and fate do in a simulation: drawn beforehand, so that acts can be left out one by one.

use pipekeeper_model::{Millis, Timestamp};

use super::{Fault, Options, rng::Rng};

/// One act at its time; salts are resolved against the state at that time.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
    pub(crate) salt: u64,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Deliver { push: u64 },
    Create { push: u64 },
    Approve,
    ApproveLate,
    ApproveOther,
    Reject,
    Press,
    Cancel,
    Retry,
    Crash,
    Restart,
    FillDisk,
    Pause,
}

/// The acts of a simulation, in order.
pub(crate) fn draw(options: &Options, start: Timestamp) -> Vec<Act> {
    let mut rng = Rng::derived(options.seed, &[6]);
    let mut at = start;
    let mut acts = Vec::new();
    for number in 0..options.acts {
        at = at + Millis(rng.pick(0, &[50, 1_500, 10_000, 60_000, 900_000]));
        let what = what(options, &mut rng, number);
        let salt = rng.next();
        if !options.dropped.contains(&number) {
            acts.push(Act { at, what, salt });
        }
    }
    acts
}

fn what(options: &Options, rng: &mut Rng, number: u32) -> What {
    let push = u64::from(number);
    if number == 0 {
        return if rng.chance(500) || options.is_slow() {
            What::Create { push }
        } else {
            What::Deliver { push }
        };
    }
    // An earlier push again, under another id.
    let again = rng.below(push);
    let repeated = rng.chance(options.rate(Fault::PushTwice));
    let fate = |fault: Fault, what: What| (options.rate(fault) > 0).then_some(what);
    if repeated && !options.is_slow() {
        return What::Deliver { push: again };
    }
    let drawn = match rng.below(100) {
        0..=15 => Some(What::Deliver { push }),
        16..=27 => Some(What::Create { push }),
        28..=51 => Some(What::Approve),
        52..=54 => Some(What::ApproveLate),
        55..=57 => Some(What::ApproveOther),
        58..=61 => Some(What::Reject),
        62..=71 => Some(What::Press),
        72..=77 => Some(What::Cancel),
        78..=84 => Some(What::Retry),
        85..=90 => fate(Fault::Crash, What::Crash),
        91..=92 => fate(Fault::Restart, What::Restart),
        93..=95 => fate(Fault::Pause, What::Pause),
        _ => fate(Fault::DiskFull, What::FillDisk),
    };
    drawn.unwrap_or(What::Approve)
}
