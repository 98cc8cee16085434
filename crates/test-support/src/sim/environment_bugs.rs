//! Planted bugs on environments: broken copies of the rules about gates, windows and branches.

use pipekeeper_engine::{Before, Decision, Envelope, Event, Fact, Input, NodeState, Rejection, Run, decide};
use pipekeeper_model::{NodeId, Patterns, SkipReason, plan::EnvironmentRule};

use super::bugs::{event, with_request};

/// Decides as if the rules of environments were others.
fn with_rules(
    run: &Run,
    input: &Envelope<Input>,
    change: impl Fn(&mut EnvironmentRule),
) -> Result<Decision, Rejection> {
    with_request(run, input, |request| {
        request.plan.environments.values_mut().for_each(&change)
    })
}

pub(super) fn ungated(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_rules(run, input, |rule| rule.gate = None)
}

/// The gates of environments are asked as soon as the run is there.
pub(super) fn ask_early(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let Input::RunRequested(request) = &input.body else {
        return Ok(decision);
    };
    let is_open =
        |id: NodeId, decision: &Decision| decision.events.iter().any(|event| event.fact.node() == Some(id));
    for gate in request.plan.environments.values().filter_map(|rule| rule.gate) {
        if !is_open(gate, &decision) {
            let fact = Fact::GateOpened {
                node: gate,
                subject: pipekeeper_model::Digest::of(format!("early {gate:?}").as_bytes()),
                expires: input.at + pipekeeper_model::Millis::hours(1),
            };
            decision.events.push(event(input, fact));
        }
    }
    Ok(decision)
}

pub(super) fn windowless(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_rules(run, input, |rule| rule.windows.clear())
}

/// Windows count until an attempt is launched, and not when it starts.
pub(super) fn late_windows(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decision = decide(run, input)?;
    let waits = |event: &Event| {
        matches!(
            event.fact,
            Fact::WaitBegan {
                before: Before::Window,
                ..
            }
        )
    };
    if matches!(input.body, Input::TicketAsked { .. }) && decision.events.iter().any(waits) {
        return windowless(run, input);
    }
    Ok(decision)
}

/// What was taken back as its window closed goes on after a failure elsewhere.
pub(super) fn open_after_failure(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let waits = |id: NodeId| {
        matches!(
            run.node(id),
            Some(NodeState::AwaitingTime {
                before: Before::Window,
                ..
            })
        )
    };
    let is_halt = |event: &Event| matches!(event.fact, Fact::RunHalted { .. });
    if decision.events.iter().any(is_halt) {
        let goes_on = run
            .plan()
            .into_iter()
            .flat_map(pipekeeper_model::Plan::ids)
            .any(waits);
        decision.events.retain(|event| {
            let ends_node = matches!(
                &event.fact,
                Fact::NodeFinished { node, .. } | Fact::NodeSkipped { node, .. } if waits(*node)
            );
            let ends_run = matches!(
                event.fact,
                Fact::RunFinished { .. } | Fact::FinallyBegan { .. } | Fact::FinallyStopped
            );
            !(ends_node || goes_on && ends_run)
        });
    }
    Ok(decision)
}

pub(super) fn admit_all(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_rules(run, input, |rule| rule.branches = Patterns::default())
}

pub(super) fn pass_refused(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    for event in &mut decision.events {
        if let Fact::NodeSkipped {
            reason: SkipReason::NotAdmitted { .. },
            passes,
            ..
        } = &mut event.fact
        {
            *passes = true;
        }
    }
    Ok(decision)
}

pub(super) fn mix_gates(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    with_request(run, input, |request| {
        let gates: Vec<_> = request.plan.environments.values().map(|rule| rule.gate).collect();
        for (rule, gate) in request
            .plan
            .environments
            .values_mut()
            .zip(gates.into_iter().rev())
        {
            rule.gate = gate;
        }
    })
}

pub(super) fn keep_gates(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let is_idle = |fact: &Fact| {
        matches!(
            fact,
            Fact::NodeSkipped {
                reason: SkipReason::NothingToStart { .. },
                ..
            }
        )
    };
    let has_live = run
        .nodes()
        .iter()
        .any(|state| matches!(state, NodeState::Running(_)));
    if has_live {
        decision.events.retain(|event| !is_idle(&event.fact));
    }
    Ok(decision)
}
