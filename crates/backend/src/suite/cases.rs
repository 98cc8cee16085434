//! What every backend promises.

use std::collections::BTreeSet;

use pipekeeper_model::{AttemptId, AttemptOutcome, Holder, Millis};

use super::{Act, Session, World, attempt, session::must};
use crate::{Ticket, What};

/// A second launch adopts the first.
pub async fn repeated_launches_are_one_run(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    session.launch(world, attempt(1), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    assert_eq!(
        session.finished(attempt(1)).await.outcome,
        AttemptOutcome::Succeeded
    );
    session.launch(world, attempt(1), Act::Succeed).await;
    session.finished(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 1);
}

/// A supervisor that is sent away runs nothing.
pub async fn nothing_runs_without_a_ticket(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    must(session.backend.answer(attempt(1), &holder, Ticket::Exit).await);
    session.gone(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 0);
}

/// A ticket may be given again and again.
pub async fn repeated_tickets_start_once(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    for _ in 0..3 {
        session.go(attempt(1), &holder).await;
    }
    session.finished(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    session.finished(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 1);
}

/// A ticket for another holder starts nothing.
pub async fn tickets_of_others_are_ignored(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &Holder("another".to_owned())).await;
    must(session.backend.answer(attempt(1), &holder, Ticket::Exit).await);
    session.gone(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 0);
}

/// The record holds the step's exit code.
pub async fn exit_codes_are_told(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Fail(7)).await;
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    let record = session.finished(attempt(1)).await;
    assert_eq!(record.outcome, AttemptOutcome::Failed);
    assert_eq!(record.reason.as_deref(), Some("exit code 7"));
    assert_eq!(record.steps.first().and_then(|step| step.code), Some(7));
}

/// A stop before the ticket wins over the ticket.
pub async fn stopped_before_the_ticket_never_runs(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    must(session.backend.stop(attempt(1), Millis(0)).await);
    session.go(attempt(1), &holder).await;
    expect_not_run(&session.ended(attempt(1)).await);
    session.launch(world, attempt(1), Act::Succeed).await;
    expect_not_run(&session.ended(attempt(1)).await);
    assert_eq!(world.starts(attempt(1)), 0);
}

/// A stop before the launch voids it.
pub async fn stopped_before_launch_never_runs(world: &impl World) {
    let mut session = Session::open(world);
    must(session.backend.stop(attempt(1), Millis(0)).await);
    session.gone(attempt(1)).await;
    session.launch(world, attempt(1), Act::Succeed).await;
    session.gone(attempt(1)).await;
    assert_eq!(world.starts(attempt(1)), 0);
}

/// A stop while it runs ends it as cancelled; a second one changes nothing.
pub async fn stopped_while_running_is_cancelled(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Hang).await;
    session.run(attempt(1)).await;
    must(session.backend.stop(attempt(1), Millis::seconds(5)).await);
    must(session.backend.stop(attempt(1), Millis::seconds(5)).await);
    let record = session.finished(attempt(1)).await;
    assert_eq!(record.outcome, AttemptOutcome::Cancelled);
    must(session.backend.stop(attempt(1), Millis::seconds(5)).await);
    assert_eq!(session.finished(attempt(1)).await, record);
}

/// Asking for an attempt that never was is no error.
pub async fn an_unknown_attempt_is_gone(world: &impl World) {
    let mut session = Session::open(world);
    must(session.backend.observe(attempt(9)).await);
    session.gone(attempt(9)).await;
    must(session.backend.forget(attempt(9)).await);
}

/// The record is told as often as it is asked for.
pub async fn an_ended_attempt_is_told_again(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    let record = session.finished(attempt(1)).await;
    must(session.backend.observe(attempt(1)).await);
    assert_eq!(session.finished(attempt(1)).await, record);
}

/// What is forgotten is gone.
pub async fn forgotten_attempts_are_not_listed(world: &impl World) {
    let mut session = Session::open(world);
    session.launch(world, attempt(1), Act::Succeed).await;
    session.launch(world, attempt(2), Act::Succeed).await;
    let holder = session.checked_in(attempt(1)).await;
    session.go(attempt(1), &holder).await;
    session.finished(attempt(1)).await;
    assert_eq!(must(session.backend.list().await), [attempt(1), attempt(2)]);
    must(session.backend.forget(attempt(1)).await);
    must(session.backend.forget(attempt(1)).await);
    assert_eq!(must(session.backend.list().await), [attempt(2)]);
    must(session.backend.stop(attempt(2), Millis(0)).await);
    session.ended(attempt(2)).await;
}

/// Many attempts run at the same time, each once.
pub async fn many_attempts_at_once(world: &impl World) {
    let mut session = Session::open(world);
    for node in 0..world.many() {
        session.launch(world, attempt(node), Act::Succeed).await;
    }
    // An end may be told again: to whoever answers a check-in that was told again.
    let mut open: BTreeSet<AttemptId> = (0..world.many()).map(attempt).collect();
    while !open.is_empty() {
        let (id, what) = session.any().await;
        match what {
            What::CheckedIn { holder } => session.go(id, &holder).await,
            What::Finished { record, .. } => {
                assert_eq!(record.outcome, AttemptOutcome::Succeeded, "{:?}", record.reason);
                open.remove(&id);
            }
            What::Gone { reason } | What::Hopeless { reason } => panic!("`{id}` is gone: {reason}"),
            What::Waiting { .. }
            | What::StepStarted { .. }
            | What::LogGrew { .. }
            | What::Silent { .. }
            | What::Held { .. } => {}
        }
    }
    assert!((0..world.many()).all(|node| world.starts(attempt(node)) == 1));
}

fn expect_not_run(what: &What) {
    if let What::Finished { record, .. } = what {
        assert_eq!(record.outcome, AttemptOutcome::Cancelled);
    }
}
