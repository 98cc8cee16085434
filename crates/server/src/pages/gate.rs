//! What waits for a person on a run's page: what is asked, and the form that answers.

use pipekeeper_access::{Place, Verb};
use pipekeeper_engine::NodeState;
use pipekeeper_model::{Param, ParamKind, Timestamp, plan::Start};

use crate::{
    api::wire::{gate_params, gate_text},
    inbox::{Leave, need},
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
    pub(super) since: When,
    pub(super) expires: When,
    pub(super) ask: Ask,
    pub(super) form: Button,
    pub(super) leave: Leave,
    /// Where the forms lead back to.
    pub(super) next: String,
}

impl GateCard {
    /// Why whoever is signed in may not go on here; nothing for those whom the form offers it.
    pub(super) fn why_not(&self) -> Option<&String> {
        self.form.token.as_ref()?;
        self.leave.approve.as_ref().err()
    }
}

/// What is asked.
pub(super) enum Ask {
    Approval {
        text: String,
        /// The environment that it is the gate of.
        environment: Option<String>,
        subject: String,
        short: String,
        approvals: Vec<(String, When, String)>,
        fields: Vec<Field>,
    },
    Start {
        looked_by: Option<String>,
        wants_second_look: bool,
        /// Whether another person is to take it.
        by_other: bool,
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

/// What a node asks a person, if it waits for one; the forms lead back to `next`.
pub(super) fn gate_card(
    loaded: &Loaded,
    node: NodeRef<'_>,
    leave: Leave,
    (frame, next): (&Frame, &str),
    now: Timestamp,
) -> Option<GateCard> {
    let need = need(node.state)?;
    let base = format!("/runs/{}/nodes/{}", loaded.run.id(), Part(&node.node.name));
    let request = loaded.request().ok()?;
    let guarded = request.plan.guarded_by(node.id);
    let (ask, path, verb) = match node.state {
        NodeState::Deciding(gate) => {
            let approvals = gate.approvals.iter();
            let ask = Ask::Approval {
                text: gate_text(&node.node.body).to_owned(),
                environment: guarded.map(ToString::to_string),
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
            (ask, format!("{base}/decide"), Verb::Decide)
        }
        NodeState::AwaitingStart { looked, .. } => {
            let ask = Ask::Start {
                looked_by: looked.as_ref().map(ToString::to_string),
                wants_second_look: matches!(node.node.start, Start::Confirm { .. }) && looked.is_some(),
                by_other: node.node.start == Start::Confirm { by_other: true },
            };
            (ask, format!("{base}/start"), Verb::StartAction)
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
        since: When::new(need.since, now),
        expires: When::new(need.expires, now),
        ask,
        form: Button::new(frame, path, verb, Place::project(&request.project)),
        leave,
        next: next.to_owned(),
    })
}
