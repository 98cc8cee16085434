//! `pipe token`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    config::{self, Flags},
    failure::{Exit, Failure},
    server::tokens,
    term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The server's configuration
    #[arg(long, env = "PIPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Make a new token; the old one is void
    #[arg(long)]
    new: bool,
}

impl Token {
    /// Prints the token.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let data_dir = config::data_dir(&Flags {
            file: self.config,
            listen: None,
            data_dir: self.data_dir,
        })?;
        let token = if self.new {
            let token = tokens::new_admin(&data_dir)?;
            term::note("restart a server that is running: it still takes the old token");
            token
        } else {
            tokens::stored_admin(&data_dir)?.ok_or_else(|| {
                Failure::not_found(format!("there is no token in `{}`", data_dir.display()))
                    .hint("name the server's own `--config` or `--data-dir`; a server makes its token when it starts")
            })?
        };
        term::say(token.reveal());
        Ok(Exit::Done)
    }
}
