//! `pipe apply`: documents from files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pipekeeper_spec::{
    Diagnostics, Severity,
    document::{Document, Others, check_documents},
};
use serde_json::{Value, json};

use crate::{
    cli::Output,
    documents::{self, DocumentFile},
    failure::{Exit, Failure, OrFail},
    find::color,
    term::{self, Paint, Tone},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// A file of documents, a folder of such files, or `-` for standard input; may be repeated
    #[arg(short, long, required = true, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// What to do in the place of changing anything
    #[arg(long, value_enum, required = true, value_name = "HOW")]
    dry_run: DryRun,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    /// Check the documents, without a server.
    Offline,
}

impl Apply {
    /// Checks the documents.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let files = documents::read(&self.file)?;
        match self.dry_run {
            DryRun::Offline => check(&files, output),
        }
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
