//! `pipe demo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{
    demo,
    failure::{Exit, Failure},
    runtime,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Who approves
    #[arg(long, value_enum, default_value_t)]
    pub(crate) approve: Approver,
    /// End when the run has ended and everything was checked
    #[arg(long)]
    pub(crate) exit: bool,
    /// Use this folder, which must be empty, and keep it
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// The port of the page; by default a free one
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
}

/// Who approves in the demo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Approver {
    /// You, on the page or by the command that is printed.
    #[default]
    Ask,
    /// The demo itself, through the API.
    Auto,
}

impl Demo {
    /// Shows it.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        runtime::block_on_all_cores(demo::show(self))
    }
}
