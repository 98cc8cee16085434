//! What an action asks of its pod.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// `pod:`, within what its cluster allows.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PodFields {
    /// The labels of the nodes it may be on.
    pub node_selector: BTreeMap<String, String>,
    /// The taints of nodes that do not keep it off.
    pub tolerations: Vec<Toleration>,
    /// How urgent it is: a name that the cluster knows.
    pub priority_class: Option<String>,
    /// What its containers run in: a name that the cluster knows.
    pub runtime_class: Option<String>,
}

/// A taint that does not keep a pod off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toleration {
    /// The taint's key; none means any.
    pub key: Option<String>,
    /// The taint's value; none means any.
    pub value: Option<String>,
    /// What the taint does; none means any.
    pub effect: Option<TaintEffect>,
    /// Seconds after which a taint that came later does drive it away.
    pub seconds: Option<u64>,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaintEffect {
    /// None comes.
    NoSchedule,
    /// None comes where another node will do.
    PreferNoSchedule,
    /// None comes, and none stays.
    NoExecute,
}

impl TaintEffect {
    /// Every effect.
    pub const ALL: [Self; 3] = [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute];

    /// As clusters and files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// A field of `pod:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodField {
    /// The nodes it may be on.
    NodeSelector,
    /// The taints that do not keep it off.
    Tolerations,
    /// How urgent it is.
    PriorityClassName,
    /// What its containers run in.
    RuntimeClassName,
}

impl fmt::Display for PodField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NodeSelector => "nodeSelector",
            Self::Tolerations => "tolerations",
            Self::PriorityClassName => "priorityClassName",
            Self::RuntimeClassName => "runtimeClassName",
        })
    }
}

impl PodFields {
    /// The fields that are set.
    pub fn set(&self) -> impl Iterator<Item = PodField> {
        let Self {
            node_selector,
            tolerations,
            priority_class,
            runtime_class,
        } = self;
        let all = [
            (PodField::NodeSelector, !node_selector.is_empty()),
            (PodField::Tolerations, !tolerations.is_empty()),
            (PodField::PriorityClassName, priority_class.is_some()),
            (PodField::RuntimeClassName, runtime_class.is_some()),
        ];
        all.into_iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(field, _)| field)
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.set().next().is_none()
    }
}
