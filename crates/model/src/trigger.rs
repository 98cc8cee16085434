//! What started a run, as expressions and scripts see it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{GitRef, Revision};

/// The kinds of events that may start a run; `event.kind` in expressions, `PIPE_EVENT` in scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Commits arrived on a branch.
    Push,
    /// A tag was made or moved.
    Tag,
    /// A merge request was opened or changed.
    MergeRequest,
    /// A schedule came due.
    Cron,
    /// A person asked.
    Manual,
    /// A registry told of an image.
    Image,
    /// Another pipeline ended.
    Pipeline,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Push,
        Self::Tag,
        Self::MergeRequest,
        Self::Cron,
        Self::Manual,
        Self::Image,
        Self::Pipeline,
    ];

    /// The word in files, scripts and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Tag => "tag",
            Self::MergeRequest => "merge_request",
            Self::Cron => "cron",
            Self::Manual => "manual",
            Self::Image => "image",
            Self::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| format!("read the event kind `{text}`"))
    }
}

/// One event with the revision it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerEvent {
    /// What happened.
    pub kind: EventKind,
    /// The commit and ref it is about.
    pub revision: Revision,
    /// For a cron trigger, its name.
    pub schedule: Option<String>,
}

impl TriggerEvent {
    /// The branch, if the event is about one.
    pub fn branch(&self) -> Option<&str> {
        match &self.revision.git_ref {
            Some(GitRef::Branch(name)) => Some(name),
            Some(GitRef::Tag(_)) | None => None,
        }
    }

    /// The tag, if the event is about one.
    pub fn tag(&self) -> Option<&str> {
        match &self.revision.git_ref {
            Some(GitRef::Tag(name)) => Some(name),
            Some(GitRef::Branch(_)) | None => None,
        }
    }
}

/// The answer to one `changed(…)` of a plan, judged once when the run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedAnswer {
    /// The patterns as the pipeline file gives them.
    pub patterns: Vec<String>,
    /// Whether a changed path matches one of them.
    pub answer: bool,
}

/// Everything outside the plan that expressions of a run may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunContext {
    /// What started the run.
    pub event: TriggerEvent,
    /// Every `changed(…)` of the plan with its answer; an absent one counts as changed.
    pub changed: Vec<ChangedAnswer>,
}
