//! Ticket, controllers, supervisors that die or come twice.

use std::fs;

use pipekeeper_agent::protocol::{FromAgent, Orphan, RecordOutcome, StoreAccess, ToAgent};
use rustix::process::Signal;

use crate::support::{Attempt, is_alive, make_gate, open_gate, wait_at};

#[test]
fn go_twice_starts_once() {
    let attempt = Attempt::script("echo ran >> @/side").localized();
    let mut supervisor = attempt.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    controller.go(Vec::new());
    let record = controller.finished();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert_eq!(fs::read_to_string(attempt.file("side")).unwrap(), "ran\n");
    assert_eq!(
        attempt.dir.read_ticket().unwrap().as_deref(),
        Some(controller.holder.as_str())
    );
    assert!(controller.is_at_end());
    assert!(supervisor.wait().success());
    assert!(!attempt.dir.workspace().exists() && !attempt.dir.home().exists());
}

#[test]
fn without_its_ticket_nothing_starts() {
    let wrong = ToAgent::Go {
        holder: "another".into(),
        secrets: Vec::new(),
        mask: Vec::new(),
        store: StoreAccess::default(),
    };
    for message in [ToAgent::Exit, wrong, ToAgent::Stop { grace_ms: 0 }] {
        let attempt = Attempt::script("echo ran >> @/side").localized();
        let mut supervisor = attempt.spawn();
        let mut controller = supervisor.connect();
        controller.send(&ToAgent::Ping);
        controller.until(|message| *message == FromAgent::Pong);
        controller.send(&message);
        let record = controller.finished();
        let expected = if matches!(message, ToAgent::Stop { .. }) {
            RecordOutcome::Cancelled
        } else {
            RecordOutcome::Refused
        };
        assert_eq!(record.outcome, expected);
        assert_eq!((record.started_ms, record.steps.len()), (None, 0));
        assert!(supervisor.wait().success());
        assert!(!attempt.file("side").exists() && !attempt.dir.ticket().exists());
    }
}

#[test]
fn a_second_supervisor_leaves() {
    let attempt = Attempt::script("echo ran >> @/side").localized();
    let first = attempt.spawn();
    let mut controller = first.connect();
    assert!(attempt.spawn_again("second").wait().success());
    assert!(attempt.dir.read_record().unwrap().is_none());
    controller.go(Vec::new());
    assert_eq!(controller.finished().outcome, RecordOutcome::Succeeded);
}

#[test]
fn a_ticket_of_a_dead_supervisor_is_never_used_again() {
    let attempt = Attempt::script("echo ran >> @/side").localized();
    fs::write(attempt.dir.ticket(), "dead").unwrap();
    assert!(attempt.spawn().wait().success());
    let record = attempt.dir.read_record().unwrap().unwrap();
    assert!(record.started_ms.is_some(), "its steps may have run");
    assert!(
        matches!(record.outcome, RecordOutcome::Errored { .. }),
        "{:?}",
        record.outcome
    );
    assert!(attempt.spawn_again("third").wait().success());
    assert_eq!(attempt.dir.read_record().unwrap().unwrap(), record);
    assert!(!attempt.file("side").exists());
}

#[test]
fn a_new_controller_gets_the_whole_state_and_replaces_the_old() {
    let attempt = Attempt::script("echo one; echo > @/ready; read x < @/gate; echo two").localized();
    make_gate(&attempt.file("gate"));
    make_gate(&attempt.file("ready"));
    let supervisor = attempt.spawn();
    let mut first = supervisor.connect();
    first.go(Vec::new());
    wait_at(&attempt.file("ready"));
    let mut second = supervisor.connect();
    assert_eq!(second.holder, first.holder);
    assert!(matches!(second.next(), Some(FromAgent::Started { .. })));
    assert!(matches!(
        second.next(),
        Some(FromAgent::StepStarted { index: 0, .. })
    ));
    assert!(matches!(second.next(), Some(FromAgent::LogGrew { .. })));
    while first.stream.set_nonblocking(false).is_ok() && !first.is_at_end() {}
    open_gate(&attempt.file("gate"));
    let record = second.finished();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert!(attempt.log().ends_with("echo two\ntwo\n"), "{}", attempt.log());
    assert_eq!(record.log_bytes, attempt.log().len() as u64);
}

#[test]
fn it_works_on_without_a_controller() {
    let attempt = Attempt::script("read x < @/gate; echo done").localized();
    make_gate(&attempt.file("gate"));
    let mut supervisor = attempt.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    controller.step_started();
    drop(controller);
    for signal in [Signal::INT, Signal::HUP] {
        supervisor.signal(signal);
    }
    open_gate(&attempt.file("gate"));
    assert!(supervisor.wait().success());
    assert_eq!(
        attempt.dir.read_record().unwrap().unwrap().outcome,
        RecordOutcome::Succeeded
    );
}

#[test]
fn an_orphan_stops_if_it_was_told_to() {
    for started in [false, true] {
        let mut attempt = Attempt::script("echo $$ > @/ready; exec sleep 1000").localized();
        attempt.spec.orphan = Orphan::StopAfter { ms: 50 };
        make_gate(&attempt.file("ready"));
        let mut supervisor = attempt.spawn();
        let mut controller = supervisor.connect();
        let mut pid = String::new();
        if started {
            controller.go(Vec::new());
            pid = wait_at(&attempt.file("ready"));
        }
        drop(controller);
        assert!(supervisor.wait().success());
        assert_eq!(
            attempt.dir.read_record().unwrap().unwrap().outcome,
            RecordOutcome::Cancelled
        );
        assert!(!started || !is_alive(&pid));
    }
}

#[test]
fn its_own_sigterm_cancels() {
    let attempt = Attempt::script("echo $$ > @/ready; exec sleep 1000").localized();
    make_gate(&attempt.file("ready"));
    let supervisor = attempt.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    let pid = wait_at(&attempt.file("ready"));
    supervisor.signal(Signal::TERM);
    assert_eq!(controller.finished().outcome, RecordOutcome::Cancelled);
    assert!(!is_alive(&pid));
}

#[test]
fn a_spec_of_another_version_starts_nothing() {
    let mut attempt = Attempt::script("echo ran >> @/side").localized();
    attempt.spec.version = 99;
    assert!(!attempt.spawn().wait().success());
    let error = fs::read_to_string(attempt.dir.path().join("agent.err")).unwrap();
    assert!(error.contains("version `99`"), "{error}");
    assert!(attempt.dir.read_record().unwrap().is_none());
}
