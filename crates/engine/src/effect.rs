//! Effects: imperatives for the outside, performed at least once, hence keyed.

use std::fmt;

use pipekeeper_model::{AttemptId, Digest, Millis, NodeId, Outcome, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// One thing to do outside the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Effect {
    /// Look for an earlier success with the inputs of this attempt, which is launched only if there is none.
    FindEarlier {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Keep the result of an attempt that succeeded for later runs with the same inputs.
    RememberSuccess {
        /// The attempt.
        attempt: AttemptId,
        /// The digest of its inputs.
        inputs: Digest,
    },
    /// Create or adopt the attempt's process or pod.
    LaunchAttempt {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Stop the attempt's process or pod; voids a launch that was not performed yet.
    StopAttempt {
        /// The attempt.
        attempt: AttemptId,
        /// From the polite signal to the final one.
        grace: Millis,
    },
    /// Supersede older runs of this run's concurrency group.
    SupersedeOlder {
        /// The run.
        run: RunId,
    },
    /// Supersede older runs of the same pipeline and ref that wait at the same gate.
    SupersedeAtGate {
        /// The run that reached the gate.
        run: RunId,
        /// The gate's name.
        gate: String,
    },
    /// Give this run its turn once no older run of its group is in its way.
    AwaitTurn {
        /// The run.
        run: RunId,
    },
    /// Give this hold its locks once nobody is in its way.
    AwaitLocks {
        /// The run.
        run: RunId,
        /// The hold, by its first node.
        hold: NodeId,
        /// Since when it waits.
        since: Timestamp,
    },
    /// Tell whoever listens that the run ended.
    Notify {
        /// The run.
        run: RunId,
        /// How it ended.
        outcome: Outcome,
    },
}

impl Effect {
    /// The key: equal keys mean the same effect.
    pub fn key(&self) -> EffectKey {
        EffectKey(match self {
            Self::FindEarlier { attempt } => format!("{attempt}/find"),
            Self::RememberSuccess { attempt, .. } => format!("{attempt}/remember"),
            Self::LaunchAttempt { attempt } => format!("{attempt}/launch"),
            Self::StopAttempt { attempt, .. } => format!("{attempt}/stop"),
            Self::SupersedeOlder { run } => format!("r{run}/supersede"),
            Self::SupersedeAtGate { run, gate } => format!("r{run}/gate/{gate}"),
            Self::AwaitTurn { run } => format!("r{run}/turn"),
            Self::AwaitLocks { run, hold, since } => format!("r{run}/locks/n{}/{}", hold.0, since.0),
            Self::Notify { run, .. } => format!("r{run}/notify"),
        })
    }

    /// The lane: effects of one lane are performed one after the other, in order.
    pub fn lane(&self) -> String {
        match self {
            Self::RememberSuccess { attempt, .. } => format!("{attempt}/success"),
            Self::FindEarlier { attempt }
            | Self::LaunchAttempt { attempt }
            | Self::StopAttempt { attempt, .. } => attempt.to_string(),
            Self::SupersedeOlder { run } | Self::SupersedeAtGate { run, .. } | Self::AwaitTurn { run } => {
                format!("r{run}/group")
            }
            Self::AwaitLocks { run, hold, .. } => Self::locks_lane(*run, *hold),
            Self::Notify { run, .. } => format!("r{run}/notify"),
        }
    }

    /// The lane of what a hold waits for.
    pub fn locks_lane(run: RunId, hold: NodeId) -> String {
        format!("r{run}/locks/n{}", hold.0)
    }

    /// A word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::FindEarlier { .. } => "find_earlier",
            Self::RememberSuccess { .. } => "remember_success",
            Self::LaunchAttempt { .. } => "launch_attempt",
            Self::StopAttempt { .. } => "stop_attempt",
            Self::SupersedeOlder { .. } => "supersede_older",
            Self::SupersedeAtGate { .. } => "supersede_at_gate",
            Self::AwaitTurn { .. } => "await_turn",
            Self::AwaitLocks { .. } => "await_locks",
            Self::Notify { .. } => "notify",
        }
    }
}

/// The key of an effect, such as `r57-n3-a1/launch`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectKey(pub String);

impl fmt::Display for EffectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
