//! `pipe show`.

use clap::Args;

use super::runs::place;
use crate::{
    cli::{Output, Remote},
    client::{Client, Node, RunView, find_run, run_number, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime,
    term::{self, Paint, Tone, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The run; without it the newest of HEAD
    #[arg(value_name = "RUN", value_parser = run_number)]
    number: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

impl Show {
    /// Shows the run.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let answer = runtime::block_on(async {
            let id = find_run(&client, self.number).await?;
            client.get(&["runs", &id.to_string()], &[]).await
        })?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the run")?);
            return Ok(Exit::Done);
        }
        show(&view(answer)?);
        Ok(Exit::Done)
    }
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
    for artifact in &node.artifacts {
        term::say(format_args!(
            "  {indent}    {} {} bytes {}",
            artifact.name,
            artifact.bytes,
            artifact.digest.to_short()
        ));
    }
}
