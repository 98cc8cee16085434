//! What the environments of a plan ask of the nodes that name them.

use serde::{Deserialize, Serialize};

use crate::{NodeId, Patterns, Window};

/// The rule of one environment, as it was when the plan was made: a later change of the environment changes no run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRule {
    /// The node that asks for its approvals, once for the run and before anything is started in it. No edge leads to or from
    /// it: it is asked when the first node of the environment may start otherwise. None if nobody is to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<NodeId>,
    /// When its nodes may start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// The branches whose runs it admits; none means all, and whatever is no branch.
    #[serde(default, skip_serializing_if = "Patterns::is_empty")]
    pub branches: Patterns,
    /// Where in its cluster it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
