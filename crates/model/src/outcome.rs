//! How an attempt, a node or a run ended. The words are distinct everywhere: types, database, API, UI, exit codes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{GitRef, Name};

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Succeeded,
    /// It never ran; the reason stands beside it.
    Skipped,
    /// A newer run took its place.
    Superseded,
    /// Somebody cancelled it.
    Cancelled,
    /// A person said no.
    Rejected,
    /// Its time was over.
    TimedOut,
    /// The user's code said no.
    Failed,
    /// Its pod or host vanished.
    Lost,
    /// Our side broke.
    Errored,
}

impl Outcome {
    /// Every outcome, mildest first.
    pub const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Skipped,
        Self::Superseded,
        Self::Cancelled,
        Self::Rejected,
        Self::TimedOut,
        Self::Failed,
        Self::Lost,
        Self::Errored,
    ];

    /// How bad it is: a roll-up takes the greatest.
    pub fn severity(self) -> u8 {
        match self {
            Self::Skipped => 0,
            Self::Succeeded => 1,
            Self::Superseded => 2,
            Self::Cancelled => 3,
            Self::Rejected => 4,
            Self::TimedOut => 5,
            Self::Failed => 6,
            Self::Lost => 7,
            Self::Errored => 8,
        }
    }

    /// The worse of two.
    pub fn worst(self, other: Self) -> Self {
        if other.severity() > self.severity() {
            other
        } else {
            self
        }
    }

    /// The word in files, the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Errored => "errored",
        }
    }

    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::TimedOut => "timed out",
            Self::Succeeded
            | Self::Skipped
            | Self::Superseded
            | Self::Cancelled
            | Self::Rejected
            | Self::Failed
            | Self::Lost
            | Self::Errored => self.as_str(),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The text is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("read the outcome `{0}`")]
pub struct ParseOutcomeError(String);

impl FromStr for Outcome {
    type Err = ParseOutcomeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| ParseOutcomeError(text.to_owned()))
    }
}

/// Why a node never ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum SkipReason {
    /// Its own `if`, or that of a group around it, was false.
    Condition {
        /// The text of the condition.
        expression: String,
    },
    /// Something that it needs did not succeed.
    Need {
        /// The name of the node that it needed.
        node: String,
    },
    /// Another node failed and the pipeline stops at the first failure.
    EarlierFailure {
        /// The name of the node that failed.
        node: String,
    },
    /// Nobody pressed start in time.
    NotStarted,
    /// The run was cancelled or superseded before it was this node's turn.
    RunStopped,
    /// It is one of the `finally` entries, and nothing had started that they would be for.
    NothingStarted,
    /// The person who asked for this run chose other actions.
    NotSelected,
    /// It wants a real promotion or sync, which this run does not make.
    NeedsPromotion,
    /// Its environment does not admit what the run is of.
    NotAdmitted {
        /// The environment.
        environment: Name,
        /// What that is; none for a commit without a branch.
        git_ref: Option<GitRef>,
    },
    /// Its environment admits branches, and the run is of a merge request, whose branch nobody vouches for.
    MergeRequestNotAdmitted {
        /// The environment.
        environment: Name,
    },
    /// It is the gate of an environment that nothing is to be started in.
    NothingToStart {
        /// The environment.
        environment: Name,
    },
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition { expression } => write!(f, "`if: {expression}` is false"),
            Self::Need { node } => write!(f, "`{node}` did not succeed"),
            Self::EarlierFailure { node } => write!(f, "`{node}` failed before it"),
            Self::NotStarted => f.write_str("not started"),
            Self::RunStopped => f.write_str("the run was stopped before it"),
            Self::NothingStarted => f.write_str("nothing of the run had started"),
            Self::NotSelected => f.write_str("not selected"),
            Self::NeedsPromotion => f.write_str("needs a real promotion"),
            Self::NotAdmitted {
                environment,
                git_ref: Some(GitRef::Branch(name)),
            } => write!(f, "`{environment}` does not admit the branch `{name}`"),
            Self::NotAdmitted {
                environment,
                git_ref: Some(GitRef::Tag(name)),
            } => write!(f, "`{environment}` admits branches, and `{name}` is a tag"),
            Self::NotAdmitted {
                environment,
                git_ref: None,
            } => write!(f, "`{environment}` admits branches, and the run has none"),
            Self::MergeRequestNotAdmitted { environment } => {
                write!(f, "`{environment}` admits branches, and this is a merge request")
            }
            Self::NothingToStart { environment } => write!(f, "nothing is to start in `{environment}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn stored_words_round_trip_and_are_distinct() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(outcome));
        }
    }

    #[test]
    fn the_worst_of_two_is_symmetric_and_total() {
        for a in Outcome::ALL {
            for b in Outcome::ALL {
                assert_eq!(a.worst(b), b.worst(a));
                assert_eq!(a.worst(b).severity(), a.severity().max(b.severity()));
            }
        }
    }

    #[test]
    fn a_skipped_node_never_hides_a_success_or_a_failure() {
        assert_eq!(Outcome::Skipped.worst(Outcome::Succeeded), Outcome::Succeeded);
        assert_eq!(Outcome::Succeeded.worst(Outcome::Failed), Outcome::Failed);
    }
}
