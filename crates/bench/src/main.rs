//! Measures how fast `pipe` is, each figure in turns with its floor, and checks that what was measured is also right.
//!
//! `scripts/bench [ROW…]` builds and calls it; it prints a table and keeps `docs/benchmarks.md`. It is no test: it fails only
//! when something did not work, never because it was slow.

mod board;
mod database;
mod figure;
mod floor;
mod forge;
mod http;
mod rows;
mod seed;
mod served;
mod user;

use std::{env, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{board::Board, rows::ROWS};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        // This program is its own peer: floors and log writers are processes of their own.
        ["floor-server", folder] => floor::serve(&PathBuf::from(folder), None),
        ["floor-server", folder, database] => floor::serve(&PathBuf::from(folder), Some(database)),
        ["write-log", bytes] => rows::logs::write(bytes),
        rows => bench(rows),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell if stderr is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(wanted: &[&str]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| !ROWS.iter().any(|row| row.0 == **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.0).collect();
        bail!("there is no row `{unknown}`; there are {}", known.join(", "));
    }
    let mut board = Board::open(env::var_os("PIPE_BENCH_PAPER").map(PathBuf::from))?;
    for (name, measure) in ROWS {
        if wanted.is_empty() || wanted.contains(name) {
            let figures = measure().with_context(|| format!("row `{name}`"))?;
            board.take(name, &figures)?;
        }
    }
    board.close()
}
