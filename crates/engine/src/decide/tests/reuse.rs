//! `reuse:`: searches, what is adopted, what is kept for later.

use std::collections::BTreeMap;

use pipekeeper_model::{AttemptId, AttemptOutcome::*, Digest, NodeId, Outcome, OutputValue, RunId};

use super::fixture::*;
use crate::{AdoptedNode, Earlier, Effect, Fact, Input, NodeState, Rejection, Seen, Verdict, explain};

fn inputs() -> Digest {
    Digest::of(b"the same inputs")
}

fn earlier() -> AdoptedNode {
    AdoptedNode {
        attempt: AttemptId {
            run: RunId(3),
            node: NodeId(5),
            number: 2,
        },
        outputs: BTreeMap::from([("version".to_owned(), OutputValue::Text("1.1".to_owned()))]),
        artifacts: Vec::new(),
    }
}

fn sought(run: &mut Driven, name: &str, found: Option<AdoptedNode>) -> Result<(), Rejection> {
    let attempt = run.live(name);
    run.give(Input::EarlierSought {
        attempt,
        inputs: Some(inputs()),
        found: found.map(Box::new),
    })
}

#[test]
fn nothing_is_launched_before_the_search_has_an_answer() {
    let mut run = Driven::plan(vec![reusing(node("a", &[])), node("b", &[0])]);
    let attempt = run.live("a");
    assert_eq!(run.effects, [Effect::FindEarlier { attempt }]);
    assert_eq!(
        explain(&run.run, run.id("a")).to_string(),
        "looks for an earlier success with the same inputs"
    );
    assert!(matches!(run.ticket("a"), Err(Rejection::Illegal { .. })));
    let seen = Seen::Gone {
        reason: "nothing is known of it".to_owned(),
    };
    let gone = run.give(Input::AttemptObserved { attempt, seen });
    assert!(matches!(gone, Err(Rejection::Stale { .. })), "{gone:?}");
    sought(&mut run, "a", None).unwrap();
    assert_eq!(run.launches(), 1);
    assert_eq!(sought(&mut run, "a", Some(earlier())), Err(Rejection::Duplicate));
    run.end("a", Succeeded);
    assert_eq!(run.word("b"), "launching");
}

#[test]
fn what_is_found_stands_in_for_the_attempt() {
    let mut run = Driven::plan(vec![reusing(node("a", &[])), node("b", &[0])]);
    sought(&mut run, "a", Some(earlier())).unwrap();
    let NodeState::Done(ended) = run.state("a") else {
        panic!("a is {}", run.word("a"))
    };
    assert_eq!((ended.outcome, ended.attempts), (Outcome::Succeeded, 0));
    let version = OutputValue::Text("1.1".to_owned());
    assert_eq!(ended.outputs().collect::<Vec<_>>(), [("version", &version)]);
    assert_eq!(
        explain(&run.run, run.id("a")).to_string(),
        "succeeded: reused from run 3"
    );
    let again = sought_late(&mut run);
    assert!(matches!(again, Err(Rejection::Stale { .. })), "{again:?}");
    assert_eq!(run.launches(), 1, "of `b` alone");
    run.end("b", Succeeded);
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
    let kept = |effect: &Effect| matches!(effect, Effect::RememberSuccess { .. });
    assert!(!run.effects.iter().any(kept), "only the first success is kept");
}

fn sought_late(run: &mut Driven) -> Result<(), Rejection> {
    let attempt = run.attempt("a", 1);
    run.give(Input::EarlierSought {
        attempt,
        inputs: Some(inputs()),
        found: None,
    })
}

#[test]
fn a_success_with_known_inputs_is_kept_and_nothing_else() {
    let kept = |run: &Driven| {
        run.effects.iter().find_map(|effect| {
            if let Effect::RememberSuccess { attempt, inputs } = effect {
                Some((*attempt, inputs.clone()))
            } else {
                None
            }
        })
    };
    let mut run = Driven::plan(vec![reusing(node("a", &[]))]);
    let attempt = run.live("a");
    sought(&mut run, "a", None).unwrap();
    run.end("a", Succeeded);
    assert_eq!(kept(&run), Some((attempt, inputs())));

    let mut run = Driven::plan(vec![reusing(node("a", &[]))]);
    sought(&mut run, "a", None).unwrap();
    run.end("a", Failed);
    assert_eq!(kept(&run), None);

    let mut run = Driven::plan(vec![reusing(node("a", &[]))]);
    run.give(Input::EarlierSought {
        attempt,
        inputs: None,
        found: Some(Box::new(earlier())),
    })
    .unwrap();
    run.end("a", Succeeded);
    assert_eq!(kept(&run), None, "nobody knows what it was made of");
}

#[test]
fn a_run_that_wants_everything_done_adopts_nothing_and_keeps_its_success() {
    let mut asked = request(plan(vec![reusing(node("a", &[]))]));
    asked.earlier = Earlier::Ignore;
    let mut run = Driven::request(asked);
    sought(&mut run, "a", Some(earlier())).unwrap();
    run.end("a", Succeeded);
    let kept = |effect: &Effect| matches!(effect, Effect::RememberSuccess { .. });
    assert!(run.effects.iter().any(kept));
}

#[test]
fn a_gate_in_front_is_asked_first() {
    let mut run = Driven::plan(vec![gate("ok", &[], 1), reusing(node("a", &[0]))]);
    assert_eq!(run.word("a"), "waiting");
    let attempt = run.attempt("a", 1);
    let early = run.give(Input::EarlierSought {
        attempt,
        inputs: Some(inputs()),
        found: Some(Box::new(earlier())),
    });
    assert!(early.is_err(), "{early:?}");
    run.decide_gate("ok", Verdict::Approve).unwrap();
    sought(&mut run, "a", Some(earlier())).unwrap();
    assert_eq!(run.outcome(), Some(Outcome::Succeeded));
}

#[test]
fn a_cancel_ends_the_search() {
    let mut run = Driven::plan(vec![reusing(node("a", &[]))]);
    let attempt = run.live("a");
    run.cancel().unwrap();
    assert_eq!(run.word("a"), "cancelled");
    let late = run.give(Input::EarlierSought {
        attempt,
        inputs: Some(inputs()),
        found: Some(Box::new(earlier())),
    });
    assert!(matches!(late, Err(Rejection::Stale { .. })), "{late:?}");
}

#[test]
fn a_search_without_an_answer_is_begun_anew() {
    let mut run = Driven::plan(vec![reusing(node("a", &[]))]);
    run.pass_deadline();
    assert_eq!(run.word("a"), "waiting to retry");
    run.pass_deadline();
    let attempt = run.live("a");
    assert_eq!(attempt.number, 2);
    assert!(run.effects.contains(&Effect::FindEarlier { attempt }));
    let searches = run
        .log
        .iter()
        .filter(|event| matches!(event.fact, Fact::SearchBegan { .. }));
    assert_eq!(searches.count(), 2);
}
