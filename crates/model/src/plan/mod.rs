//! The compiled plan of a run: what `spec` makes of a pipeline file and `engine` executes.
//!
//! A plan is complete and immutable: names are resolved, matrices are expanded, needs are edges. Its digest is what an
//! approval binds to. Expressions stay text; the engine judges them.

mod credential;
mod environment;
mod feature;
mod node;
mod pod;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use credential::{Credential, CredentialError};
pub use environment::EnvironmentRule;
pub use feature::{Feature, FeatureUse};
pub use node::{
    Body, Condition, Gate, Lock, LockScope, Node, OnFailure, Place, Promotion, Retry, Section, SelfApproval,
    Start, SubPipeline, Sync, Wait, WaitFor,
};
pub use pod::{PodField, PodFields, TaintEffect, Toleration};
pub use work::{
    Artifact, Build, Cache, CacheKey, CacheMode, Checkout, Reports, Resources, Reuse, Script, Secret,
    SecretTarget, Service, Shell, Step, UseArtifact, Work,
};

use crate::{Digest, Millis, Name, NodeId, ParamValue};

/// A compiled pipeline, ready to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The pipeline's name.
    pub pipeline: Name,
    /// The file it came from, such as `.pipe/web.yaml`.
    pub file: String,
    /// The parameters with the values of this run.
    pub params: BTreeMap<Name, ParamValue>,
    /// The nodes; a node's id is its index.
    pub nodes: Vec<Node>,
    /// The cache definitions that nodes name.
    pub caches: BTreeMap<Name, Cache>,
    /// How many nodes may run at once in this run; none means no limit of its own.
    pub max_parallel: Option<u32>,
    /// What one failure does to the rest.
    pub on_failure: OnFailure,
    /// How runs of this pipeline stand to each other.
    pub concurrency: Option<Concurrency>,
    /// What the plan asks of a backend and of this version, by name and place.
    pub features: Vec<FeatureUse>,
    /// The environments that nodes name, as they were when the plan was made. Left out where there are none, so that older
    /// plans keep their digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<Name, EnvironmentRule>,
}

impl Plan {
    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.index())
    }

    /// The ids of all nodes, in order.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// The environment of a node with its rule, if it has one.
    pub fn environment_of(&self, node: NodeId) -> Option<(&Name, &EnvironmentRule)> {
        match &self.node(node)?.body {
            Body::Work(work) => self.environments.get_key_value(work.environment.as_ref()?),
            Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => None,
        }
    }

    /// The environment that a node is the gate of.
    pub fn guarded_by(&self, gate: NodeId) -> Option<&Name> {
        let mut rules = self.environments.iter();
        rules.find_map(|(name, rule)| (rule.gate == Some(gate)).then_some(name))
    }

    /// The node of this full name, such as `test[db=sqlite]`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.ids()
            .zip(&self.nodes)
            .find_map(|(id, node)| (node.name == name).then_some(id))
    }

    /// Whether a person has a say before this node runs: it is started by hand, or stands behind what is or asks for an
    /// approval.
    pub fn waits_for_people(&self, node: NodeId) -> bool {
        let mut seen = BTreeSet::from([node]);
        let mut open = vec![node];
        while let Some((id, node)) = open.pop().and_then(|id| Some((id, self.node(id)?))) {
            let is_by_hand = match node.start {
                Start::Manual | Start::Confirm { .. } => true,
                Start::Auto | Start::Timed(_) => false,
            };
            let is_gate = match node.body {
                Body::Approve(_) | Body::Promote(_) => true,
                Body::Work(_) | Body::Wait(_) | Body::Sync(_) | Body::Call(_) => false,
            };
            let has_gate = self
                .environment_of(id)
                .is_some_and(|(_, rule)| rule.gate.is_some());
            if is_by_hand || is_gate || has_gate {
                return true;
            }
            open.extend(node.needs.iter().copied().filter(|need| seen.insert(*need)));
        }
        false
    }

    /// The nodes of one action: one, or every cell of its matrix.
    pub fn cells<'a>(&'a self, action: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        self.ids()
            .zip(&self.nodes)
            .filter_map(move |(id, node)| (node.action.as_str() == action).then_some(id))
    }

    /// The digest that approvals bind to: SHA-256 over the plan's canonical JSON.
    pub fn digest(&self) -> Digest {
        // Structs write their fields in order and maps are ordered, so the JSON is canonical; it cannot fail for these types.
        Digest::of(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// The features used that are not in `supported`.
    pub fn unsupported<'a>(
        &'a self,
        supported: &'a BTreeSet<Feature>,
    ) -> impl Iterator<Item = &'a FeatureUse> {
        self.features
            .iter()
            .filter(|used| !supported.contains(&used.feature))
    }
}

/// `concurrency:`: what a new run does to older ones of the same group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The group's name, a template over `branch`, `tag`, `event` and `params`.
    pub group: String,
    /// What the newer run does.
    pub on_new: OnNew,
    /// Across what the group's name is shared.
    pub scope: ConcurrencyScope,
}

/// `on_new:` of a concurrency group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNew {
    /// Older runs of the group are superseded, running or not.
    CancelRunning,
    /// Older runs of the group that wait for their turn are superseded; running ones finish first.
    CancelWaiting,
    /// Runs go one after the other, in order.
    Queue,
}

/// `scope:` of a concurrency group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyScope {
    /// Runs of the same pipeline.
    Pipeline,
    /// Runs of the same project.
    Project,
    /// Every run of the server.
    Server,
}

/// The default deadlines of DESIGN section 4.
pub mod defaults {
    use super::Millis;

    /// An attempt's running time.
    pub const TIMEOUT: Millis = Millis::hours(1);
    /// How long a gate or a manual start waits.
    pub const GATE: Millis = Millis::days(7);
    /// How long a run lives.
    pub const RUN: Millis = Millis::days(35);
    /// How long all `finally` entries together may take.
    pub const FINALLY: Millis = Millis::minutes(10);
    /// How long a ready node waits for its place.
    pub const QUEUE: Millis = Millis::hours(24);
    /// How long an attempt may take from its launch to its check-in.
    pub const CHECK_IN: Millis = Millis::minutes(10);
    /// From the polite signal to the final one.
    pub const GRACE: Millis = Millis::seconds(10);
    /// Bytes of log that one action may write.
    pub const LOG_LIMIT: u64 = 100 * 1024 * 1024;
}
