//! What a store keeps, as values; rows are each database's own business.

use std::collections::BTreeSet;

use pipekeeper_engine::{Effect, EffectKey, Event, Snapshot};
use pipekeeper_model::{Actor, GitRef, Name, Outcome, RunId, Sha, Timestamp};
use serde::{Deserialize, Serialize};

use crate::CommitError;

/// How many refusals of a project are kept.
pub(crate) const REFUSALS_KEPT: usize = 20;

/// The number of a stored delivery, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(pub u64);

/// A webhook request as it was received, its signature verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// The project whose address it came to.
    pub project: Name,
    /// The forge's own id of the delivery.
    pub forge_id: String,
    /// The forge's word for the event.
    pub event: String,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// What became of accepting a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is stored.
    New(DeliveryId),
    /// The forge sent it before under the same id.
    Duplicate(DeliveryId),
}

/// A stored delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number.
    pub id: DeliveryId,
    /// What was received.
    pub received: NewDelivery,
    /// What became of it; none while it waits.
    pub outcome: Option<DeliveryOutcome>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DeliveryOutcome {
    /// It made runs.
    Ran {
        /// Their numbers.
        runs: Vec<RunId>,
        /// Pipelines that it did not start, with the reason.
        notes: Vec<String>,
    },
    /// It made none, and why.
    Ignored {
        /// Why.
        reason: String,
    },
    /// The same move of the same ref was handled before.
    DuplicateOf {
        /// That delivery.
        delivery: DeliveryId,
    },
    /// It could not be handled.
    Errored {
        /// Why.
        reason: String,
    },
}

/// A request that was refused before anything of it was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The project whose address it came to.
    pub project: Name,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// One move of a ref, as seen by a delivery or a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefMove {
    /// The project.
    pub project: Name,
    /// The ref.
    pub git_ref: GitRef,
    /// Where it was; none if it was made.
    pub before: Option<Sha>,
    /// Where it is; none if it was deleted.
    pub after: Option<Sha>,
}

/// A run's state in the words of lists: derived from the run, stored beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// The run.
    pub id: RunId,
    /// Its project.
    pub project: Name,
    /// Its pipeline.
    pub pipeline: Name,
    /// The kind of its event, such as `push`.
    pub event: String,
    /// Its branch or tag.
    pub git_ref: Option<GitRef>,
    /// Its commit.
    pub sha: Option<Sha>,
    /// The first line of the commit message.
    pub subject: String,
    /// Who asked for it.
    pub actor: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// A word for how far it is: `pending`, `running`, `stopping`, `finished`.
    pub phase: String,
    /// Whether a person is waited for.
    pub needs_person: bool,
    /// Its concurrency group's key.
    pub group: Option<String>,
    /// When the clock next has a say.
    pub next_deadline: Option<Timestamp>,
}

/// One transaction on one run.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The run as lists show it after this commit. Its id names the run. Once the run exists, only what changes is taken
    /// from it: phase, outcome, end, whether a person is waited for, next deadline.
    pub summary: RunSummary,
    /// How many events the run had when the decision was made; 0 creates it.
    pub expected: u64,
    /// The new events.
    pub events: Vec<Event>,
    /// A snapshot after these events, now and then.
    pub snapshot: Option<Snapshot>,
    /// Effects to perform.
    pub effects: Vec<Effect>,
    /// Effects that were performed or are void.
    pub settled: Vec<EffectKey>,
    /// The delivery that this commit settles, with the ref's move for the ledger.
    pub delivery: Option<DeliverySettlement>,
}

/// The end of a delivery's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettlement {
    /// The delivery.
    pub delivery: DeliveryId,
    /// What became of it.
    pub outcome: DeliveryOutcome,
    /// What to write into the ref ledger.
    pub moved: Option<RefMove>,
}

/// The newest version of a run, and whether it was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStamp {
    /// How many events it has.
    pub version: u64,
    /// Why it was set aside, if it was.
    pub quarantined: Option<String>,
}

/// A run as stored: the newest snapshot and the events after it.
#[derive(Clone, Debug)]
pub struct StoredRun {
    /// The newest snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// The events after it.
    pub tail: Vec<Event>,
    /// How many events the run has in all.
    pub version: u64,
    /// Why it was quarantined, if it was.
    pub quarantined: Option<String>,
}

/// An effect that waits to be performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEffect {
    /// The run that wants it.
    pub run: RunId,
    /// The order in which effects were stored.
    pub sequence: u64,
    /// The effect.
    pub effect: Effect,
}

/// Which runs a list shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those of these projects.
    pub projects: Option<BTreeSet<Name>>,
    /// Only this pipeline's.
    pub pipeline: Option<Name>,
    /// Only those of this commit.
    pub sha: Option<Sha>,
    /// Only those that have neither ended nor been set aside.
    pub active: bool,
    /// Only those of this concurrency group.
    pub group: Option<String>,
    /// Only those with a smaller number: the cursor of the next page.
    pub before: Option<RunId>,
}

impl RunFilter {
    /// Those of one project.
    pub fn of(project: Name) -> Self {
        Self {
            projects: Some(BTreeSet::from([project])),
            ..Self::default()
        }
    }
}

/// Refuses a list of commits that names a run twice: the second would be decided on a state that the first changes.
pub(crate) fn each_run_once(commits: &[Commit]) -> Result<(), CommitError> {
    let mut seen = BTreeSet::new();
    match commits.iter().find(|commit| !seen.insert(commit.summary.id)) {
        Some(repeated) => Err(CommitError::Conflict {
            run: repeated.summary.id.0,
            expected: repeated.expected,
        }),
        None => Ok(()),
    }
}
