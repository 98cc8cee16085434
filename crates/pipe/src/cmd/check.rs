//! `pipe check`: every diagnostic of every file, and the compiled graph of those without errors.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, ValueEnum};
use pipekeeper_model::Name;
use pipekeeper_spec::{Diagnostics, Pipeline, document::Environment};
use serde_json::{Value, json};

use super::working_folder;
use crate::{
    cli::Output,
    failure::{Exit, Failure, OrFail},
    find::{self, PipelineFile, color},
    kinds,
    term::{self, Paint, Tone},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The files; without any, every `.pipe/*.yaml`
    files: Vec<PathBuf>,
    /// A folder or file of documents, whose Environments the graph shows; may be repeated
    #[arg(long, value_name = "DIR")]
    kinds: Vec<PathBuf>,
    /// How diagnostics are written
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the lines they are about.
    Human,
    /// One document.
    Json,
    /// `file:line:column: …`, as editors read it.
    Lines,
}

struct Checked {
    file: PipelineFile,
    pipeline: Option<Pipeline>,
    diagnostics: Diagnostics,
}

impl Check {
    /// Checks the files.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let from = working_folder()?;
        let files = if self.files.is_empty() {
            let (root, files) = find::all(&from)?;
            find::read(&files, &root)?
        } else {
            find::read(&self.files, &from)?
        };
        let environments = kinds::read(&self.kinds)?;
        let checked: Vec<Checked> = files.into_iter().map(check).collect();
        let format = self.format.unwrap_or(match output {
            Output::Text => Format::Human,
            Output::Json => Format::Json,
        });
        match format {
            Format::Human => checked.iter().for_each(|one| show(one, &environments)),
            Format::Lines => {
                for one in &checked {
                    term::put(one.diagnostics.to_lines(&one.file.source()).as_bytes());
                }
            }
            Format::Json => {
                let all: Vec<Value> = checked.iter().map(to_json).collect();
                term::say(serde_json::to_string_pretty(&all).or_fail("write the diagnostics")?);
            }
        }
        let defined = checked.iter().filter_map(|one| {
            let pipeline = one.pipeline.as_ref()?;
            Some((pipeline.name(), one.file.path.as_str()))
        });
        let clashes = pipekeeper_spec::name_clashes(defined);
        for clash in &clashes {
            term::show(&Failure::usage(clash.to_string()));
        }
        let all_good = clashes.is_empty() && checked.iter().all(|one| one.pipeline.is_some());
        Ok(if all_good { Exit::Done } else { Exit::Usage })
    }
}

fn check(file: PipelineFile) -> Checked {
    let (pipeline, diagnostics) = match pipekeeper_spec::check(&file.source()) {
        Ok((pipeline, warnings)) => (Some(pipeline), warnings),
        Err(errors) => (None, errors),
    };
    Checked {
        file,
        pipeline,
        diagnostics,
    }
}

fn show(one: &Checked, environments: &BTreeMap<Name, Environment>) {
    let rendered = one
        .diagnostics
        .render(&one.file.source(), color(Paint::for_stderr()));
    if !rendered.is_empty() {
        term::note(rendered.trim_end());
    }
    let paint = Paint::for_stdout();
    match &one.pipeline {
        Some(pipeline) => {
            term::say(format_args!(
                "{} {}",
                paint.tone(Tone::Good, "✓"),
                paint.tone(Tone::Strong, &one.file.path)
            ));
            for line in pipeline.graph_text(environments).trim_end().lines() {
                term::say(format_args!("  {line}"));
            }
        }
        None => term::say(format_args!(
            "{} {}: {} found",
            paint.tone(Tone::Bad, "✗"),
            paint.tone(Tone::Strong, &one.file.path),
            one.diagnostics.len()
        )),
    }
}

fn to_json(one: &Checked) -> Value {
    json!({
        "file": one.file.path,
        "valid": one.pipeline.is_some(),
        "pipeline": one.pipeline.as_ref().map(|pipeline| pipeline.name()),
        "actions": one.pipeline.as_ref().map(|pipeline| pipeline.actions().collect::<Vec<_>>()),
        "diagnostics": one.diagnostics.to_json(&one.file.source()),
    })
}
