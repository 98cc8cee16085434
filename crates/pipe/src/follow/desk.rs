//! Where a run meets its person: approvals and manual starts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
};

use pipekeeper_engine::{Look, NodeState, Run, Verdict};
use pipekeeper_model::{
    Digest, Name, NodeId, Param, param_values,
    plan::{Body, Node, Start},
};
use tokio::sync::mpsc;

use super::Ask;
use crate::{
    cmd::run::{Approve, pair},
    report::gate_text,
    term::{self, Paint, Tone},
};

const COMMENT_NOBODY: &str = "nobody could be asked";
const COMMENT_NO_VALUES: &str = "`--approve auto` has no value for what the gate asks for";
const COMMENT_DENIED: &str = "denied by `--approve deny`";

/// Who answers at gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answerer {
    Person,
    Yes,
    No { comment: &'static str },
}

/// Something that a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    node: NodeId,
    name: String,
    text: String,
    asks: Asks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asks {
    Approval {
        subject: Digest,
        params: BTreeMap<Name, Param>,
    },
    Start {
        confirm: bool,
    },
}

/// Collects questions, asks one at a time, and turns answers into what is asked of the run.
pub(crate) struct Desk {
    answerer: Answerer,
    seen: BTreeSet<NodeId>,
    waiting: VecDeque<Question>,
    current: Option<Question>,
    answers: mpsc::UnboundedReceiver<String>,
    tell: mpsc::UnboundedSender<String>,
}

impl Desk {
    /// A desk with the user's policy.
    pub(crate) fn new(approve: Approve) -> Self {
        let answerer = match approve {
            Approve::Ask if term::can_ask() => Answerer::Person,
            Approve::Ask => Answerer::No {
                comment: COMMENT_NOBODY,
            },
            Approve::Auto => Answerer::Yes,
            Approve::Deny => Answerer::No {
                comment: COMMENT_DENIED,
            },
        };
        let (tell, answers) = mpsc::unbounded_channel();
        Self {
            answerer,
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
            current: None,
            answers,
            tell,
        }
    }

    /// Looks for new questions; answers at once what needs no person.
    pub(crate) fn attend(&mut self, run: &Run) -> Vec<Ask> {
        let Some(plan) = run.plan() else {
            return Vec::new();
        };
        // A gate may open again.
        self.seen.retain(|node| is_open(run, *node));
        let mut asks = Vec::new();
        for (id, node) in plan.ids().zip(&plan.nodes) {
            let Some(question) = run.node(id).and_then(|state| question(run, id, node, state)) else {
                continue;
            };
            if !self.seen.insert(id) {
                continue;
            }
            match self.answerer {
                Answerer::Person => self.waiting.push_back(question),
                Answerer::Yes => match yes(&question, [].into_iter()) {
                    Ok(yes) => asks.extend(yes),
                    Err(why) => {
                        term::warn(format_args!("`{}` is rejected: {why}", question.name));
                        asks.extend(no(&question, COMMENT_NO_VALUES));
                    }
                },
                Answerer::No { comment } => {
                    if comment == COMMENT_NOBODY {
                        term::warn(format_args!(
                            "`{}` asks for a person and there is no terminal; `--approve auto` or `deny` decides beforehand",
                            question.name
                        ));
                    }
                    asks.extend(no(&question, comment));
                }
            }
        }
        self.waiting.retain(|question| is_open(run, question.node));
        if self
            .current
            .as_ref()
            .is_some_and(|question| !is_open(run, question.node))
        {
            self.current = None;
        }
        asks
    }

    /// Whether nobody will ever press start here.
    pub(crate) fn starts_nothing(&self) -> bool {
        matches!(self.answerer, Answerer::No { .. })
    }

    /// Whether a question is open: what is drawn meanwhile would stand in the answer's way.
    pub(crate) fn is_asking(&self) -> bool {
        self.current.is_some()
    }

    /// The next question, if none is open; the caller makes room on the terminal first.
    pub(crate) fn next_question(&mut self) -> Option<&Question> {
        if self.current.is_some() {
            return None;
        }
        self.current = Some(self.waiting.pop_front()?);
        self.current.as_ref()
    }

    /// Asks the open question and listens for an answer.
    pub(crate) fn ask(&self) {
        let Some(question) = &self.current else {
            return;
        };
        let paint = Paint::for_stderr();
        let mark = paint.tone(Tone::Attention, "?");
        let name = paint.tone(Tone::Strong, &question.name);
        match &question.asks {
            Asks::Approval { subject, params } => {
                let subject = paint.tone(Tone::Faint, format_args!("({})", subject.to_short()));
                term::note(format_args!("{mark} {name}: {} {subject}", question.text));
                for param in params.values() {
                    term::note(format_args!("  {}", wanted(param)));
                }
                if params.is_empty() {
                    term::note("  approve? [y/n]");
                } else {
                    term::note("  approve? [y NAME=VALUE … / n]");
                }
            }
            Asks::Start { .. } => term::note(format_args!("{mark} start {name}? [y to start, n to cancel]")),
        }
        let tell = self.tell.clone();
        tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            if io::stdin().read_line(&mut line).is_ok_and(|count| count > 0) {
                // The desk is gone when the run has ended.
                let _ = tell.send(line);
            }
        });
    }

    /// The line that the person typed.
    pub(crate) async fn answer(&mut self) -> String {
        match self.answers.recv().await {
            Some(line) => line,
            None => std::future::pending().await,
        }
    }

    /// What the line means; nothing clear asks again.
    pub(crate) fn answered(&mut self, line: &str) -> Vec<Ask> {
        let Some(question) = self.current.clone() else {
            return Vec::new();
        };
        let mut words = line.split_whitespace();
        match words.next().unwrap_or_default().to_lowercase().as_str() {
            "y" | "yes" => match yes(&question, words) {
                Ok(asks) => {
                    self.current = None;
                    asks
                }
                Err(why) => {
                    term::warn(why);
                    self.ask();
                    Vec::new()
                }
            },
            "n" | "no" => {
                self.current = None;
                match &question.asks {
                    Asks::Approval { .. } => no(&question, "rejected at the terminal"),
                    Asks::Start { .. } => {
                        vec![Ask::Cancel]
                    }
                }
            }
            _ => {
                self.ask();
                Vec::new()
            }
        }
    }
}

fn question(run: &Run, id: NodeId, node: &Node, state: &NodeState) -> Option<Question> {
    let asks = match state {
        NodeState::Deciding(gate) => Asks::Approval {
            subject: gate.subject.clone(),
            params: match &node.body {
                Body::Approve(rule) => rule.params.clone(),
                Body::Work(_) | Body::Wait(_) | Body::Promote(_) | Body::Sync(_) | Body::Call(_) => {
                    BTreeMap::new()
                }
            },
        },
        NodeState::AwaitingStart { .. } => Asks::Start {
            confirm: match node.start {
                Start::Confirm { .. } => true,
                Start::Auto | Start::Manual | Start::Timed(_) => false,
            },
        },
        NodeState::Waiting
        | NodeState::AwaitingTime { .. }
        | NodeState::Ready { .. }
        | NodeState::Running(_)
        | NodeState::Backoff { .. }
        | NodeState::Done(_)
        | NodeState::Skipped { .. } => return None,
    };
    Some(Question {
        node: id,
        name: node.name.clone(),
        text: gate_text(run, id),
        asks,
    })
}

fn is_open(run: &Run, id: NodeId) -> bool {
    matches!(
        run.node(id),
        Some(NodeState::Deciding(_) | NodeState::AwaitingStart { .. })
    )
}

/// A parameter as it is asked for: `channel (one of `beta`, `stable`) [beta]: where to`.
fn wanted(param: &Param) -> String {
    let default = param.default.as_ref();
    let default = default.map(|value| format!(" [{value}]")).unwrap_or_default();
    let help = param.help.as_ref();
    let help = help
        .map(|help| format!(": {}", term::clean(help)))
        .unwrap_or_default();
    format!("{} ({}){default}{help}", param.name, param.kind.describe())
}

fn yes<'w>(question: &Question, words: impl Iterator<Item = &'w str>) -> Result<Vec<Ask>, String> {
    let node = question.node;
    Ok(match &question.asks {
        Asks::Approval { subject, params } => {
            let given = words.map(pair).collect::<Result<BTreeMap<_, _>, _>>()?;
            param_values(params, &given)?;
            vec![Ask::Decide {
                node,
                verdict: Verdict::Approve,
                subject: subject.clone(),
                comment: None,
                params: given,
            }]
        }
        Asks::Start { confirm } => [Look::First, Look::Second]
            .into_iter()
            .take(if *confirm { 2 } else { 1 })
            .map(|look| Ask::Start { node, look })
            .collect(),
    })
}

fn no(question: &Question, comment: &str) -> Vec<Ask> {
    match &question.asks {
        Asks::Approval { subject, .. } => vec![Ask::Decide {
            node: question.node,
            verdict: Verdict::Reject,
            subject: subject.clone(),
            comment: Some(comment.to_owned()),
            params: BTreeMap::new(),
        }],
        // There is no "never" for a start: the run goes on without it as long as it can.
        Asks::Start { .. } => Vec::new(),
    }
}
