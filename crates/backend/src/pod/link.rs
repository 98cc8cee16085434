//! How a lane stands to its pod's supervisor, and when it tries to reach it. Entry type: [`Link`].

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::wire::Wire;

/// The pauses of the tries before anybody said that the supervisor runs; more would only cost the cluster.
const EARLY: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(40),
    Duration::from_millis(40),
    Duration::from_millis(60),
    Duration::from_millis(100),
    Duration::from_millis(200),
];
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The stream, or the wish for it.
pub(super) enum Link {
    /// Nothing to reach.
    Down,
    /// There is a pod; the next try is at `next`, if anything but news from the cluster shall cause one.
    Awaited(Tries),
    /// A stream is being opened.
    Opening(Tries),
    /// It is there.
    Up(Wire),
    /// It was given up for others until then; the supervisor works on.
    Parked(Instant),
}

/// The tries so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tries {
    count: usize,
    /// Whether the supervisor is known to run: then only trouble keeps a stream from opening.
    runs: bool,
    next: Option<Instant>,
}

impl Tries {
    /// For a pod that was created now, whose supervisor usually runs after `usual`.
    pub(super) fn early(usual: Duration) -> Self {
        Self {
            count: 0,
            runs: false,
            next: Some(Instant::now() + usual),
        }
    }

    /// For a supervisor that runs.
    pub(super) fn at_once() -> Self {
        Self {
            count: 0,
            runs: true,
            next: Some(Instant::now()),
        }
    }

    /// For a supervisor that runs and can wait.
    pub(super) fn later() -> Self {
        Self {
            next: Some(Instant::now() + LONGEST_PAUSE),
            ..Self::at_once()
        }
    }

    /// How many there were.
    pub(super) fn count(self) -> usize {
        self.count
    }

    /// Whether only trouble can keep a stream from opening.
    pub(super) fn knows_it_runs(self) -> bool {
        self.runs
    }

    /// After one that did not work.
    pub(super) fn failed(self) -> Self {
        let count = self.count + 1;
        let pause = if self.runs {
            let doubled =
                FIRST_PAUSE * 2_u32.saturating_pow(u32::try_from(count).unwrap_or(u32::MAX).min(10));
            Some(jittered(doubled.min(LONGEST_PAUSE)))
        } else {
            EARLY.get(count).copied()
        };
        Self {
            count,
            next: pause.map(|pause| Instant::now() + pause),
            ..self
        }
    }

    /// Once the cluster says that the supervisor runs.
    pub(super) fn now_runs(self) -> Self {
        if self.runs { self } else { Self::at_once() }
    }
}

/// Between half of a pause and all of it: whoever lost a stream at the same moment does not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let drawn = RandomState::new().hash_one(pause);
    pause / 2 + (pause / 2).mul_f64(drawn as f64 / u64::MAX as f64)
}

/// What a link has to say.
pub(super) enum Said {
    /// A frame, or the end of the stream.
    Frame(Option<pipekeeper_agent::protocol::Incoming>),
    /// It is time to try.
    TimeToOpen,
}

impl Link {
    /// Given up for others for about so long.
    pub(super) fn parked(pause: Duration) -> Self {
        Self::Parked(Instant::now() + jittered(pause))
    }

    /// Something happened that may be worth a stream.
    pub(super) fn wake(&mut self) {
        if let Self::Parked(_) = self {
            *self = Self::Awaited(Tries::at_once());
        }
    }

    /// What happens next; may be dropped and called again.
    pub(super) async fn next(&mut self) -> Said {
        match self {
            Self::Down | Self::Opening(_) | Self::Awaited(Tries { next: None, .. }) => {
                std::future::pending().await
            }
            Self::Awaited(Tries { next: Some(next), .. }) => {
                sleep_until(*next).await;
                Said::TimeToOpen
            }
            Self::Parked(until) => {
                sleep_until(*until).await;
                Said::TimeToOpen
            }
            Self::Up(wire) => Said::Frame(wire.next().await),
        }
    }
}
