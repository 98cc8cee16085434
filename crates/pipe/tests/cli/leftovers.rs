//! What `pipe run --context` leaves in a cluster when it is killed.

use std::{collections::BTreeSet, process::Command};

use rustix::process::Signal;

use crate::{
    debug::{Namespace, kubectl, surroundings},
    support::{Running, User},
};

#[test]
fn what_a_killed_run_left_goes_with_the_next_and_a_live_one_stays() {
    let names = ["KUBECONFIG", "PIPE_TEST_AGENT_IMAGE", "PIPE_TEST_REGISTRY"];
    let Some([kubeconfig, agent, registry]) = surroundings(names) else {
        return;
    };
    let user = User::with_pipeline(&format!(
        "on: {{ manual: true }}\nimage: {registry}/busybox:1\nactions: [{{ name: wait, run: 'echo it waits; sleep 1000' }}]\n"
    ));
    let namespace = Namespace::new(format!("pipe-test-left-{}", std::process::id()));
    let context = kubectl(&["config", "current-context"]);
    let args = [
        "run",
        "--context",
        context.trim(),
        "--namespace",
        namespace.name(),
    ];
    let command = || {
        let mut command: Command = user.command(&args);
        command
            .env("KUBECONFIG", &kubeconfig)
            .env("PIPE_AGENT_IMAGE", &agent);
        command
    };
    let pods = || -> BTreeSet<String> { namespace.pods().lines().map(str::to_owned).collect() };
    let start = || {
        let before = pods();
        let mut run = Running::start(&mut command());
        run.wait_for("it waits");
        let made: Vec<String> = pods().difference(&before).cloned().collect();
        let [pod] = made.as_slice() else {
            panic!("one pod is made: {made:?}");
        };
        (run, pod.clone())
    };
    let (live, wanted) = start();
    let (killed, left) = start();
    killed.signal(Signal::KILL);
    drop(killed);
    assert!(pods().contains(&left), "nobody removed it");
    let (next, _) = start();
    kubectl(&[
        "wait",
        "--for=delete",
        // Some kubelets end a pod that had just begun only with their next look at it.
        "--timeout=150s",
        "--namespace",
        namespace.name(),
        &left,
    ]);
    assert!(pods().contains(&wanted), "somebody wants it");
    for run in [live, next] {
        run.signal(Signal::INT);
        assert_eq!(run.end().0, 130);
    }
}
