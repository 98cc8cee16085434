use std::{collections::BTreeMap, fs, sync::Arc};

use pipekeeper_controller::Layout;
use pipekeeper_engine::{Earlier, Event, Fact, Next, Origin, Run, RunRequest, evolve};
use pipekeeper_model::{
    Actor, AttemptId, AttemptOutcome, AttemptRecord, EventKind, Holder, NodeId, Outcome, Revision,
    RunContext, RunId, SkipReason, StepResult, Timestamp, TriggerEvent,
};
use pipekeeper_spec::{PlanRequest, SourceFile, check};

use super::{
    lines::Lines,
    log::LogFollower,
    summary,
    tree::{Tails, draw},
};
use crate::term::Paint;

const FILE: &str = "name: web
on: { manual: true }
actions:
  - parallel:
      - { name: lint, run: 'true' }
      - { name: test, run: 'exit 1' }
  - { name: binary, run: 'true' }
";

struct Told {
    run: Run,
    lines: Lines,
    said: Vec<String>,
}

impl Told {
    fn new() -> Self {
        let event = TriggerEvent {
            kind: EventKind::Manual,
            revision: Revision {
                repository: "web".to_owned(),
                sha: None,
                git_ref: None,
                subject: String::new(),
            },
            schedule: None,
        };
        let file = SourceFile {
            path: ".pipe/web.yaml",
            text: FILE,
        };
        let (pipeline, _) = check(&file).unwrap();
        let plan = pipeline
            .plan(&PlanRequest {
                event: &event,
                params: &BTreeMap::new(),
                selected: None,
                environments: &BTreeMap::new(),
            })
            .unwrap();
        let mut told = Self {
            run: Run::new(RunId(1)),
            lines: Lines::new(&plan, Paint::Never),
            said: Vec::new(),
        };
        let request = Arc::new(RunRequest {
            project: "web".parse().unwrap(),
            plan,
            context: RunContext {
                event,
                changed: Vec::new(),
            },
            group: None,
            adopted: None,
            earlier: Earlier::Adopt,
            origin: Origin::Repository,
            asked_before: std::collections::BTreeSet::new(),
        });
        told.tell(0, Fact::RunCreated { request });
        told
    }

    fn tell(&mut self, at: i64, fact: Fact) {
        let event = Event {
            at: Timestamp(at),
            actor: Actor::System,
            fact,
        };
        evolve(&mut self.run, &event);
        self.said.extend(self.lines.event(&self.run, &event));
    }

    fn start(&mut self, node: u32, at: i64) {
        let attempt = attempt(node);
        self.tell(at, Fact::NodeReadied { node: NodeId(node) });
        self.tell(
            at,
            Fact::AttemptScheduled {
                attempt,
                check_in_by: Timestamp(at + 1_000),
            },
        );
        self.tell(
            at,
            Fact::TicketGranted {
                attempt,
                holder: Holder("h".to_owned()),
                deadline: Timestamp(at + 100_000),
            },
        );
    }

    fn end(&mut self, node: u32, at: i64, outcome: AttemptOutcome, reason: Option<&str>) {
        let mut record = AttemptRecord::without_steps(outcome, "", Timestamp(at - 1_500));
        record.ended_at = Timestamp(at);
        record.reason = reason.map(str::to_owned);
        record.steps = vec![StepResult {
            name: "step 1".to_owned(),
            code: Some(1),
            signal: None,
            line: Some(6),
            log_start: 4,
            log_end: 12,
            started_at: Timestamp(0),
            ended_at: Timestamp(at),
        }];
        self.tell(
            at,
            Fact::AttemptFinished {
                attempt: attempt(node),
                record: Box::new(record),
                next: Next::Settled {
                    outcome: outcome.to_outcome(),
                },
            },
        );
    }
}

fn attempt(node: u32) -> AttemptId {
    AttemptId {
        run: RunId(1),
        node: NodeId(node),
        number: 1,
    }
}

/// `lint` succeeded, `test` failed, `binary` never ran.
fn failed() -> Told {
    let mut told = Told::new();
    told.start(0, 0);
    told.start(1, 0);
    told.said
        .extend(told.lines.log(NodeId(0), b"+ 5: true\nhalf a line"));
    told.end(0, 1_500, AttemptOutcome::Succeeded, None);
    told.end(1, 2_000, AttemptOutcome::Failed, Some("exit code 1"));
    told.tell(2_000, Fact::RunHalted { node: NodeId(1) });
    told.tell(
        2_000,
        Fact::NodeSkipped {
            node: NodeId(2),
            reason: SkipReason::EarlierFailure {
                node: "test".to_owned(),
            },
            passes: false,
        },
    );
    told.tell(
        2_100,
        Fact::RunFinished {
            outcome: Outcome::Failed,
        },
    );
    told
}

#[test]
fn lines_name_their_action() {
    assert_eq!(
        failed().said,
        [
            "lint   | + 5: true",
            "lint   | half a line",
            "lint   = ✓ succeeded in 1.5s",
            "test   = ✗ failed in 1.5s (exit code 1)",
            "binary = – skipped: `test` failed before it",
        ]
    );
}

#[test]
fn a_run_ends_in_one_line() {
    assert_eq!(
        summary::last_line(&failed().run),
        "run failed: test failed in 1.5s (exit code 1) · 1 succeeded, 1 failed, 1 skipped"
    );
    let mut good = Told::new();
    good.tell(
        12_345,
        Fact::RunFinished {
            outcome: Outcome::Succeeded,
        },
    );
    assert_eq!(summary::last_line(&good.run), "run succeeded in 12.3s");
}

#[test]
fn a_failure_shows_its_place_and_its_own_last_lines() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let log = layout.log(attempt(1));
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(log, "old\none\ntwo\nnew\n").unwrap();
    let shown = summary::failures(&failed().run, &LogFollower::new(layout), Paint::Never);
    assert_eq!(
        shown,
        [
            "",
            "test failed (exit code 1) at .pipe/web.yaml:6",
            "  one",
            "  two",
            "",
        ]
    );
}

#[test]
fn the_tree_shows_where_everything_is() {
    let mut told = Told::new();
    told.start(0, 0);
    let mut tails = Tails::default();
    tails.note(attempt(0), b"Compiling a\n\x1b[32mCompiling b\x1b[0m\n\n");
    let now = Timestamp(700);
    let drawn = draw(&told.run, &tails, now, (24, 80), Paint::Never);
    assert_eq!(
        drawn,
        [
            "parallel",
            "  ⣷ lint    0.7s  Compiling b",
            "  · test",
            "· binary",
        ]
    );
}

#[test]
fn silence_is_shown_until_it_ends() {
    let mut told = Told::new();
    told.start(0, 0);
    let node = NodeId(0);
    let mut silent = |seconds| told.lines.silent(node, seconds, "2 processes");
    assert_eq!(silent(10).unwrap(), "lint   = no output for 10 s: 2 processes");
    assert_eq!(
        [20, 30, 40, 50].map(|seconds| silent(seconds).is_some()),
        [true, false, true, false]
    );
    told.lines.log(node, b"a word\n");
    assert!(told.lines.silent(node, 10, "").is_some(), "another silence");

    let mut tails = Tails::default();
    tails.note(attempt(0), b"a word\n");
    tails.silent(attempt(0), 10, "2 processes");
    let shown = |tails: &Tails| draw(&told.run, tails, Timestamp(0), (24, 80), Paint::Never).join("\n");
    assert!(
        shown(&tails).contains("no output for 10 s: 2 processes"),
        "{}",
        shown(&tails)
    );
    tails.note(attempt(0), b"another\n");
    assert!(shown(&tails).contains("another"), "{}", shown(&tails));
}

#[test]
fn the_tree_fits_the_screen() {
    let mut told = Told::new();
    told.start(1, 0);
    let tails = Tails::default();
    for (rows, columns) in [(3, 30), (2, 12), (1, 1)] {
        let drawn = draw(&told.run, &tails, Timestamp(0), (rows, columns), Paint::Never);
        assert!(drawn.len() <= rows, "{rows}: {drawn:?}");
    }
    let drawn = draw(&told.run, &tails, Timestamp(0), (3, 40), Paint::Never);
    assert_eq!(drawn, ["⣾ test    0.0s", "… and 2 more"]);
}
