//! What actions wait for that others have: locks between local runs, and room on a machine.

use rustix::process::Signal;

use crate::{
    client::Site,
    support::{Running, User, fifo},
};

#[test]
fn a_local_run_waits_for_a_lock_says_for_whom_and_gets_it_from_a_killed_one() {
    let user = User::new();
    let fifo = fifo(&user.work());
    user.write(
        ".pipe/web.yaml",
        &format!(
            "on: {{ manual: true }}
actions:
  - parallel:
      - {{ name: holds, lock: db, run: 'echo it holds; cat {fifo}' }}
      - {{ name: wants, lock: [net, db], run: 'echo it has it' }}
"
        ),
    );
    let start = |action: &str| Running::start(&mut user.command(&["run", "--lines", "--action", action]));
    let mut holder = start("holds");
    holder.wait_for("| it holds");
    let mut waiter = start("wants");
    let line = waiter.wait_for("waits: lock `db`");
    assert!(line.contains("held by `pipe run` of web (process "), "{line}");
    holder.signal(Signal::KILL);
    waiter.wait_for("| it has it");
    assert_eq!(waiter.end().0, 0);
    drop(holder);
}

#[test]
fn an_action_waits_for_room_on_the_machine_and_says_so() {
    let user = User::new();
    let fifo = fifo(&user.work());
    user.write(
        ".pipe/web.yaml",
        &format!(
            "on: {{ manual: true }}
actions:
  - parallel:
      - {{ name: first, run: 'echo it works; cat {fifo}' }}
      - {{ name: second, run: 'echo it works too' }}
"
        ),
    );
    let site = Site::of(user, "trusted = true\n[local]\nattempts = 1");
    site.call(&["start", "web", "web"]).expect(0);
    let mut first = site.following("1/first");
    first.wait_for("it works");
    let why = site.call(&["why", "1/second"]).expect(0);
    assert!(
        why.out.contains("no room: as many actions are at work"),
        "{}",
        why.out
    );
    std::fs::write(&fifo, "go on").unwrap();
    assert_eq!(first.end().0, 0);
    let mut second = site.following("1/second");
    second.wait_for("it works too");
    assert_eq!(second.end().0, 0);
    site.stop();
}
