//! What the client reads of the server's answers. More may be in them; `--output json` passes everything on.

use std::collections::BTreeMap;

use pipekeeper_model::{Bytes, Digest, Millis, Outcome, Timestamp};
use serde::Deserialize;

/// A run in a list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunItem {
    pub(crate) id: u64,
    pub(crate) project: String,
    pub(crate) pipeline: String,
    pub(crate) event: String,
    pub(crate) r#ref: Option<RefView>,
    pub(crate) sha: Option<String>,
    pub(crate) subject: String,
    pub(crate) actor: String,
    pub(crate) created_at: Timestamp,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) phase: String,
    pub(crate) outcome: Option<Outcome>,
    #[serde(default)]
    pub(crate) needs_person: bool,
}

/// A branch or a tag.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RefView {
    pub(crate) name: String,
}

/// A whole run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunView {
    #[serde(flatten)]
    pub(crate) item: RunItem,
    pub(crate) quarantined: Option<String>,
    /// Who keeps it whatever its age.
    pub(crate) kept: Option<KeptView>,
    /// How its logs went, if they are no longer kept.
    pub(crate) logs_gone: Option<String>,
    /// The same of its artifacts.
    pub(crate) artifacts_gone: Option<String>,
    pub(crate) nodes: Vec<Node>,
}

/// Who keeps a run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct KeptView {
    pub(crate) by: String,
    pub(crate) reason: Option<String>,
}

/// A node of a run.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    pub(crate) kind: String,
    pub(crate) state: String,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) why: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) outputs: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) large_outputs: BTreeMap<String, LargeOutput>,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) summary: Option<String>,
    pub(crate) tests: Option<TestsView>,
    pub(crate) gate: Option<Gate>,
    pub(crate) start: Option<Start>,
}

/// An output that is kept as a file.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LargeOutput {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
}

/// The counts of test reports.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct TestsView {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// A test that failed, or one that took long.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TestView {
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) duration_ms: Millis,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) text: String,
}

/// What test reports say.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TestDetailsView {
    pub(crate) failures: Vec<TestView>,
    pub(crate) slowest: Vec<TestView>,
    pub(crate) problems: Vec<String>,
}

/// An artifact.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// An open gate.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Gate {
    pub(crate) text: String,
    pub(crate) subject: Digest,
}

/// A manual start.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Start {
    pub(crate) how: String,
}

/// Something that waits for a person.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ApprovalView {
    /// As `pipe approve` takes it.
    pub(crate) target: String,
    pub(crate) run: RunItem,
    /// None for a start.
    pub(crate) asks: Option<String>,
    pub(crate) environment: Option<String>,
    pub(crate) why: String,
    pub(crate) since: Timestamp,
    pub(crate) expires: Timestamp,
    /// Why one may not oneself.
    pub(crate) why_not: Option<String>,
}

/// A webhook delivery.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeliveryView {
    pub(crate) id: u64,
    pub(crate) project: String,
    pub(crate) event: String,
    pub(crate) received_at: Timestamp,
    pub(crate) outcome: DeliveryEnd,
    pub(crate) body: Option<String>,
}

/// What became of a delivery.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeliveryEnd {
    pub(crate) what: String,
    #[serde(default)]
    pub(crate) runs: Vec<u64>,
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    pub(crate) reason: Option<String>,
    pub(crate) delivery: Option<u64>,
}

impl RunItem {
    /// How it ended, or how far it is.
    pub(crate) fn word(&self) -> &str {
        match self.outcome {
            Some(outcome) => outcome.word(),
            None if self.needs_person => "needs you",
            None => &self.phase,
        }
    }
}

impl RunView {
    /// The node of this name.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

impl Node {
    /// Whether it made anything that is kept as a file.
    pub(crate) fn has_files(&self) -> bool {
        !self.artifacts.is_empty() || !self.large_outputs.is_empty()
    }
}
