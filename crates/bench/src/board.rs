//! The table: printed as it grows, and kept in `docs/benchmarks.md`, where rows that were not measured anew stay.

use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{figure::Figure, rows::ROWS};

const HEAD: &str =
    "| row | what | measured: median (min–max) | floor beside it | ratio | target | verdict | n | when |";
const RULE: &str = "|---|---|---|---|---|---|---|---|---|";
/// What a person wrote stands from here on, and stays.
const NOTES: &str = "## Notes";

/// The table.
pub(crate) struct Board {
    paper: Option<PathBuf>,
    lines: BTreeMap<usize, Vec<String>>,
    notes: String,
}

impl Board {
    /// A table with what the paper holds already.
    pub(crate) fn open(paper: Option<PathBuf>) -> Result<Self> {
        let text = match &paper {
            Some(path) if path.exists() => fs::read_to_string(path).context("read the paper")?,
            Some(_) | None => String::new(),
        };
        let mut lines: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for line in text.lines() {
            let name = line
                .trim_start_matches("| ")
                .split(" |")
                .next()
                .unwrap_or_default();
            if let Some(place) = place_of(name).filter(|_| line.starts_with("| ")) {
                lines.entry(place).or_default().push(line.to_owned());
            }
        }
        let notes = text
            .split_once(NOTES)
            .map_or(String::new(), |(_, notes)| notes.to_owned());
        let board = Self { paper, lines, notes };
        say(HEAD)?;
        say(RULE)?;
        Ok(board)
    }

    /// Prints a row's figures and keeps them.
    pub(crate) fn take(&mut self, row: &str, figures: &[Figure]) -> Result<()> {
        let day = chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string();
        let mut lines = Vec::new();
        for figure in figures {
            let mut cells = vec![row.to_owned()];
            cells.extend(figure.cells());
            cells.push(day.clone());
            let line = format!("| {} |", cells.join(" | "));
            say(&line)?;
            lines.push(line);
        }
        if let Some(place) = place_of(row) {
            self.lines.insert(place, lines);
        }
        Ok(())
    }

    /// Writes the paper.
    pub(crate) fn close(self) -> Result<()> {
        let Some(path) = &self.paper else {
            return Ok(());
        };
        let lines: Vec<&str> = self.lines.values().flatten().map(String::as_str).collect();
        let text = format!(
            "# Benchmarks\n\nWritten by `scripts/bench`; the notes at the end are by hand. Every figure was measured in turns with its \
             floor in one session (A B A B …) and counts only if everything ran once, in order, and was stored.\n\n\
             Machine: {}.\n\n{HEAD}\n{RULE}\n{}\n\n{NOTES}{}",
            machine(),
            lines.join("\n"),
            self.notes
        );
        fs::write(path, text).context("write the paper")
    }
}

fn place_of(row: &str) -> Option<usize> {
    ROWS.iter().position(|known| known.0 == row)
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("print")
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, Linux {}", kernel.trim())
}
