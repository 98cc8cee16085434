//! The binary `pipe`: command line, configuration, composition and terminal reporter. It holds no rules about runs.

mod cli;
mod client;
mod clock;
mod cmd;
mod config;
mod console;
mod debug;
mod demo;
mod documents;
mod failure;
mod find;
mod folders;
mod follow;
mod kinds;
mod local;
mod remote;
mod report;
mod runtime;
mod server;
mod term;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    // Supervisors are started by the thousand: they get past everything that they do not need.
    if let Some(dir) = supervisor_folder() {
        return pipekeeper_agent::main(&dir);
    }
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            term::show(&failure);
            failure.exit.into()
        }
    }
}

/// The folder of `pipe agent --dir DIR`, which only this program itself calls.
fn supervisor_folder() -> Option<PathBuf> {
    let mut args = std::env::args_os().skip(1);
    if args.next()?.as_os_str() != OsStr::new("agent") || args.next()?.as_os_str() != OsStr::new("--dir") {
        return None;
    }
    args.next().map(|dir| Path::new(&dir).to_owned())
}
