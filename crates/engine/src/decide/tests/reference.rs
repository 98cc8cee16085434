//! Random plans against a naive reference: which nodes may run, judged from scratch each time.

use pipekeeper_model::{
    AttemptOutcome, NodeId, Outcome,
    plan::{Node, OnFailure},
};
use proptest::prelude::*;

use super::fixture::*;
use crate::NodeState;

fn plans() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec(
        (
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            any::<bool>(),
        ),
        1..12,
    )
    .prop_map(|shapes| {
        let mut nodes: Vec<Node> = Vec::new();
        for (at, (needs, soft)) in shapes.into_iter().enumerate() {
            let mut needs: Vec<u32> = needs
                .iter()
                .filter(|_| at > 0)
                .map(|index| index.index(at.max(1)) as u32)
                .collect();
            needs.sort_unstable();
            needs.dedup();
            let mut node = node(&format!("n{at}"), &needs);
            node.allow_failure = soft;
            nodes.push(node);
        }
        nodes
    })
}

/// Whether everything that a node needs succeeded or may fail, by walking all of it.
fn may_run(nodes: &[Node], states: &[NodeState], id: NodeId) -> bool {
    nodes[id.index()]
        .needs
        .iter()
        .all(|need| match states[need.index()].outcome() {
            Some(Outcome::Succeeded) => true,
            Some(Outcome::Failed) => nodes[need.index()].allow_failure,
            _ => false,
        })
}

proptest! {
    #[test]
    fn exactly_what_may_run_runs(nodes in plans(), picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 40)) {
        let mut whole = plan(nodes.clone());
        whole.on_failure = OnFailure::Continue;
        let mut run = Driven::request(request(whole));
        for (pick, succeeds) in picks {
            for (id, state) in nodes.iter().enumerate().map(|(at, _)| NodeId(at as u32)).zip(run.run.nodes()) {
                let live = matches!(state, NodeState::Running(_));
                let ran = matches!(state, NodeState::Done(_));
                prop_assert_eq!(live || ran, may_run(&nodes, run.run.nodes(), id), "{:?}", id);
            }
            let live: Vec<String> = nodes.iter().map(|node| node.name.clone())
                .filter(|name| matches!(run.state(name), NodeState::Running(_))).collect();
            if live.is_empty() {
                break;
            }
            let outcome = if succeeds { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
            run.end(&live[pick.index(live.len())], outcome);
        }
        let unfinished = run.run.nodes().iter().filter(|state| !state.is_settled()).count();
        prop_assert_eq!(unfinished == 0, run.outcome().is_some());
    }
}
