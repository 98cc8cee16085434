//! What waits for people, over all runs that somebody may see, and what they may do about it.
//!
//! The engine itself is asked, by a decision that is thrown away: nobody is offered what would be refused, and no rule is
//! written a second time. Entry: [`open`].

use std::{cmp::Reverse, collections::BTreeMap};

use pipekeeper_access::{Place, Verb};
use pipekeeper_engine::{Envelope, Input, Look, NodeState, Rejection, Verdict, decide};
use pipekeeper_model::{Actor, Timestamp, plan::Start};
use pipekeeper_store::{RunFilter, RunSummary};

use crate::{
    api::commands::check_unnamed,
    app::App,
    error::ApiError,
    load::{Loaded, NodeRef},
    people::{Caller, Proof, standing::Everybody},
};

/// Entries, at the most.
pub(crate) const MOST: usize = 200;
/// Runs that are read from the store at once.
const PAGE: u32 = 500;

/// What waits, as far as somebody may see it.
pub(crate) struct Inbox<T> {
    /// What they can decide first; of either kind the newest first.
    pub(crate) entries: Vec<T>,
    /// Whether older runs wait for people too.
    pub(crate) has_more: bool,
}

/// A node that waits for a person.
pub(crate) struct Waiting<'a> {
    pub(crate) summary: &'a RunSummary,
    pub(crate) loaded: &'a Loaded,
    pub(crate) node: NodeRef<'a>,
    pub(crate) need: Need,
    pub(crate) leave: Leave,
}

/// Since when and until when a node waits for a person.
#[derive(Clone, Copy)]
pub(crate) struct Need {
    pub(crate) since: Timestamp,
    pub(crate) expires: Timestamp,
}

/// What somebody may do about what waits; and why not, where they may not.
#[derive(Clone)]
pub(crate) struct Leave {
    /// To approve it, or to start it.
    pub(crate) approve: Result<(), String>,
    pub(crate) reject: Result<(), String>,
    pub(crate) bypass: Result<(), String>,
}

impl Leave {
    fn none(why: &str) -> Self {
        let no = || Err(why.to_owned());
        Self {
            approve: no(),
            reject: no(),
            bypass: no(),
        }
    }
}

/// Whether a node waits for a person.
pub(crate) fn need(state: &NodeState) -> Option<Need> {
    match state {
        NodeState::AwaitingStart { since, expires, .. } => Some(Need {
            since: *since,
            expires: *expires,
        }),
        NodeState::Deciding(gate) => Some(Need {
            since: gate.since,
            expires: gate.expires,
        }),
        NodeState::Waiting
        | NodeState::AwaitingTime { .. }
        | NodeState::Ready { .. }
        | NodeState::Running(_)
        | NodeState::Backoff { .. }
        | NodeState::Done(_)
        | NodeState::Skipped { .. } => None,
    }
}

/// Everything that waits for people in runs that the caller may see, each as `show` shows it.
pub(crate) async fn open<T>(
    app: &App,
    caller: &Caller,
    show: impl Fn(&Waiting<'_>) -> Result<T, ApiError>,
) -> Result<Inbox<T>, ApiError> {
    let everybody = app.people.everybody().await?;
    let now = app.now();
    let mut found = Vec::new();
    let mut filter = RunFilter {
        projects: caller.narrow(Verb::ReadRuns, None)?,
        active: true,
        ..RunFilter::default()
    };
    loop {
        let runs = app.parts.store.runs(&filter, PAGE).await?;
        for summary in runs.iter().filter(|run| run.needs_person) {
            let loaded = app.run(summary.id).await?;
            for node in loaded.nodes() {
                let Some(need) = need(node.state) else { continue };
                if found.len() == MOST {
                    return Ok(Inbox {
                        entries: sorted(found),
                        has_more: true,
                    });
                }
                let leave = leave(&loaded, node, caller, &everybody, now);
                let key = (leave.approve.is_err(), Reverse(need.since));
                let waiting = Waiting {
                    summary,
                    loaded: &loaded,
                    node,
                    need,
                    leave,
                };
                found.push((key, show(&waiting)?));
            }
        }
        match runs.last() {
            Some(oldest) if u32::try_from(runs.len()).is_ok_and(|count| count == PAGE) => {
                filter.before = Some(oldest.id);
            }
            Some(_) | None => {
                return Ok(Inbox {
                    entries: sorted(found),
                    has_more: false,
                });
            }
        }
    }
}

/// What the caller may do about a node that waits for a person.
pub(crate) fn leave(
    loaded: &Loaded,
    node: NodeRef<'_>,
    caller: &Caller,
    everybody: &Everybody,
    now: Timestamp,
) -> Leave {
    if caller.proof == Proof::Nothing {
        return Leave::none("nobody is signed in");
    }
    let standing = match everybody.standing(caller, &loaded.run, node.id) {
        Ok(standing) => standing,
        Err(error) => return Leave::none(error.detail()),
    };
    let may = |body| accepts(loaded, caller, body, now);
    match node.state {
        NodeState::Deciding(gate) => {
            let say = |verdict| Input::GateDecided {
                node: node.id,
                verdict,
                subject: gate.subject.clone(),
                comment: Some("a reason".to_owned()),
                params: BTreeMap::new(),
                standing: standing.clone(),
            };
            let judge = |verdict| {
                check_unnamed(caller, loaded, node).map_err(|error| error.detail().to_owned())?;
                may(say(verdict))
            };
            Leave {
                approve: judge(Verdict::Approve),
                reject: judge(Verdict::Reject),
                bypass: judge(Verdict::Bypass),
            }
        }
        NodeState::AwaitingStart { looked, .. } => Leave {
            approve: may_start(caller, loaded).and_then(|()| {
                may(Input::StartPressed {
                    node: node.id,
                    look: next_look(&node.node.start, looked.as_ref()),
                    standing: standing.clone(),
                })
            }),
            ..Leave::none("a start is not rejected: whoever does not want it cancels the run")
        },
        NodeState::Waiting
        | NodeState::AwaitingTime { .. }
        | NodeState::Ready { .. }
        | NodeState::Running(_)
        | NodeState::Backoff { .. }
        | NodeState::Done(_)
        | NodeState::Skipped { .. } => Leave::none("it waits for nobody"),
    }
}

/// Whether the engine would take this from the caller.
fn accepts(loaded: &Loaded, caller: &Caller, body: Input, now: Timestamp) -> Result<(), String> {
    let input = Envelope {
        at: now,
        actor: caller.actor(),
        body,
    };
    match decide(&loaded.run, &input) {
        // What it is to say, and with which values, is asked for yet.
        Ok(_) | Err(Rejection::Illegal { .. }) => Ok(()),
        Err(Rejection::Duplicate) => Err("you have done your part".to_owned()),
        Err(Rejection::Stale { why } | Rejection::NotPermitted { why }) => Err(why),
    }
}

fn may_start(caller: &Caller, loaded: &Loaded) -> Result<(), String> {
    let allowed = loaded
        .request()
        .and_then(|request| caller.check(Verb::StartAction, Place::project(&request.project)));
    allowed.map_err(|error| error.detail().to_owned())
}

/// Which of the two looks of `start: confirm` is taken next.
fn next_look(start: &Start, looked: Option<&Actor>) -> Look {
    match (start, looked) {
        (Start::Confirm { .. }, Some(_)) => Look::Second,
        (Start::Confirm { .. }, None) | (Start::Auto | Start::Manual | Start::Timed(_), _) => Look::First,
    }
}

fn sorted<T>(mut found: Vec<((bool, Reverse<Timestamp>), T)>) -> Vec<T> {
    found.sort_by_key(|(key, _)| *key);
    found.into_iter().map(|(_, entry)| entry).collect()
}
