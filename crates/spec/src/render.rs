//! Diagnostics as people, editors and programs read them.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::{
    diagnostic::{Diagnostic, Diagnostics, Severity},
    source::{Lines, SourceFile},
};

/// Whether output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// With ANSI colours.
    Always,
    /// Plain text.
    Never,
}

/// A hostile file may hold thousands of errors; nobody reads on after this many.
const SHOWN: usize = 100;

impl Diagnostics {
    /// The diagnostics with the lines they are about, for a terminal.
    pub fn render(&self, file: &SourceFile<'_>, color: Color) -> String {
        let renderer = match color {
            Color::Always => Renderer::styled(),
            Color::Never => Renderer::plain(),
        };
        let lines = Lines::new(file.text);
        let mut parts: Vec<String> = self
            .iter()
            .take(SHOWN)
            .map(|one| render_one(&renderer, file, &lines, one))
            .collect();
        if self.len() > SHOWN {
            parts.push(format!("… and {} more", self.len() - SHOWN));
        }
        let mut text = parts.join("\n\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// The diagnostics for programs.
    pub fn to_json(&self, file: &SourceFile<'_>) -> Value {
        self.iter()
            .map(|one| {
                json!({
                    "file": file.path,
                    "line": one.place.line,
                    "column": one.place.column,
                    "key_path": one.path,
                    "code": one.code,
                    "severity": one.severity,
                    "message": one.message,
                    "hint": one.help,
                })
            })
            .collect()
    }

    /// One line for each diagnostic, as editors and log readers take it.
    pub fn to_lines(&self, file: &SourceFile<'_>) -> String {
        self.iter()
            .map(|one| {
                format!(
                    "{}:{}:{}: {}[{}]: {}\n",
                    file.path,
                    one.place.line,
                    one.place.column,
                    one.severity.as_str(),
                    one.code,
                    one.message
                )
            })
            .collect()
    }
}

fn render_one(renderer: &Renderer, file: &SourceFile<'_>, lines: &Lines<'_>, one: &Diagnostic) -> String {
    let level = match one.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let spans = || std::iter::once(&one.span).chain(one.labels.iter().map(|label| &label.span));
    let first = spans().map(|span| lines.line_of(span.start)).min().unwrap_or(0);
    let last = spans().map(|span| lines.line_of(span.end)).max().unwrap_or(0);
    // Only the lines in question are handed over: the renderer reads all that it is given, for each diagnostic.
    let from = lines.start_of(first);
    let excerpt = file.text.get(from..lines.start_of(last + 1)).unwrap_or("");
    let shifted = |span: &std::ops::Range<usize>| {
        let start = span.start.saturating_sub(from).min(excerpt.len());
        start..span.end.saturating_sub(from).clamp(start, excerpt.len())
    };
    let labels = one.labels.iter().map(|label| {
        AnnotationKind::Context
            .span(shifted(&label.span))
            .label(label.text.as_str())
    });
    let snippet = Snippet::source(excerpt)
        .line_start(first + 1)
        .path(file.path)
        .annotation(AnnotationKind::Primary.span(shifted(&one.span)))
        .annotations(labels);
    let title = level
        .primary_title(one.message.as_str())
        .id(one.code.as_str())
        .element(snippet);
    let report = match &one.help {
        Some(help) => title.element(Level::HELP.message(help.as_str())),
        None => title,
    };
    renderer.render(&[report])
}
