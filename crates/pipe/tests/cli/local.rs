//! `pipe run`.

use std::{fs, path::Path};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Called, Running, User, fifo, git};

fn last_line(called: &Called) -> &str {
    called.out.lines().last().unwrap_or_default()
}

#[test]
fn a_run_succeeds_on_the_tree_as_it_is() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: read, run: 'cat data.txt; echo word=$(cat data.txt) >> $PIPE_OUTPUT; echo made > made.txt', artifacts: { made: made.txt } }
  - { name: use, use: [read.made], env: { WORD: '${{ actions.read.outputs.word }}' }, run: 'echo got $WORD; cat made.txt' }
",
    );
    user.write("data.txt", "changed\n");
    let called = user.call(&["run"]).expect(0);
    assert!(called.out.contains("read | changed"), "{}", called.out);
    assert!(called.out.contains("use  | got changed"), "{}", called.out);
    assert!(called.out.contains("use  | made"), "{}", called.out);
    assert!(
        last_line(&called).starts_with("run succeeded in "),
        "{}",
        called.out
    );
    assert!(last_line(&called).ends_with(" · 2 succeeded"), "{}", called.out);
    // The tree is left alone.
    assert!(!user.work().join("made.txt").exists());
}

#[test]
fn slow_silence_is_shown() {
    let user = User::new();
    let fifo = fifo(&user.work());
    user.write(
        ".pipe/web.yaml",
        &format!(
            "on: {{ manual: true }}\nactions: [{{ name: mute, run: 'read word < {fifo}; echo $word' }}]\n"
        ),
    );
    let mut run = Running::start(&mut user.command(&["run"]));
    let said = run.wait_for("no output");
    assert!(
        said.starts_with("mute = no output for 10 s: 1 processes, "),
        "{said}"
    );
    fs::write(&fifo, "on\n").unwrap();
    assert_eq!(run.end().0, 0);
}

#[test]
fn a_failure_shows_its_place_and_ends_in_one_line() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - name: test
    run: |
      echo before
      false
      echo never
  - { name: after, run: 'true' }
finally:
  - { name: tidy, run: 'echo tidied' }
",
    );
    let called = user.call(&["run"]).expect(1);
    assert!(
        called
            .out
            .contains("test failed (exit code 1) at .pipe/web.yaml:6"),
        "{}",
        called.out
    );
    assert!(called.out.contains("tidied"), "{}", called.out);
    let last = last_line(&called);
    assert!(last.starts_with("run failed: test failed in "), "{last}");
    assert!(
        last.ends_with(" (exit code 1) · 1 succeeded, 1 failed, 1 skipped"),
        "{last}"
    );
}

#[test]
fn params_conditions_matrix_and_selection_act() {
    let user = User::with_pipeline(
        "on: { manual: true }
params: { who: { type: string, default: you } }
actions:
  - parallel:
      - { name: greet, env: { WHO: '${{ params.who }}' }, run: 'echo hello $WHO' }
      - { name: cell, matrix: { db: [one, two] }, env: { DB: '${{ matrix.db }}' }, run: 'echo db $DB' }
  - { name: pushed, if: event.kind == \"push\" && branch == \"main\", run: 'echo on $PIPE_BRANCH' }
",
    );
    let called = user.call(&["run", "--param", "who=me"]).expect(0);
    assert!(called.out.contains("| hello me"), "{}", called.out);
    assert!(called.out.contains("cell[db=one] | db one"), "{}", called.out);
    assert!(called.out.contains("cell[db=two] | db two"), "{}", called.out);
    assert!(called.out.contains("skipped: `if: "), "{}", called.out);
    let pushed = user.call(&["run", "--event", "push", "--branch", "main", "--action", "pushed"]);
    let pushed = pushed.expect(0);
    assert!(pushed.out.contains("| on main"), "{}", pushed.out);
    let called = user.call(&["run", "--param", "no=x"]).expect(2);
    assert!(called.err.contains("`no`"), "{}", called.err);
    let called = user.call(&["run", "--action", "gret"]).expect(2);
    assert!(called.err.contains("gret"), "{}", called.err);
}

const GATED: &str = "on: { manual: true }
actions:
  - { name: build, run: 'true' }
  - { name: ask, approve: Ship it? }
  - { name: ship, run: 'echo shipped' }
";

#[test]
fn gates_are_honoured() {
    let user = User::with_pipeline(GATED);
    let auto = user.call(&["run", "--approve", "auto"]).expect(0);
    assert!(auto.out.contains("shipped"), "{}", auto.out);
    let deny = user.call(&["run", "--approve", "deny"]).expect(1);
    assert!(!deny.out.contains("shipped"), "{}", deny.out);
    assert!(
        last_line(&deny).starts_with("run rejected: ask rejected"),
        "{}",
        deny.out
    );
    // Without a terminal nobody can be asked.
    let ask = user.call(&["run"]).expect(1);
    assert!(!ask.out.contains("shipped"), "{}", ask.out);
    assert!(ask.err.contains("--approve auto"), "{}", ask.err);
}

#[test]
fn a_manual_start_without_a_person_ends_the_run() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: build, run: 'true' }
  - { name: ship, start: manual, run: 'echo shipped' }
",
    );
    let deny = user.call(&["run"]).expect(1);
    assert!(deny.err.contains("the run is cancelled"), "{}", deny.err);
    let auto = user.call(&["run", "--approve", "auto"]).expect(0);
    assert!(auto.out.contains("shipped"), "{}", auto.out);
}

#[test]
fn secrets_are_masked_and_missing_ones_named() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: a, secrets: [{ name: KEY, env: KEY }], run: 'echo the key is $KEY; test ${#KEY} = 14' }
",
    );
    let missing = user.call(&["run"]).expect(2);
    assert!(missing.err.contains("`KEY`"), "{}", missing.err);
    assert!(missing.err.contains("--secret KEY"), "{}", missing.err);
    let given = user.call(&["run", "--secret", "KEY=hunter2hunter2"]).expect(0);
    assert!(given.out.contains("the key is ***"), "{}", given.out);
    assert!(!given.out.contains("hunter2hunter2"), "{}", given.out);
    let mut command = user.command(&["run", "--secret", "KEY", "--output", "json"]);
    let from_env = crate::support::called(command.env("KEY", "hunter2hunter2")).expect(0);
    assert!(!from_env.out.contains("hunter2hunter2"), "{}", from_env.out);
    assert!(!holds(&user.path("state"), "hunter2hunter2"));
}

/// Whether any file below a folder holds this text.
fn holds(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds(&path, text)
        } else {
            String::from_utf8_lossy(&fs::read(path).unwrap()).contains(text)
        }
    })
}

#[test]
fn an_image_needs_an_engine_or_the_users_word() {
    let user = User::with_pipeline(
        "on: { manual: true }
image: rust:1.95
actions:
  - { name: a, run: 'echo ran' }
",
    );
    let refused = user.call(&["run"]).expect(2);
    assert!(refused.err.contains("rust:1.95"), "{}", refused.err);
    assert!(refused.err.contains(".pipe/web.yaml:2:"), "{}", refused.err);
    assert!(refused.err.contains("--backend local"), "{}", refused.err);
    let told = user.call(&["run", "--backend", "local"]).expect(0);
    assert_eq!(told.err.matches("rust:1.95").count(), 1, "{}", told.err);
    assert!(told.out.contains("ran"), "{}", told.out);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: a, run: 'true', credentials: [git] }
  - { promote: test, images: [web] }
",
    );
    let refused = user.call(&["run"]).expect(2);
    assert!(refused.err.contains("`credentials`"), "{}", refused.err);
    assert!(refused.err.contains("`promote`"), "{}", refused.err);
}

#[test]
fn json_is_a_stream_of_lines() {
    let user = User::with_pipeline("on: { manual: true }\nactions:\n  - { name: a, run: 'echo hello' }\n");
    let called = user.call(&["run", "--output", "json"]).expect(0);
    let lines = called.json_lines();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types.first(), Some(&"event"));
    assert_eq!(types.last(), Some(&"finished"));
    let last = lines.last().unwrap();
    assert_eq!(last["outcome"], "succeeded");
    let log: String = lines
        .iter()
        .filter(|line| line["type"] == "log")
        .map(|line| line["text"].as_str().unwrap())
        .collect();
    assert!(log.contains("hello"), "{log}");
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_dry_run_runs_nothing() {
    let user = User::with_pipeline(GATED);
    let called = user.call(&["run", "--dry-run"]).expect(0);
    assert!(called.out.contains("ship"), "{}", called.out);
    let json = user.call(&["run", "--dry-run", "--output", "json"]).expect(0);
    let plan: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(plan["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(fs::read_dir(user.path("state")).unwrap().count(), 0);
}

#[test]
fn the_second_run_finds_the_cache() {
    let user = User::with_pipeline(
        "on: { manual: true }
caches: { deps: { paths: [deps], key: { files: [lock] } } }
actions:
  - { name: a, cache: [deps], run: 'test -f deps/got || { mkdir deps; echo fetched; touch deps/got; }' }
",
    );
    user.write("lock", "1");
    assert!(user.call(&["run"]).expect(0).out.contains("| fetched"));
    assert!(!user.call(&["run"]).expect(0).out.contains("| fetched"));
    user.write("lock", "2");
    assert!(user.call(&["run"]).expect(0).out.contains("| fetched"));
}

#[test]
fn a_timeout_is_exit_124() {
    let user = User::with_pipeline("on: { manual: true }\nactions:\n  - { name: a, run: 'sleep 100' }\n");
    user.call(&["run", "--timeout", "300ms"]).expect(124);
    let user = User::with_pipeline(
        "on: { manual: true }\nactions:\n  - { name: a, timeout: 300ms, run: 'sleep 100' }\n",
    );
    let called = user.call(&["run"]).expect(124);
    assert!(
        last_line(&called).starts_with("run timed out: a timed out"),
        "{}",
        called.out
    );
}

#[test]
fn an_interrupt_cancels_and_lets_finally_run() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: long, run: 'echo up; exec sleep 100' }
finally:
  - { name: tidy, run: 'echo tidied' }
",
    );
    let mut running = Running::start(&mut user.command(&["run"]));
    running.wait_for("| up");
    running.signal(Signal::INT);
    running.wait_for("| tidied");
    let (code, said) = running.end();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("run cancelled"), "{said}");
}

#[test]
fn a_second_interrupt_stops_finally_too() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: long, run: 'echo up; exec sleep 100' }
finally:
  - { name: tidy, run: 'echo tidying; exec sleep 100' }
",
    );
    let mut running = Running::start(&mut user.command(&["run"]));
    running.wait_for("| up");
    running.signal(Signal::INT);
    running.wait_for("| tidying");
    running.signal(Signal::INT);
    let (code, said) = running.end();
    assert_eq!(code, 130, "{said}");
}

#[test]
fn several_pipelines_want_a_name() {
    let user = User::with_pipeline(GATED);
    user.write(
        ".pipe/other.yaml",
        "on: { manual: true }\nactions:\n  - { name: b, run: 'echo other' }\n",
    );
    let refused = user.call(&["run"]).expect(2);
    assert!(refused.err.contains("`other`, `web`"), "{}", refused.err);
    assert!(user.call(&["run", "other"]).expect(0).out.contains("| other"));
    user.call(&["run", ".pipe/other.yaml"]).expect(0);
    user.call(&["run", "nothing"]).expect(2);
}

#[test]
fn scripts_know_the_commit_but_not_the_home() {
    let user = User::with_pipeline(
        "on: { manual: true }
actions:
  - { name: a, run: 'echo sha $PIPE_SHA on $PIPE_BRANCH; echo home $HOME; test ! -d .git' }
",
    );
    let work = user.work();
    git(&work, &["init", "--quiet", "--initial-branch=trunk"]);
    git(&work, &["add", "--all"]);
    git(&work, &["commit", "--quiet", "--message", "first"]);
    let sha = git(&work, &["rev-parse", "HEAD"]);
    let called = user.call(&["run"]).expect(0);
    assert!(
        called.out.contains(&format!("sha {sha} on trunk")),
        "{}",
        called.out
    );
    let home = format!("home {}", user.path("home").display());
    assert!(!called.out.contains(&home), "{}", called.out);
}

#[test]
fn a_kept_workspace_can_be_entered() {
    let user =
        User::with_pipeline("on: { manual: true }\nactions:\n  - { name: a, run: 'echo left > left.txt' }\n");
    user.call(&["debug", "a"]).expect(3);
    user.call(&["run", "--keep"]).expect(0);
    let folder = user.call(&["debug", "a", "--print"]).expect(0);
    let left = Path::new(folder.out.trim()).join("left.txt");
    assert_eq!(fs::read_to_string(left).unwrap(), "left\n");
    user.call(&["debug", "b"]).expect(3);
}

#[test]
fn a_change_starts_the_run_again() {
    let user = User::with_pipeline("on: { manual: true }\nactions:\n  - { name: a, run: 'cat data.txt' }\n");
    user.write("data.txt", "first\n");
    let mut running = Running::start(&mut user.command(&["run", "--watch"]));
    running.wait_for("| first");
    running.wait_for("waiting for changes");
    user.write("data.txt", "second\n");
    running.wait_for("| second");
    running.wait_for("waiting for changes");
    running.signal(Signal::INT);
    assert_eq!(running.end().0, 130);
}

#[test]
fn nothing_outlives_a_run_that_was_killed() {
    let gate = tempfile::tempdir().unwrap();
    let fifo = fifo(gate.path());
    let user = User::with_pipeline(&format!(
        "on: {{ manual: true }}\nactions:\n  - {{ name: a, run: 'exec 3> {fifo}; echo up; sleep 1000' }}\n"
    ));
    let running = Running::start(&mut user.command(&["run"]));
    let mut held = fs::File::open(&fifo).unwrap();
    running.signal(Signal::KILL);
    // The read ends when the last process that holds the pipe is gone.
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut held, &mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn tests_that_failed_are_told_at_the_end() {
    let user = User::with_pipeline(
        "actions:
  - name: test
    reports: { junit: out/*.xml }
    run: |
      mkdir out
      echo '<testsuite name=\"s\"><testcase name=\"good\"/><testcase name=\"bad\"><failure>why</failure></testcase></testsuite>' > out/a.xml
      echo 'no report' > out/b.xml
      exit 1
",
    );
    let called = user.call(&["run"]).expect(1);
    let line = called.out.lines().find(|line| line.contains("passed")).unwrap();
    assert_eq!(line, "test tests 1 passed, 1 failed, 0 skipped: bad");
}

#[test]
fn outputs_of_any_size_reach_others_as_files() {
    let user = User::with_pipeline(
        "actions:
  - name: build
    run: |
      { printf 'notes='; head -c 200000 /dev/zero | tr '\\0' x; echo; } >> \"$PIPE_OUTPUT\"
      echo small=1.2 >> \"$PIPE_OUTPUT\"
  - name: use
    env: { NOTES: '${{ actions.build.outputs.notes }}', SMALL: '${{ actions.build.outputs.small }}' }
    run: |
      test \"$NOTES\" = \"$PIPE_OUTPUTS_DIR/build/notes\"
      test \"$(tr -d x < \"$NOTES\" | wc -c)\" = 0
      test \"$(wc -c < \"$NOTES\")\" = 200000
      test \"$SMALL\" = 1.2
  - name: step
    steps:
      - { env: { NOTES: '${{ actions.build.outputs[\"notes\"] }}' }, run: test -f \"$NOTES\" }
      - { run: 'test -z \"${NOTES:-}\"' }
",
    );
    user.call(&["run"]).expect(0);
}

#[test]
fn an_expression_over_a_large_output_is_a_clear_error() {
    for wrong in [
        "env: { NOTES: 'v-${{ actions.build.outputs.notes }}' }",
        "if: actions.build.outputs.notes == \"x\"",
    ] {
        let user = User::with_pipeline(&format!(
            "actions:
  - name: build
    run: |
      {{ printf 'notes='; head -c 70000 /dev/zero | tr '\\0' x; echo; }} >> \"$PIPE_OUTPUT\"
  - {{ name: use, {wrong}, run: 'echo ran' }}
"
        ));
        let called = user.call(&["run", "--lines"]);
        let said = format!("{}{}", called.out, called.err);
        called.expect(4);
        assert!(
            said.contains("is a file of 68 KiB: use it alone in `env:`"),
            "{said}"
        );
        assert!(!said.contains("| ran"), "{said}");
    }
}

#[test]
fn large_outputs_of_a_matrix_are_files_by_cell() {
    let user = User::with_pipeline(
        "actions:
  - name: test
    matrix: { db: [a, b] }
    run: |
      { printf 'notes='; head -c 70000 /dev/zero | tr '\\0' x; echo; } >> \"$PIPE_OUTPUT\"
      echo small=1 >> \"$PIPE_OUTPUT\"
  - name: use
    env: { NOTES: '${{ actions.test.outputs[\"db=a\"].notes }}', SMALL: '${{ actions.test.outputs[\"db=b\"].small }}' }
    run: |
      test \"$NOTES\" = \"$PIPE_OUTPUTS_DIR/test/db=a/notes\"
      test \"$(wc -c < \"$NOTES\")\" = 70000
      test \"$SMALL\" = 1
",
    );
    user.call(&["run"]).expect(0);
}
