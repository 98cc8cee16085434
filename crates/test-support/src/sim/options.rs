//! What one simulation is made of: everything is drawn from its seed, and can be written in one line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroUsize,
    str::FromStr,
};

use thiserror::Error;

use super::{bugs::Bug, rng::Rng};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A store call fails before it did anything.
    StoreFails,
    /// A write is done and its reply is lost.
    StoreLosesReply,
    /// A store call takes seconds.
    StoreIsSlow,
    /// No write works for a while.
    DiskFull,
    /// A dead server's write lands after its death.
    LateWrite,
    /// The server dies between two steps.
    Crash,
    /// The server is asked to end and is started again.
    Restart,
    /// A launch fails for now.
    LaunchFails,
    /// A launch works and says that it did not.
    LaunchLosesReply,
    /// A launch fails for good.
    LaunchRefused,
    /// A supervisor never asks for its ticket, or far too late.
    NeverChecksIn,
    /// Two supervisors ask for one attempt's ticket.
    SecondHolder,
    /// A supervisor breaks before its ticket.
    BreaksEarly,
    /// An attempt vanishes.
    Vanishes,
    /// An attempt does not end by itself.
    Hangs,
    /// A supervisor without a ticket claims success.
    ForeignRecord,
    /// An answer to a check-in is lost.
    AnswerLost,
    /// A stop is ignored.
    StopIgnored,
    /// A call of the backend fails.
    BackendFails,
    /// An observation is lost.
    ObservationLost,
    /// An observation comes twice.
    ObservationTwice,
    /// An old observation comes again.
    ObservationStale,
    /// What an attempt is given is not there now, or nobody can say who people are.
    SuppliesFail,
    /// A delivery cannot be read now.
    IntakeFails,
    /// A delivery comes again under its id.
    DeliveryTwice,
    /// A push comes again under another id.
    PushTwice,
    /// A server sleeps for a while, and wakes as if nothing had been.
    Pause,
    /// A server does not hear what another one stored.
    HintLost,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 28] = [
        Self::StoreFails,
        Self::StoreLosesReply,
        Self::StoreIsSlow,
        Self::DiskFull,
        Self::LateWrite,
        Self::Crash,
        Self::Restart,
        Self::LaunchFails,
        Self::LaunchLosesReply,
        Self::LaunchRefused,
        Self::NeverChecksIn,
        Self::SecondHolder,
        Self::BreaksEarly,
        Self::Vanishes,
        Self::Hangs,
        Self::ForeignRecord,
        Self::AnswerLost,
        Self::StopIgnored,
        Self::BackendFails,
        Self::ObservationLost,
        Self::ObservationTwice,
        Self::ObservationStale,
        Self::SuppliesFail,
        Self::IntakeFails,
        Self::DeliveryTwice,
        Self::PushTwice,
        Self::Pause,
        Self::HintLost,
    ];
}

impl Fault {
    /// Its name among the counts.
    pub(crate) fn name(self) -> String {
        format!("fault {self:?}")
    }
}

/// Of so many seeds, one has people who leave gates and starts alone until they expire.
const SLOW: u64 = 16;

/// One simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many things people, forges and fate do.
    pub acts: u32,
    /// Acts left out, by their number.
    pub dropped: BTreeSet<u32>,
    /// The most nodes of a plan.
    pub nodes: u32,
    /// How many servers share the store.
    pub servers: u32,
    /// Faults that happen, and how often in a thousand.
    pub faults: BTreeMap<Fault, u32>,
    /// Whether every step is written down.
    pub trace: bool,
    /// A planted bug.
    pub bug: Option<Bug>,
}

impl Options {
    /// Draws the options of a seed: a random subset of faults, rates and sizes.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::derived(seed, &[1]);
        let mut faults = BTreeMap::new();
        let share = rng.pick(500, &[150, 300, 800]);
        for fault in Fault::ALL {
            let rate = rng.pick(5, &[20, 60, 200]);
            if rng.chance(share) {
                faults.insert(fault, rate);
            }
        }
        let acts = u32::try_from(rng.between(4, 40)).unwrap_or(4);
        let nodes = u32::try_from(rng.between(1, 14)).unwrap_or(1);
        // People who take weeks keep one server busy enough.
        let servers = if seed.is_multiple_of(SLOW) {
            1
        } else {
            rng.pick(1, &[1, 2, 3])
        };
        Self {
            seed,
            acts,
            dropped: BTreeSet::new(),
            nodes,
            servers,
            faults,
            trace: false,
            bug: None,
        }
    }

    /// The same world with a bug in it.
    #[must_use]
    pub fn with_bug(mut self, bug: Bug) -> Self {
        self.bug = Some(bug);
        self
    }

    /// Whether nobody hurries: people leave gates and starts alone until they expire.
    pub(crate) fn is_slow(&self) -> bool {
        self.seed.is_multiple_of(SLOW)
    }

    /// Whether most entries want one and the same lock.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_slow() || self.seed % 8 == 5
    }

    /// How many attempts may be at work at once, where that has an end.
    pub(crate) fn room(&self) -> Option<NonZeroUsize> {
        let room = usize::try_from(1 + self.seed / 8 % 3)
            .ok()
            .and_then(NonZeroUsize::new);
        room.filter(|_| self.seed % 8 == 3)
    }

    /// How often in a thousand a fault happens.
    pub(crate) fn rate(&self, fault: Fault) -> u32 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            acts,
            nodes,
            servers,
            ..
        } = self;
        write!(f, "seed={seed} acts={acts} nodes={nodes} servers={servers}")?;
        for number in &self.dropped {
            write!(f, " drop={number}")?;
        }
        for (fault, rate) in &self.faults {
            write!(f, " {fault:?}={rate}")?;
        }
        Ok(())
    }
}

/// The text is no options.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the simulation option `{0}`")]
pub struct ParseOptionsError(String);

impl FromStr for Options {
    type Err = ParseOptionsError;

    /// Reads what [`Options`] displays: `seed=1 acts=3 nodes=4 drop=2 Crash=60`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut options = Self {
            seed: 0,
            acts: 0,
            dropped: BTreeSet::new(),
            nodes: 1,
            servers: 1,
            faults: BTreeMap::new(),
            trace: false,
            bug: None,
        };
        for word in text.split_whitespace() {
            let error = || ParseOptionsError(word.to_owned());
            let (key, value) = word.split_once('=').ok_or_else(error)?;
            let value: u64 = value.parse().map_err(|_| error())?;
            let small = u32::try_from(value).map_err(|_| error());
            match key {
                "seed" => options.seed = value,
                "acts" => options.acts = small?,
                "nodes" => options.nodes = small?,
                "servers" => options.servers = small?,
                "drop" => {
                    options.dropped.insert(small?);
                }
                name => {
                    let fault = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
                    options.faults.insert(fault.ok_or_else(error)?, small?);
                }
            }
        }
        Ok(options)
    }
}
