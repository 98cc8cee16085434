//! Planted bugs: broken copies of the rules, and marks that store and backend of the simulation look for.
//!
//! They test the simulator: each must be caught by seeds alone.

use std::sync::Arc;

use pipekeeper_controller::Rules;
use pipekeeper_engine::{
    CancelReason, Claim, ClaimId, Decision, Effect, Envelope, Event, Fact, Input, Next, NodeState, Rejection,
    Run, RunRequest, Seen, Snapshot, decide,
};
use pipekeeper_model::{
    AttemptOutcome, Holder, Millis, NodeId, Outcome, SkipReason,
    plan::{Body, OnFailure, Section, Wait, WaitFor},
};

use super::{environment_bugs, gate_bugs, lock_bugs};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A retried run takes over the approvals of the run before.
    ApprovalAdopted,
    /// A commit is reported as done before it is.
    EffectBeforeCommit,
    /// A gate that its condition skips opens the way.
    SkippedGateOpens,
    /// A second supervisor gets a ticket too.
    SecondTicket,
    /// After a cancel, what was on its way goes on.
    CancelStopsNothing,
    /// An approval after the end of a gate revives it.
    LateApproval,
    /// The store writes without comparing versions.
    LostCompare,
    /// Effects are not stored.
    OutboxRowDropped,
    /// Stored effects are not found again.
    EffectsForgotten,
    /// A delivery is settled without its runs.
    DeliveryWithoutRuns,
    /// A late record ends a settled node again.
    NodeReopened,
    /// No attempt is stopped when its time is over.
    TimeoutIgnored,
    /// A vanished attempt counts as a success.
    SuccessWithoutRecord,
    /// Any supervisor's record is believed.
    RecordOfAnyHolder,
    /// `finally` is left out.
    FinallySkipped,
    /// `max_parallel` is exceeded by one.
    OnePlaceTooMany,
    /// One attempt more is at work than there is room for.
    OneAttemptTooMany,
    /// `retry` tries once more.
    OneTryTooMany,
    /// Free tries are not counted.
    FreeTriesForever,
    /// The subject of a decision is not compared.
    SubjectUnchecked,
    /// A rejection counts as an approval.
    RejectionApproves,
    /// A run past its first gate is superseded.
    SupersedePastGate,
    /// One person's approvals count twice.
    SamePersonTwice,
    /// One of several needs is not waited for.
    NeedForgotten,
    /// A failure does not stop the rest.
    FailureStopsNothing,
    /// A run of a group does not wait for its turn.
    TurnIgnored,
    /// A supervisor tells its secret in its outputs.
    SecretTold,
    /// What succeeded with other inputs is reused.
    OtherInputsReused,
    /// Anybody approves, whatever the gate says.
    ApproverUnchecked,
    /// Anybody rejects, whatever the gate says.
    RejecterUnchecked,
    /// Whoever asked for the run approves it.
    OwnApproval,
    /// One person counts once for every identity.
    IdentitiesCountTwice,
    /// One approval is enough although nobody knows who pushed.
    StrangerTrusted,
    /// A rejection needs no reason.
    SilentRejection,
    /// An approval counts for ever, whatever became of who gave it.
    ApprovalForever,
    /// A gate that opens again keeps what does not count any more.
    VoidKeepsAll,
    /// Anybody bypasses gates.
    BypassByAnybody,
    /// Whoever had the lease once writes as its holder for ever.
    EpochUnchecked,
    /// Locks are not waited for.
    LocksIgnored,
    /// A lock is held for ever.
    LocksKept,
    /// Locks are given back while a gate waits, whatever the file says.
    LocksGivenBack,
    /// Locks are given back while nothing inside moves, whoever is waited for.
    LocksYieldEarly,
    /// A lock has one slot more.
    OneSlotTooMany,
    /// Of several locks only one is waited for.
    OneLockOfSeveral,
    /// Who has a lock is forgotten.
    HoldersForgotten,
    /// Whoever comes last gets locks first.
    LineReversed,
    /// An environment's gate is not asked.
    EnvironmentUngated,
    /// An environment's gate asks before anything is to start there.
    EnvironmentAskedEarly,
    /// Windows are not looked at.
    WindowIgnored,
    /// A window that closed meanwhile does not stop a start.
    WindowForgottenAtTicket,
    /// What a window took back starts after a failure.
    WindowOpensAfterFailure,
    /// An environment admits every branch.
    BranchIgnored,
    /// What an environment does not admit lets go on what stands behind it.
    RefusedPasses,
    /// The approval of one environment counts for another.
    GatesMixedUp,
    /// A gate that nothing needs stays.
    GateKept,
    /// Whoever asked for a start confirms it, where another person should.
    ConfirmedBySame,
    /// One person confirms by another name what they asked for.
    ConfirmedByOtherName,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 57] = [
        Self::ApprovalAdopted,
        Self::EffectBeforeCommit,
        Self::SkippedGateOpens,
        Self::SecondTicket,
        Self::CancelStopsNothing,
        Self::LateApproval,
        Self::LostCompare,
        Self::OutboxRowDropped,
        Self::EffectsForgotten,
        Self::DeliveryWithoutRuns,
        Self::NodeReopened,
        Self::TimeoutIgnored,
        Self::SuccessWithoutRecord,
        Self::RecordOfAnyHolder,
        Self::FinallySkipped,
        Self::OnePlaceTooMany,
        Self::OneAttemptTooMany,
        Self::OneTryTooMany,
        Self::FreeTriesForever,
        Self::SubjectUnchecked,
        Self::RejectionApproves,
        Self::SupersedePastGate,
        Self::SamePersonTwice,
        Self::NeedForgotten,
        Self::FailureStopsNothing,
        Self::TurnIgnored,
        Self::SecretTold,
        Self::OtherInputsReused,
        Self::ApproverUnchecked,
        Self::RejecterUnchecked,
        Self::OwnApproval,
        Self::IdentitiesCountTwice,
        Self::StrangerTrusted,
        Self::SilentRejection,
        Self::ApprovalForever,
        Self::VoidKeepsAll,
        Self::BypassByAnybody,
        Self::EpochUnchecked,
        Self::LocksIgnored,
        Self::LocksKept,
        Self::LocksGivenBack,
        Self::LocksYieldEarly,
        Self::OneSlotTooMany,
        Self::OneLockOfSeveral,
        Self::HoldersForgotten,
        Self::LineReversed,
        Self::EnvironmentUngated,
        Self::EnvironmentAskedEarly,
        Self::WindowIgnored,
        Self::WindowForgottenAtTicket,
        Self::WindowOpensAfterFailure,
        Self::BranchIgnored,
        Self::RefusedPasses,
        Self::GatesMixedUp,
        Self::GateKept,
        Self::ConfirmedBySame,
        Self::ConfirmedByOtherName,
    ];
}

/// The engine's rules with a bug in them.
pub(crate) struct BrokenRules(pub(crate) Bug);

impl Rules for BrokenRules {
    fn decide(&self, run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
        match self.0 {
            Bug::ApprovalAdopted => gate_bugs::approve_again(run, input),
            Bug::SkippedGateOpens => with_request(run, input, unguard_skipped),
            Bug::SecondTicket => second_ticket(run, input),
            Bug::CancelStopsNothing => cancel_nothing(run, input),
            Bug::LateApproval => gate_bugs::late_approval(run, input),
            Bug::NodeReopened => reopen(run, input),
            Bug::TimeoutIgnored => ignore_timeout(run, input),
            Bug::SuccessWithoutRecord => succeed_vanished(run, input),
            Bug::RecordOfAnyHolder => decide(run, &believe_anyone(run, input)),
            Bug::FinallySkipped => skip_finally(run, input),
            Bug::OnePlaceTooMany => with_request(run, input, |request| {
                request.plan.max_parallel = request.plan.max_parallel.map(|places| places + 1);
            }),
            Bug::OneTryTooMany => with_request(run, input, |request| {
                for node in &mut request.plan.nodes {
                    node.retry.attempts += 1;
                }
            }),
            Bug::FreeTriesForever => decide(&forget_free_tries(run), input),
            Bug::SubjectUnchecked => decide(run, &gate_bugs::any_subject(run, input)),
            Bug::RejectionApproves => decide(run, &gate_bugs::approve_instead(input)),
            Bug::SupersedePastGate => supersede_anyway(run, input),
            Bug::SamePersonTwice => gate_bugs::count_twice(run, input),
            Bug::ApproverUnchecked => gate_bugs::any_approver(run, input),
            Bug::RejecterUnchecked => gate_bugs::any_rejection(run, input),
            Bug::OwnApproval => gate_bugs::approve_own(run, input),
            Bug::IdentitiesCountTwice => decide(run, &gate_bugs::count_identities(input)),
            Bug::StrangerTrusted => decide(run, &gate_bugs::trust_stranger(input)),
            Bug::SilentRejection => gate_bugs::reject_silently(run, input),
            Bug::ApprovalForever => decide(run, &gate_bugs::approved_for_ever(input)),
            Bug::VoidKeepsAll => gate_bugs::keep_all(run, input),
            Bug::BypassByAnybody => decide(run, &gate_bugs::may_bypass(input)),
            // The store's.
            Bug::EpochUnchecked | Bug::OneAttemptTooMany => decide(run, input),
            Bug::EnvironmentUngated => environment_bugs::ungated(run, input),
            Bug::EnvironmentAskedEarly => environment_bugs::ask_early(run, input),
            Bug::WindowIgnored => environment_bugs::windowless(run, input),
            Bug::WindowForgottenAtTicket => environment_bugs::late_windows(run, input),
            Bug::WindowOpensAfterFailure => environment_bugs::open_after_failure(run, input),
            Bug::BranchIgnored => environment_bugs::admit_all(run, input),
            Bug::RefusedPasses => environment_bugs::pass_refused(run, input),
            Bug::GatesMixedUp => environment_bugs::mix_gates(run, input),
            Bug::GateKept => environment_bugs::keep_gates(run, input),
            Bug::ConfirmedBySame => decide(run, &gate_bugs::confirm_own(input)),
            Bug::ConfirmedByOtherName => decide(run, &gate_bugs::confirm_by_name(input)),
            Bug::NeedForgotten => with_request(run, input, |request| {
                for node in &mut request.plan.nodes {
                    if node.needs.len() > 1 {
                        node.needs.pop();
                    }
                }
            }),
            Bug::FailureStopsNothing => with_request(run, input, |request| {
                request.plan.on_failure = OnFailure::Continue;
            }),
            Bug::TurnIgnored => with_request(run, input, |request| request.group = None),
            Bug::LocksIgnored => lock_bugs::ignore(run, input),
            Bug::LocksKept => lock_bugs::keep(run, input),
            Bug::LocksGivenBack => lock_bugs::give_back(run, input),
            Bug::LocksYieldEarly => lock_bugs::yield_early(run, input),
            Bug::OneSlotTooMany
            | Bug::OneLockOfSeveral
            | Bug::HoldersForgotten
            | Bug::LineReversed
            | Bug::EffectBeforeCommit
            | Bug::LostCompare
            | Bug::OutboxRowDropped
            | Bug::EffectsForgotten
            | Bug::DeliveryWithoutRuns
            | Bug::SecretTold
            | Bug::OtherInputsReused => decide(run, input),
        }
    }

    fn turns(&self, claims: &[Claim]) -> Vec<ClaimId> {
        lock_bugs::turns(self.0, claims)
    }
}

/// Decides as if the run were made of another request; what is recorded names the real one.
pub(super) fn with_request(
    run: &Run,
    input: &Envelope<Input>,
    change: impl Fn(&mut RunRequest),
) -> Result<Decision, Rejection> {
    if let Input::RunRequested(request) = &input.body {
        let mut changed = request.as_ref().clone();
        change(&mut changed);
        let body = Input::RunRequested(Arc::new(changed));
        let mut decision = decide(run, &with_body(input, body))?;
        if let Some(first) = decision.events.first_mut() {
            first.fact = Fact::RunCreated {
                request: Arc::clone(request),
            };
        }
        return Ok(decision);
    }
    let changed = rewritten(run, |stored| {
        let request = stored.pointer_mut("/body/request")?;
        let mut changed: RunRequest = serde_json::from_value(request.clone()).ok()?;
        change(&mut changed);
        *request = serde_json::to_value(changed).ok()?;
        Some(())
    });
    decide(&changed, input)
}

/// The same run with something else in its stored form.
fn rewritten(run: &Run, change: impl FnOnce(&mut serde_json::Value) -> Option<()>) -> Run {
    let rewrite = || {
        let mut stored = serde_json::to_value(Snapshot::from(run)).ok()?;
        change(&mut stored)?;
        serde_json::from_value::<Snapshot>(stored).ok()
    };
    rewrite().map_or_else(|| run.clone(), Run::from)
}

fn with_body(input: &Envelope<Input>, body: Input) -> Envelope<Input> {
    Envelope {
        at: input.at,
        actor: input.actor.clone(),
        body,
    }
}

pub(super) fn event(input: &Envelope<Input>, fact: Fact) -> Event {
    Event {
        at: input.at,
        actor: input.actor.clone(),
        fact,
    }
}

/// A gate whose condition is plainly false becomes a wait, which lets what is behind it go on.
fn unguard_skipped(request: &mut RunRequest) {
    for node in &mut request.plan.nodes {
        let is_skipped = node
            .conditions
            .iter()
            .any(|condition| condition.expression == "false");
        if is_skipped && matches!(node.body, Body::Approve(_)) {
            node.body = Body::Wait(Wait {
                wait_for: WaitFor::Elapsed { length: Millis(0) },
            });
        }
    }
}

fn second_ticket(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decided = decide(run, input);
    match (&input.body, &decided) {
        (Input::TicketAsked { attempt, holder, .. }, Err(Rejection::Illegal { .. })) => {
            let fact = Fact::TicketGranted {
                attempt: *attempt,
                holder: holder.clone(),
                deadline: input.at + Millis::minutes(5),
            };
            Ok(Decision {
                events: vec![event(input, fact)],
                effects: Vec::new(),
            })
        }
        _ => decided,
    }
}

fn cancel_nothing(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    if matches!(input.body, Input::CancelRequested(_)) {
        let is_kept = |event: &Event| {
            matches!(
                event.fact,
                Fact::CancelBegan { .. } | Fact::NodeSkipped { .. } | Fact::FinallyStopped
            )
        };
        let live = run
            .nodes()
            .iter()
            .any(|state| matches!(state, NodeState::Running(_)));
        if live {
            decision.events.retain(is_kept);
            decision.effects.clear();
        }
    }
    Ok(decision)
}

fn reopen(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decided = decide(run, input);
    match (&input.body, &decided) {
        (
            Input::AttemptObserved {
                attempt,
                seen: Seen::Finished { record, .. },
            },
            Err(Rejection::Stale { .. }),
        ) if !run.is_finished() => {
            let fact = Fact::AttemptFinished {
                attempt: *attempt,
                record: record.clone(),
                next: Next::Settled {
                    outcome: record.outcome.to_outcome(),
                },
            };
            Ok(Decision {
                events: vec![event(input, fact)],
                effects: Vec::new(),
            })
        }
        _ => decided,
    }
}

fn ignore_timeout(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decision = decide(run, input)?;
    let stops = decision.events.iter().any(|event| {
        matches!(
            event.fact,
            Fact::StopAsked {
                outcome: Outcome::TimedOut,
                ..
            }
        )
    });
    if stops {
        return Err(Rejection::Duplicate);
    }
    Ok(decision)
}

fn succeed_vanished(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    for event in &mut decision.events {
        if let Fact::AttemptFinished { record, next, .. } = &mut event.fact
            && record.outcome == AttemptOutcome::Lost
        {
            record.outcome = AttemptOutcome::Succeeded;
            *next = Next::Settled {
                outcome: Outcome::Succeeded,
            };
            break;
        }
    }
    Ok(decision)
}

fn granted(run: &Run, node: NodeId) -> Option<&Holder> {
    if let NodeState::Running(live) = run.node(node)? {
        live.phase.holder()
    } else {
        None
    }
}

fn believe_anyone(run: &Run, input: &Envelope<Input>) -> Envelope<Input> {
    let Input::AttemptObserved {
        attempt,
        seen: Seen::Finished { holder, record },
    } = &input.body
    else {
        return input.clone();
    };
    let seen = Seen::Finished {
        holder: granted(run, attempt.node).unwrap_or(holder).clone(),
        record: record.clone(),
    };
    let attempt = *attempt;
    with_body(input, Input::AttemptObserved { attempt, seen })
}

fn skip_finally(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let mut decision = decide(run, input)?;
    let began = decision
        .events
        .iter()
        .position(|event| matches!(event.fact, Fact::FinallyBegan { .. }));
    let Some(began) = began else { return Ok(decision) };
    decision.events.truncate(began);
    let is_finally = |node: NodeId| {
        let node = run.plan().and_then(|plan| plan.node(node));
        node.is_some_and(|node| node.section == Section::Finally)
    };
    decision
        .effects
        .retain(|effect| !matches!(effect, Effect::LaunchAttempt { attempt } if is_finally(attempt.node)));
    let mut add = |fact| decision.events.push(event(input, fact));
    add(Fact::FinallyStopped);
    for (id, node) in run
        .plan()
        .into_iter()
        .flat_map(|plan| plan.ids().zip(&plan.nodes))
    {
        if node.section == Section::Finally {
            add(Fact::NodeSkipped {
                node: id,
                reason: SkipReason::RunStopped,
                passes: false,
            });
        }
    }
    add(Fact::RunFinished {
        outcome: Outcome::Succeeded,
    });
    Ok(decision)
}

fn forget_free_tries(run: &Run) -> Run {
    rewritten(run, |stored| {
        for state in stored.pointer_mut("/body/nodes")?.as_array_mut()? {
            if let Some(free) = state.pointer_mut("/tries/free") {
                *free = serde_json::Value::from(0);
            }
        }
        Some(())
    })
}

fn supersede_anyway(run: &Run, input: &Envelope<Input>) -> Result<Decision, Rejection> {
    let decided = decide(run, input);
    let Input::CancelRequested(reason @ CancelReason::Superseded { .. }) = &input.body else {
        return decided;
    };
    if !matches!(decided, Err(Rejection::Illegal { .. })) {
        return decided;
    }
    let asked = with_body(input, Input::CancelRequested(CancelReason::Asked));
    let mut decision = decide(run, &asked)?;
    for event in &mut decision.events {
        if let Fact::CancelBegan { reason: recorded } = &mut event.fact {
            *recorded = reason.clone();
        }
    }
    Ok(decision)
}
