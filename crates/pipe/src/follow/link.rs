//! The way to a run. Entry type: [`Link`].

use std::collections::BTreeMap;

use async_trait::async_trait;
use pipekeeper_engine::{CancelReason, Event, Input, Look, Run, Standing, Verdict};
use pipekeeper_model::{AttemptId, Digest, Name, NodeId};

use crate::failure::Failure;

/// Tells what happens in a run, and tells the run what people want.
#[async_trait]
pub(crate) trait Link: Send {
    /// What happened next; every event once, in order, and what a log has by then where the report reads it. The future may
    /// be dropped at any time.
    async fn hear(&mut self) -> Result<Heard, Failure>;

    /// Asks the run for something, without waiting for long. What comes too late or twice is no failure: the run has moved on
    /// meanwhile.
    async fn ask(&mut self, run: &Run, ask: Ask) -> Result<(), Failure>;
}

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The run's next events.
    Events(Vec<Event>),
    /// The run's next events, and maybe news of attempts that nobody told.
    Missed(Vec<Event>),
    /// The log of an attempt may have grown.
    Log(AttemptId),
    /// Something keeps an attempt from starting.
    Waits {
        /// The attempt.
        attempt: AttemptId,
        /// What.
        reason: String,
    },
    /// An attempt put nothing out for a while.
    Silent {
        /// The attempt.
        attempt: AttemptId,
        /// For how many seconds.
        seconds: u64,
        /// Its processes, for people.
        processes: String,
    },
    /// Nothing that concerns the run.
    Nothing,
}

/// What a person at a terminal can want of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// That it ends.
    Cancel,
    /// A decision on a gate.
    Decide {
        /// The gate.
        node: NodeId,
        /// The decision.
        verdict: Verdict,
        /// What was decided on.
        subject: Digest,
        /// Why.
        comment: Option<String>,
        /// The values that the gate asks for.
        params: BTreeMap<Name, String>,
    },
    /// A manual start.
    Start {
        /// The node.
        node: NodeId,
        /// Whether it is asked for or confirmed.
        look: Look,
    },
}

impl From<Ask> for Input {
    fn from(ask: Ask) -> Self {
        match ask {
            Ask::Cancel => Self::CancelRequested(CancelReason::Asked),
            Ask::Decide {
                node,
                verdict,
                subject,
                comment,
                params,
            } => Self::GateDecided {
                node,
                verdict,
                subject,
                comment,
                params,
                // Whoever sits at this machine is everybody.
                standing: Standing::Owner,
            },
            Ask::Start { node, look } => Self::StartPressed {
                node,
                look,
                standing: Standing::Owner,
            },
        }
    }
}
