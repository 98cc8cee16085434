//! `pipe show`.

use clap::Args;
use serde_json::Value;

use super::runs::place;
use crate::{
    cli::{Output, Remote},
    client::{Client, Node, RunView, Target, TestDetailsView, TestView, TestsView, find_run, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime,
    term::{self, Paint, Tone, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// RUN, RUN/ACTION or ACTION; without a run the newest of HEAD
    #[arg(value_name = "RUN/ACTION")]
    target: Option<Target>,
    #[command(flatten)]
    remote: Remote,
}

impl Show {
    /// Shows the run, or one action with what its test reports say.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let target = self.target.unwrap_or_default();
        let (answer, tests) = runtime::block_on(async {
            let id = find_run(&client, target.run).await?;
            let answer = client.get(&["runs", &id.to_string()], &[]).await?;
            let tests = match &target.action {
                Some(action) => tests_of(&client, id, &answer, action).await?,
                None => None,
            };
            Ok((answer, tests))
        })?;
        match (output, &target.action) {
            (Output::Json, None) => say_json(&answer)?,
            (Output::Json, Some(action)) => {
                let mut node = raw_node(&answer, action).cloned().unwrap_or_default();
                if let (Some(fields), Some(tests)) = (node.as_object_mut(), tests) {
                    fields.insert("tests".to_owned(), tests);
                }
                say_json(&node)?;
            }
            (Output::Text, None) => show(&view(answer)?),
            (Output::Text, Some(action)) => {
                let run: RunView = view(answer)?;
                let node = run.node(action).ok_or_else(|| no_action(action))?;
                let tests: Option<TestDetailsView> = tests.map(view).transpose()?;
                show_action(node, tests.as_ref());
            }
        }
        Ok(Exit::Done)
    }
}

fn say_json(value: &Value) -> Result<(), Failure> {
    term::say(serde_json::to_string_pretty(value).or_fail("write the answer")?);
    Ok(())
}

fn raw_node<'a>(answer: &'a Value, action: &str) -> Option<&'a Value> {
    let nodes = answer.get("nodes")?.as_array()?;
    nodes
        .iter()
        .find(|node| node.get("name").is_some_and(|name| name == action))
}

fn no_action(action: &str) -> Failure {
    Failure::not_found(format!("the run has no action `{action}`")).hint("`pipe show RUN` lists them")
}

/// What the test reports of an action say, if it has any.
async fn tests_of(client: &Client, run: u64, answer: &Value, action: &str) -> Result<Option<Value>, Failure> {
    let node = raw_node(answer, action).ok_or_else(|| no_action(action))?;
    if node.get("tests").is_none_or(Value::is_null) {
        return Ok(None);
    }
    let path = ["runs", &run.to_string(), "nodes", action, "tests"];
    client.get(&path, &[]).await.map(Some)
}

fn show(run: &RunView) {
    let paint = Paint::for_stdout();
    let item = &run.item;
    term::say(format_args!(
        "run {} {}/{} · {} · {} by {} · {}",
        item.id,
        item.project,
        item.pipeline,
        place(item),
        item.event,
        clean(&item.actor),
        paint.tone(tone_of(run), item.word()),
    ));
    if !item.subject.is_empty() {
        term::say(format_args!(
            "  {}",
            paint.tone(Tone::Faint, clean(&item.subject))
        ));
    }
    if let Some(reason) = &run.quarantined {
        term::say(paint.tone(Tone::Bad, format_args!("  set aside: {}", clean(reason))));
    }
    if let Some(kept) = &run.kept {
        let reason = kept.reason.iter().map(|reason| format!(": {}", clean(reason)));
        let text = format!("  kept by {}{}", clean(&kept.by), reason.collect::<String>());
        term::say(paint.tone(Tone::Faint, text));
    }
    for (part, gone) in [("logs", &run.logs_gone), ("artifacts", &run.artifacts_gone)] {
        if let Some(how) = gone {
            let text = format_args!("  its {part} were {}", clean(how));
            term::say(paint.tone(Tone::Faint, text));
        }
    }
    let width = run
        .nodes
        .iter()
        .map(|node| node.name.chars().count())
        .max()
        .unwrap_or(0);
    run.nodes.iter().for_each(|node| show_node(node, width, paint));
}

fn tone_of(run: &RunView) -> Tone {
    match run.item.outcome {
        Some(outcome) => words::mark(outcome).1,
        None if run.item.needs_person => Tone::Attention,
        None => Tone::Busy,
    }
}

fn show_node(node: &Node, width: usize, paint: Paint) {
    let (mark, tone) = match node.outcome {
        Some(outcome) => words::mark(outcome),
        None if node.gate.is_some() || node.start.is_some() => ("?", Tone::Attention),
        None if node.state == "running" => ("›", Tone::Busy),
        None => ("·", Tone::Faint),
    };
    let indent = "  ".repeat(node.groups.len());
    let time = node
        .started_at
        .map(|start| words::length(node.ended_at.unwrap_or_else(clock::now).since(start)))
        .unwrap_or_default();
    let why = match &node.gate {
        Some(gate) => format!("{}: {} ({})", node.why, gate.text, gate.subject.to_short()),
        None => node.why.clone(),
    };
    term::say(format_args!(
        "  {indent}{} {:<width$} {time:>7}  {}",
        paint.tone(tone, mark),
        node.name,
        paint.tone(Tone::Faint, clean(&why)),
    ));
    for (key, value) in &node.outputs {
        term::say(format_args!("  {indent}    {key} = {}", clean(value)));
    }
    for (key, large) in &node.large_outputs {
        term::say(format_args!("  {indent}    {key} is a file of {}", large.bytes));
    }
    if let Some(tests) = &node.tests {
        term::say(format_args!("  {indent}    {}", counts(tests, paint)));
    }
    for artifact in &node.artifacts {
        term::say(format_args!(
            "  {indent}    {} {} bytes {}",
            artifact.name,
            artifact.bytes,
            artifact.digest.to_short()
        ));
    }
}

/// `123 passed, 2 failed, 1 skipped`.
fn counts(tests: &TestsView, paint: Paint) -> String {
    let TestsView {
        passed,
        failed,
        skipped,
    } = tests;
    let tone = if *failed > 0 { Tone::Bad } else { Tone::Good };
    paint.tone(
        tone,
        format_args!("tests: {passed} passed, {failed} failed, {skipped} skipped"),
    )
}

/// One action: its line, its tests, its summary.
fn show_action(node: &Node, tests: Option<&TestDetailsView>) {
    let paint = Paint::for_stdout();
    show_node(node, node.name.chars().count(), paint);
    for test in tests.iter().flat_map(|tests| &tests.failures) {
        show_failure(test, paint);
    }
    if let Some(tests) = tests.filter(|tests| !tests.slowest.is_empty()) {
        term::say(format_args!("\n  {}", paint.tone(Tone::Faint, "slowest")));
        for test in &tests.slowest {
            term::say(format_args!(
                "  {:>7}  {}",
                words::length(test.duration_ms),
                title(test)
            ));
        }
    }
    for problem in tests.iter().flat_map(|tests| &tests.problems) {
        term::warn(clean(problem));
    }
    if let Some(summary) = &node.summary {
        term::say("");
        summary
            .lines()
            .for_each(|line| term::say(format_args!("  {}", clean(line))));
    }
}

fn show_failure(test: &TestView, paint: Paint) {
    term::say(format_args!("\n  {} {}", paint.tone(Tone::Bad, "✗"), title(test)));
    let message = clean(&test.message);
    if !message.is_empty() {
        term::say(format_args!("    {message}"));
    }
    if test.text.trim() != test.message {
        for line in test.text.lines() {
            term::say(format_args!("    {}", paint.tone(Tone::Faint, clean(line))));
        }
    }
}

fn title(test: &TestView) -> String {
    clean(&format!("{} {}", test.suite, test.name)).trim().to_owned()
}
