//! How steps end, and that nothing outlives them.

use pipekeeper_agent::protocol::{RecordOutcome, ToAgent};

use crate::support::{Attempt, command, failed, is_alive, make_gate, step, wait_at};

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let record = Attempt::script("true")
        .with(step("exit 3"))
        .with(step("echo never"))
        .run();
    assert_eq!(failed(&record), (1, Some(3), None, String::new()));
    assert_eq!(record.steps.len(), 2);
    assert_eq!((record.steps[0].code, record.steps[1].code), (Some(0), Some(3)));
    let record = Attempt::script("kill -9 $$").run();
    assert_eq!(failed(&record), (0, None, Some(9), String::new()));
    let record = Attempt::script("false; echo never").run();
    assert_eq!(failed(&record).1, Some(1));
}

#[test]
fn what_cannot_be_started_fails_with_a_reason() {
    let attempt = Attempt::new().with(command(&["no-such-program"]));
    let (_, code, _, reason) = failed(&attempt.run());
    assert_eq!(
        (code, reason.as_str()),
        (Some(127), "command `no-such-program` not found")
    );
    assert!(
        attempt
            .log()
            .contains("pipekeeper: step `step`: command `no-such-program` not found\n")
    );
    let (_, code, _, _) = failed(&Attempt::new().with(command(&[])).run());
    assert_eq!(code, Some(126));
    let mut escaping = step("true");
    escaping.working_dir = Some("../..".into());
    assert_eq!(failed(&Attempt::new().with(escaping).run()).1, Some(126));
}

#[test]
fn a_command_needs_no_shell_and_may_lie_in_the_workspace() {
    let attempt =
        Attempt::script("mkdir sub; printf '#!/bin/sh\\necho \"<$1>\"; pwd' > sub/tool; chmod +x sub/tool");
    let mut tool = command(&["./tool", "a  b"]);
    tool.working_dir = Some("sub".into());
    let attempt = attempt.with(tool);
    assert_eq!(attempt.run().outcome, RecordOutcome::Succeeded);
    assert!(attempt.log().contains("<a  b>\n"));
    assert!(attempt.log().trim_end().ends_with("/workspace/sub"));
}

#[test]
fn limits_of_time_are_no_cancels() {
    let mut attempt = Attempt::script("true").with(step("sleep 1000"));
    attempt.spec.steps[1].timeout_ms = Some(100);
    assert_eq!(attempt.run().outcome, RecordOutcome::TimedOut { step: Some(1) });
    let mut attempt = Attempt::script("trap '' TERM; while :; do sleep 1000; done");
    attempt.spec.timeout_ms = Some(100);
    let record = attempt.run();
    assert_eq!(record.outcome, RecordOutcome::TimedOut { step: Some(0) });
    assert_eq!(record.steps[0].signal, Some(9));
    assert!(attempt.log().contains("pipekeeper: the time limit is reached\n"));
}

#[test]
fn a_cancel_ends_a_tree_that_ignores_it() {
    let attempt = Attempt::script(
        "trap '' TERM; (trap '' TERM; setsid sh -c 'echo $$ > @/child; while :; do sleep 1000; done') &
         echo $$ > @/ready; while :; do sleep 1000; done",
    )
    .localized();
    make_gate(&attempt.file("ready"));
    make_gate(&attempt.file("child"));
    let mut supervisor = attempt.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    let pids = [wait_at(&attempt.file("child")), wait_at(&attempt.file("ready"))];
    controller.send(&ToAgent::Stop { grace_ms: 60_000 });
    controller.send(&ToAgent::Stop { grace_ms: 100 });
    assert_eq!(controller.finished().outcome, RecordOutcome::Cancelled);
    assert!(pids.iter().all(|pid| !is_alive(pid)));
    assert!(supervisor.wait().success());
}

#[test]
fn a_stopped_step_may_still_say_something() {
    let attempt =
        Attempt::script("trap 'echo bye; exit 0' TERM; echo > @/ready; while :; do sleep 0.01; done")
            .localized();
    make_gate(&attempt.file("ready"));
    let supervisor = attempt.spawn();
    let mut controller = supervisor.connect();
    controller.go(Vec::new());
    wait_at(&attempt.file("ready"));
    controller.send(&ToAgent::Stop { grace_ms: 30_000 });
    assert_eq!(controller.finished().outcome, RecordOutcome::Cancelled);
    assert!(attempt.log().contains("\nbye\n"), "{}", attempt.log());
}

#[test]
fn a_step_ends_with_its_shell_and_takes_daemons_along() {
    // A double fork into a session of its own, that keeps stdout open and ignores TERM.
    let attempt = Attempt::script(
        "(setsid sh -c 'trap \"\" TERM; echo $$ > @/pid; while :; do sleep 1000; done' &) ; read pid < @/pid; echo $pid > @/copy",
    )
    .with(step("echo second"))
    .localized();
    make_gate(&attempt.file("pid"));
    let record = attempt.run();
    assert_eq!(record.outcome, RecordOutcome::Succeeded);
    assert!(!is_alive(wait_at(&attempt.file("copy")).as_str()));
    assert!(attempt.log().ends_with("second\n"));
    let took = record.steps[0].ended_ms - record.steps[0].started_ms;
    assert!(took < 20_000, "{took} ms");
}

#[test]
fn usage_is_counted() {
    let record = Attempt::script("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done 2>/dev/null").run();
    assert!(record.usage.cpu_ms > 0);
}
