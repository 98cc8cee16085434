//! `pipe demo`, unattended: it checks itself.

use rustix::process::Signal;

use crate::support::{Running, User};

#[test]
fn it_runs_to_its_end_and_checks_everything() {
    let called = User::new()
        .call(&["demo", "--approve", "auto", "--exit"])
        .expect(0);
    assert!(called.out.contains("all as they must be"), "{}", called.out);
    assert!(!called.out.contains('✗'), "{}", called.out);
}

#[test]
fn it_says_how_to_approve_and_stops_cleanly() {
    let user = User::new();
    let kept = user.path("demo").display().to_string();
    let mut demo = Running::start(&mut user.command(&["demo", "--keep", &kept]));
    let line = demo.wait_for("pipe approve");
    let args: Vec<&str> = line
        .split_whitespace()
        .skip_while(|word| *word != "approve")
        .collect();
    user.call(&args).expect(0);
    demo.wait_for("until Ctrl-C");
    demo.signal(Signal::INT);
    let (code, said) = demo.end();
    assert_eq!(code, 0, "{said}");
    let again = user.call(&["demo", "--keep", &kept]).expect(2);
    assert!(again.err.contains("is not empty"), "{}", again.err);
}

#[test]
fn an_interrupt_ends_its_run_and_removes_its_folder() {
    let user = User::new();
    let mut demo = Running::start(&mut user.command(&["demo"]));
    let line = demo.wait_for("folder");
    let folder = line.split_whitespace().last().unwrap().to_owned();
    demo.wait_for("pipe approve");
    demo.signal(Signal::INT);
    let (code, said) = demo.end();
    assert_eq!(code, 130, "{said}");
    assert!(!std::path::Path::new(&folder).exists(), "{folder}");
}
