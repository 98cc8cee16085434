//! What waits for a person on a run's page: what is asked, and the form that answers.

use pipekeeper_access::{Place, Verb};
use pipekeeper_engine::NodeState;
use pipekeeper_model::{Param, ParamKind, Timestamp, plan::Start};

use crate::{
    api::wire::{gate_params, gate_text},
    load::{Loaded, NodeRef},
};

use super::{
    Frame,
    present::{Mark, Part, When},
    run::Button,
    tree::why,
};

/// A node that waits for a person.
pub(super) struct GateCard {
    pub(super) name: String,
    pub(super) mark: Mark,
    pub(super) why: String,
    pub(super) expires: When,
    pub(super) ask: Ask,
    pub(super) form: Button,
}

/// What is asked.
pub(super) enum Ask {
    Approval {
        text: String,
        subject: String,
        short: String,
        approvals: Vec<(String, When, String)>,
        fields: Vec<Field>,
    },
    Start {
        looked_by: Option<String>,
        wants_second_look: bool,
    },
}

/// A value that a gate asks for.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) help: String,
    pub(super) value: String,
    /// The words that it may be; any text if there are none.
    pub(super) words: Vec<String>,
}

impl From<&Param> for Field {
    fn from(param: &Param) -> Self {
        let words = match &param.kind {
            ParamKind::Enum(words) => words.clone(),
            ParamKind::Bool => vec!["true".to_owned(), "false".to_owned()],
            ParamKind::Text | ParamKind::Int => Vec::new(),
        };
        Self {
            name: param.name.to_string(),
            help: param.help.clone().unwrap_or_default(),
            value: param
                .default
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            words,
        }
    }
}

/// What a node asks a person, if it waits for one.
pub(super) fn gate_card(
    loaded: &Loaded,
    node: NodeRef<'_>,
    frame: &Frame,
    now: Timestamp,
) -> Option<GateCard> {
    let base = format!("/runs/{}/nodes/{}", loaded.run.id(), Part(&node.node.name));
    let project = &loaded.request().ok()?.project;
    let (expires, ask, path, verb) = match node.state {
        NodeState::Deciding(gate) => {
            let approvals = gate.approvals.iter();
            let ask = Ask::Approval {
                text: gate_text(&node.node.body).to_owned(),
                subject: gate.subject.to_string(),
                short: gate.subject.to_short(),
                fields: gate_params(&node.node.body).map(Field::from).collect(),
                approvals: approvals
                    .map(|approval| {
                        let comment = approval.comment.clone().unwrap_or_default();
                        (approval.by.to_string(), When::new(approval.at, now), comment)
                    })
                    .collect(),
            };
            (gate.expires, ask, format!("{base}/decide"), Verb::Decide)
        }
        NodeState::AwaitingStart { expires, looked, .. } => {
            let ask = Ask::Start {
                looked_by: looked.as_ref().map(ToString::to_string),
                wants_second_look: matches!(node.node.start, Start::Confirm { .. }) && looked.is_some(),
            };
            (*expires, ask, format!("{base}/start"), Verb::StartAction)
        }
        NodeState::Waiting
        | NodeState::AwaitingTime { .. }
        | NodeState::Ready { .. }
        | NodeState::Running(_)
        | NodeState::Backoff { .. }
        | NodeState::Done(_)
        | NodeState::Skipped { .. } => return None,
    };
    Some(GateCard {
        name: node.node.name.clone(),
        mark: Mark::node(node.state),
        why: why(loaded, node).unwrap_or_default(),
        expires: When::new(expires, now),
        ask,
        form: Button::new(frame, path, verb, Place::project(project)),
    })
}
