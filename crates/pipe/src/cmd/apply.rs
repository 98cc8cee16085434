//! `pipe apply`: documents from files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pipekeeper_model::Name;
use pipekeeper_spec::{
    Diagnostics, Severity,
    document::{Document, Kind, Others, check_documents},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    documents::{self, DocumentFile},
    failure::{Exit, Failure, OrFail},
    find::color,
    runtime,
    term::{self, Paint, Tone, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A file of documents, a folder of such files, or `-` for standard input; may be repeated
    #[arg(short, long, required = true, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// What to do in the place of changing anything
    #[arg(long, value_enum, value_name = "HOW")]
    dry_run: Option<DryRun>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    /// Check the documents, without a server.
    Offline,
    /// Show what would change on the server.
    Server,
}

/// What became, or would become, of one document.
#[derive(Deserialize)]
struct Step {
    kind: Kind,
    name: Name,
    what: String,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    path: String,
    old: Option<Value>,
    new: Option<Value>,
}

impl Apply {
    /// Checks the documents, and makes them true on the server unless that is not wanted.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let files = documents::read(&self.file)?;
        let mode = match self.dry_run {
            Some(DryRun::Offline) => return check(&files, output),
            Some(DryRun::Server) => "compare",
            None => "apply",
        };
        let sources: Vec<_> = files.iter().map(DocumentFile::source).collect();
        let Ok((documents, _)) = check_documents(&sources, Others::Unknown) else {
            return check(&files, output);
        };
        let body = json!({ "documents": documents, "mode": mode });
        let client = Client::new(&self.remote)?;
        let mut said = runtime::block_on(client.post(&["documents", "apply"], &body))?;
        match output {
            Output::Json => term::say(said),
            Output::Text => {
                let steps: Vec<Step> = view(said["steps"].take())?;
                steps.iter().for_each(tell);
                if mode == "compare" {
                    term::note("nothing was changed: this only compares");
                }
            }
        }
        Ok(Exit::Done)
    }
}

fn tell(step: &Step) {
    let paint = Paint::for_stdout();
    let tone = if step.what == "unchanged" {
        Tone::Faint
    } else {
        Tone::Good
    };
    let what = paint.tone(tone, format_args!("{:<9}", clean(&step.what)));
    term::say(format_args!("{what} {}/{}", step.kind, step.name));
    // What is new is all new.
    for change in step.changes.iter().filter(|_| step.what == "changed") {
        let text = |value: &Option<Value>| {
            value
                .as_ref()
                .map_or_else(|| "–".to_owned(), |value| clean(&value.to_string()))
        };
        term::say(format_args!(
            "          {}: {} → {}",
            clean(&change.path),
            text(&change.old),
            text(&change.new)
        ));
    }
}

fn check(files: &[DocumentFile], output: Output) -> Result<Exit, Failure> {
    let sources: Vec<_> = files.iter().map(DocumentFile::source).collect();
    let checked = check_documents(&sources, Others::Unknown);
    let (documents, findings, exit) = match &checked {
        Ok((documents, warnings)) => (documents.as_slice(), warnings, Exit::Done),
        Err(errors) => (&[][..], errors, Exit::Usage),
    };
    match output {
        Output::Text => show(files, documents, findings),
        Output::Json => {
            let data = to_json(files, documents, findings)?;
            term::say(serde_json::to_string_pretty(&data).or_fail("write the documents")?);
        }
    }
    Ok(exit)
}

fn show(files: &[DocumentFile], documents: &[Document], findings: &[Diagnostics]) {
    for (file, found) in files.iter().zip(findings) {
        let rendered = found.render(&file.source(), color(Paint::for_stderr()));
        if !rendered.is_empty() {
            term::note(rendered.trim_end());
        }
    }
    let paint = Paint::for_stdout();
    for document in documents {
        term::say(format_args!(
            "{} {}/{}",
            paint.tone(Tone::Good, "✓"),
            document.kind(),
            paint.tone(Tone::Strong, document.name.as_str())
        ));
    }
    let all = findings.iter().flat_map(Diagnostics::iter);
    let errors = all.filter(|one| one.severity == Severity::Error).count();
    if errors > 0 {
        term::say(format_args!("{} {errors} found", paint.tone(Tone::Bad, "✗")));
    }
}

fn to_json(
    files: &[DocumentFile],
    documents: &[Document],
    findings: &[Diagnostics],
) -> Result<Value, Failure> {
    let documents = documents.iter().map(Document::to_canonical);
    let documents = documents.collect::<Result<Vec<_>, _>>();
    let found = files.iter().zip(findings);
    let found = found.map(|(file, found)| found.to_json(&file.source()));
    let found: Vec<Value> = found
        .filter_map(|found| match found {
            Value::Array(items) => Some(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => None,
        })
        .flatten()
        .collect();
    Ok(json!({
        "documents": documents.or_fail("write the documents")?,
        "diagnostics": found,
    }))
}
