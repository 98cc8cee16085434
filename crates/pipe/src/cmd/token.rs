//! `pipe token`: one's access tokens, and the server's own.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Subcommand};
use pipekeeper_access::{Role, RoleError};
use pipekeeper_model::{Name, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    clock,
    config::{self, Flags},
    failure::{Exit, Failure},
    report::words,
    runtime,
    server::tokens,
    term::{self, clean},
};

/// The arguments.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Token {
    #[command(subcommand)]
    what: Option<What>,
    /// The server's configuration
    #[arg(long, env = "PIPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Make a new token of the server's own; the old one is void
    #[arg(long)]
    new: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Draw a token of yours; it is shown this once
    Draw {
        /// What it is for
        label: String,
        /// How many days it lives, 366 at the most
        #[arg(long, value_name = "NUMBER", default_value_t = 90)]
        days: u32,
        /// The most that it may be used for: viewer, developer, maintainer, admin or a group of approvers
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Option<Role>,
        /// Only in this project; may be said several times
        #[arg(long = "project", value_name = "NAME")]
        projects: Vec<Name>,
        #[command(flatten)]
        remote: Remote,
    },
    /// List your tokens
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Revoke a token of yours
    Revoke {
        /// Its id, as the list says it
        id: String,
        #[command(flatten)]
        remote: Remote,
    },
}

#[derive(Deserialize)]
struct TokenView {
    id: String,
    label: String,
    expires: Option<Timestamp>,
    used: Option<Timestamp>,
}

fn role(text: &str) -> Result<Role, RoleError> {
    text.parse()
}

impl Token {
    /// Does what was asked; alone it prints the server's own token.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        match self.what {
            Some(what) => runtime::block_on(what.run(output)),
            None => own(self.config, self.data_dir, self.new),
        }
    }
}

impl What {
    async fn run(self, output: Output) -> Result<Exit, Failure> {
        match self {
            Self::Draw {
                label,
                days,
                role,
                projects,
                remote,
            } => {
                let projects: BTreeSet<Name> = projects.into_iter().collect();
                let projects = (!projects.is_empty()).then_some(projects);
                let body = json!({ "label": label, "days": days, "role": role, "projects": projects });
                let mut drawn = Client::new(&remote)?.post(&["tokens"], &body).await?;
                match output {
                    Output::Json => term::say(drawn),
                    Output::Text => {
                        term::say(view::<String>(drawn["token"].take())?);
                        term::note(format_args!("it is shown this once, and lives for {days} days"));
                    }
                }
            }
            Self::List { remote } => {
                let mut found = Client::new(&remote)?.get(&["tokens"], &[]).await?;
                match output {
                    Output::Json => term::say(found),
                    Output::Text => {
                        let tokens: Vec<TokenView> = view(found["tokens"].take())?;
                        tokens.iter().for_each(|token| term::say(line(token)));
                    }
                }
            }
            Self::Revoke { id, remote } => {
                let path = ["tokens", id.as_str(), "revoke"];
                Client::new(&remote)?.post(&path, &json!({})).await?;
                term::note(format_args!("revoked {id}"));
            }
        }
        Ok(Exit::Done)
    }
}

fn line(token: &TokenView) -> String {
    let now = clock::now();
    let used = match token.used {
        Some(used) => format!("used {} ago", words::length(now.since(used))),
        None => "never used".to_owned(),
    };
    let ends = token.expires.map_or("for ever".to_owned(), |end| {
        format!("ends in {}", words::length(end.since(now)))
    });
    format!("{}  {ends}  {used}  {}", token.id, clean(&token.label))
}

/// Prints the server's own token, or makes another.
fn own(config: Option<PathBuf>, data_dir: Option<PathBuf>, new: bool) -> Result<Exit, Failure> {
    let data_dir = config::data_dir(&Flags {
        file: config,
        listen: None,
        data_dir,
    })?;
    let token = if new {
        let token = tokens::new_admin(&data_dir)?;
        term::note("restart a server that is running: it still takes the old token");
        token
    } else {
        tokens::stored_admin(&data_dir)?.ok_or_else(|| {
            Failure::not_found(format!("there is no token in `{}`", data_dir.display())).hint(
                "name the server's own `--config` or `--data-dir`; a server makes its token when it starts",
            )
        })?
    };
    term::say(token.reveal());
    Ok(Exit::Done)
}
