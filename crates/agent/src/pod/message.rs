//! What the supervisor of a pod and its runners tell each other. Both are the same build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// To a runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum ToRunner {
    /// Run this.
    Run {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Variables over those of the container.
        env: BTreeMap<String, String>,
        /// The working folder.
        folder: PathBuf,
    },
    /// TERM, and KILL after the grace.
    Stop {
        /// The grace.
        grace_ms: u64,
    },
    /// Tell what runs.
    Look,
    /// Empty the container's own temporary folders.
    Clean {
        /// The folders.
        folders: Vec<PathBuf>,
        /// Where volumes must still be mounted.
        mounts: Vec<PathBuf>,
    },
    /// End with this code.
    Leave {
        /// The code.
        code: u8,
    },
}

/// From a runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum FromRunner {
    /// The first message.
    Here {
        /// The index of its container.
        container: usize,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// What it was told to run ended, and nothing of it is left.
    Ended(StepEnd),
    /// The cluster told its container to end, so what it runs is ended too.
    Terminated,
    /// The temporary folders are empty, or why they are not.
    Cleaned {
        /// What is in the way.
        problem: Option<String>,
    },
    /// What runs.
    Processes {
        /// How many.
        count: u32,
        /// The CPU time that they used so far.
        cpu_ms: u64,
        /// One a line, for people.
        text: String,
    },
}

/// How the process of a step ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepEnd {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Or the signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Why it did not start, or was killed, in words.
    pub(crate) reason: Option<String>,
}
