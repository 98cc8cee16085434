//! Planted bugs at gates: broken copies of the rules about who decides what.

use std::collections::BTreeMap;

use pipekeeper_engine::{
    Bypass, Decision, Envelope, Fact, Input, NodeState, Person, Rejection, Requester, Run, RunRequest,
    Standing, Verdict, decide, evolve,
};
use pipekeeper_model::{
    Actor, NodeId, Outcome,
    plan::{Body, Gate, SelfApproval},
};

use super::{
    bugs::{event, with_request},
    plans::name,
};

/// Gates that open in a retried run are approved by nobody.
pub(super) fn approve_again(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let mut after = run.clone();
    decision.events.iter().for_each(|event| evolve(&mut after, event));
    let is_retry = after.request().is_some_and(|request| request.adopted.is_some());
    let mut number = 0;
    while is_retry && number < 50 {
        number += 1;
        let open = (0..).map(NodeId).zip(after.nodes()).find_map(|(id, state)| {
            if let NodeState::Deciding(gate) = state {
                Some((id, gate.subject.clone()))
            } else {
                None
            }
        });
        let Some((node, subject)) = open else { break };
        let ghost = Envelope {
            at: input.at,
            actor: Actor::user(format!("ghost {number}")),
            body: Input::GateDecided {
                node,
                verdict: Verdict::Approve,
                subject,
                comment: None,
                params: BTreeMap::new(),
                standing: Standing::Owner,
            },
        };
        let more = decide(&after, &ghost)?;
        more.events.iter().for_each(|event| evolve(&mut after, event));
        decision.events.extend(more.events);
        decision.effects.extend(more.effects);
    }
    Ok(decision)
}

pub(super) fn late_approval(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decided = decide(run, input);
    match (&input.body, &decided) {
        (Input::GateDecided { node, subject, .. }, Err(Rejection::Stale { .. })) if !run.is_finished() => {
            let approved = Fact::GateApproved {
                node: *node,
                subject: subject.clone(),
                comment: None,
                person: None,
                needed: 1,
                params: BTreeMap::new(),
            };
            let finished = Fact::NodeFinished {
                node: *node,
                outcome: Outcome::Succeeded,
                reason: None,
            };
            Ok(Decision {
                events: vec![event(input, approved), event(input, finished)],
                effects: Vec::new(),
            })
        }
        _ => decided,
    }
}

pub(super) fn any_subject(run: &Run, input: &Envelope<Input>) -> Envelope<Input> {
    let mut input = input.clone();
    if let Input::GateDecided { node, subject, .. } = &mut input.body
        && let Some(NodeState::Deciding(gate)) = run.node(*node)
    {
        *subject = gate.subject.clone();
    }
    input
}

pub(super) fn approve_instead(input: &Envelope<Input>) -> Envelope<Input> {
    let mut input = input.clone();
    if let Input::GateDecided { verdict, .. } = &mut input.body {
        *verdict = Verdict::Approve;
    }
    input
}

pub(super) fn count_twice(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decided = decide(run, input);
    let is_decision = matches!(input.body, Input::GateDecided { .. });
    if !is_decision || !matches!(decided, Err(Rejection::Duplicate)) {
        return decided;
    }
    let mut masked = as_person(input, |person| {
        person.name = name("mask");
        person.identities.clear();
    });
    masked.actor = Actor::user("mask");
    let mut decision = decide(run, &masked)?;
    for event in &mut decision.events {
        event.actor = input.actor.clone();
    }
    Ok(decision)
}

/// Each identity of a person counts as a person.
pub(super) fn count_identities(input: &Envelope<Input>) -> Envelope<Input> {
    let known_by = match &input.actor {
        Actor::Forge { login, .. } => format!("{login}-at-the-forge"),
        Actor::User { name } => name.clone(),
        Actor::System => return input.clone(),
    };
    as_person(input, |person| {
        person.name = name(&known_by);
        person.identities.clear();
    })
}

/// Whoever decides has every role.
pub(super) fn any_approver(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_gates(run, input, |gate| gate.by.clear())
}

/// Whoever rejects has every role.
pub(super) fn any_rejection(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let rejects = matches!(
        input.body,
        Input::GateDecided {
            verdict: Verdict::Reject,
            ..
        }
    );
    if rejects {
        any_approver(run, input)
    } else {
        decide(run, input)
    }
}

pub(super) fn approve_own(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let is_stranger = |request: Option<&Requester>| request == Some(&Requester::Unlinked);
    if let Input::GateDecided { standing, .. } = &input.body
        && is_stranger(standing.person().map(|person| &person.requester))
    {
        return decide(run, input);
    }
    with_gates(run, input, |gate| gate.self_approval = SelfApproval::Allowed)
}

/// A pusher whom nobody knows is somebody whom everybody knows.
pub(super) fn trust_stranger(input: &Envelope<Input>) -> Envelope<Input> {
    as_person(input, |person| {
        person.requester = Requester::Linked(name("nobody"))
    })
}

pub(super) fn reject_silently(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut spoken = input.clone();
    if let Input::GateDecided { comment, .. } = &mut spoken.body {
        comment.get_or_insert_with(|| "no".to_owned());
    }
    let mut decision = decide(run, &spoken)?;
    for event in &mut decision.events {
        if let Fact::GateRejected { comment, .. } = &mut event.fact
            && let Input::GateDecided { comment: said, .. } = &input.body
        {
            comment.clone_from(said);
        }
    }
    Ok(decision)
}

pub(super) fn approved_for_ever(input: &Envelope<Input>) -> Envelope<Input> {
    let mut input = input.clone();
    if let Input::TicketAsked { standings, .. } = &mut input.body {
        for standing in standings.values_mut() {
            *standing = Some(Standing::Owner);
        }
    }
    input
}

pub(super) fn keep_all(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    for event in &mut decision.events {
        if let Fact::GateVoided { lost, .. } = &mut event.fact {
            lost.clear();
        }
    }
    Ok(decision)
}

pub(super) fn may_bypass(input: &Envelope<Input>) -> Envelope<Input> {
    as_person(input, |person| person.bypass = Bypass::Allowed)
}

/// Whoever presses start is everybody.
pub(super) fn confirm_own(input: &Envelope<Input>) -> Envelope<Input> {
    let mut input = input.clone();
    if let Input::StartPressed { standing, .. } = &mut input.body {
        *standing = Standing::Owner;
    }
    input
}

/// Whoever presses start is known by no other name.
pub(super) fn confirm_by_name(input: &Envelope<Input>) -> Envelope<Input> {
    let mut input = input.clone();
    if let Input::StartPressed {
        standing: Standing::Person(person),
        ..
    } = &mut input.body
    {
        person.name = name("mask");
        person.identities.clear();
    }
    input
}

fn as_person(input: &Envelope<Input>, change: impl FnOnce(&mut Person)) -> Envelope<Input> {
    let mut input = input.clone();
    if let Input::GateDecided {
        standing: Standing::Person(person),
        ..
    } = &mut input.body
    {
        change(person);
    }
    input
}

/// Decides as if the gates of the plan were others; what is asked and decided names the real subject.
fn with_gates(run: &Run, input: &Envelope<Input>, change: impl Fn(&mut Gate)) -> Result<Decision, Rejection> {
    if !matches!(input.body, Input::GateDecided { .. }) {
        return decide(run, input);
    }
    with_request(run, input, |request: &mut RunRequest| {
        for node in &mut request.plan.nodes {
            if let Body::Approve(gate) = &mut node.body {
                change(gate);
            }
        }
    })
}
