//! The checked definition: what a file says, with names resolved and edges drawn, before a run's event and parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use pipekeeper_model::{
    Name, Param,
    plan::{Body, Cache, Concurrency, FeatureUse, Node, OnFailure},
};

use crate::triggers::Triggers;

/// A checked file.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(crate) name: Name,
    pub(crate) file: String,
    pub(crate) triggers: Triggers,
    pub(crate) params: BTreeMap<Name, Param>,
    pub(crate) caches: BTreeMap<Name, Cache>,
    pub(crate) max_parallel: Option<u32>,
    pub(crate) on_failure: OnFailure,
    /// Its group is still a template.
    pub(crate) concurrency: Option<Concurrency>,
    /// Every action in the order of the file, `finally` last.
    pub(crate) actions: Vec<Action>,
    /// The same actions as the file nests them.
    pub(crate) main: Vec<Member>,
    pub(crate) finally: Vec<Member>,
    pub(crate) features: Vec<OwnedFeature>,
}

/// A feature with the actions that use it.
#[derive(Clone, Debug)]
pub(crate) struct OwnedFeature {
    pub(crate) owners: Owners,
    pub(crate) used: FeatureUse,
}

/// The actions that use a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    /// All: it is a key of the pipeline itself.
    Pipeline,
    /// Those with these indices.
    Actions(Range<usize>),
    /// Those that use this cache.
    Cache(Name),
}

/// A leaf of the file: one node of a plan, or one for each cell of its matrix.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    /// The node but for its name, cell, edges, and the values fixed at plan time.
    pub(crate) node: Node,
    /// The actions it waits for.
    pub(crate) needs: Vec<usize>,
    /// The artifacts it uses, by the action that makes them.
    pub(crate) uses: Vec<(usize, Name)>,
    /// The axes of its matrix, in the order of the file.
    pub(crate) matrix: Vec<(Name, Vec<String>)>,
    /// The outermost entry around it, or itself, that has locks.
    pub(crate) hold: Option<Target>,
    pub(crate) fixed: Fixed,
}

impl Action {
    /// Whether it uses a cache.
    pub(crate) fn has_cache(&self, name: &str) -> bool {
        match &self.node.body {
            Body::Work(work) => work.caches.iter().any(|cache| cache.as_str() == name),
            Body::Approve(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => false,
        }
    }
}

/// Texts that may hold expressions over parameters, matrix and event, resolved when a plan is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fixed {
    pub(crate) timeout: Option<FixedText>,
    pub(crate) cluster: Option<FixedText>,
    pub(crate) environment: Option<FixedText>,
    /// The variables that the entry or a group around it sets; the others are the pipeline's.
    pub(crate) own_env: BTreeSet<String>,
    /// The lock names, in the order of the node's locks.
    pub(crate) locks: Vec<FixedText>,
}

/// A text resolved at plan time, with its key path for messages.
#[derive(Clone, Debug)]
pub(crate) struct FixedText {
    pub(crate) text: String,
    pub(crate) path: String,
}

/// An entry of a list, as the file nests it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) what: What,
    /// The explicit `needs`.
    pub(crate) needs: Option<Vec<Target>>,
    pub(crate) ungated: bool,
    /// Whether it is an `approve`.
    pub(crate) gate: bool,
}

/// A leaf or a group.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// An index into the actions.
    Leaf(usize),
    Group(Group),
}

/// `parallel:` or `serial:`.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Its number in the order of the file.
    pub(crate) id: usize,
    pub(crate) label: String,
    pub(crate) order: Order,
    pub(crate) members: Vec<Member>,
}

/// How the members of a group stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Serial,
    Parallel,
}

/// An entry: what `needs` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Leaf(usize),
    Group(usize),
}
