//! `pipe login` and `pipe logout`.

use std::{fs, path::PathBuf};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::{
    cli::Remote,
    client::{Client, Credentials, credentials, view},
    failure::{Exit, Failure, OrFail},
    runtime,
    term::{self, secret},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The server's address, with `https://`; without it the one that PIPE_SERVER names, or the last one
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Your name there; it is asked for if it is left out
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A file of certificates to trust for this server beside the usual ones; kept with the login
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The server; without it the one that PIPE_SERVER names, or the last one
    #[arg(value_name = "URL")]
    url: Option<String>,
}

/// What the server says of a token that it drew.
#[derive(Deserialize)]
struct Drawn {
    id: String,
    token: String,
}

impl Login {
    /// Exchanges name and password for a token, and keeps that.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let server = Remote::at(self.url).address();
        let read =
            |file: &PathBuf| fs::read_to_string(file).or_usage(format_args!("read `{}`", file.display()));
        let ca = self.ca.as_ref().map(read).transpose()?;
        let client = Client::with_token(&server, None, ca.as_deref())?;
        let name = match self.name {
            Some(name) => name,
            None => secret::ask_line("Name: ")?,
        };
        let password = secret::ask("Password: ")?;
        let label = format!("pipe login on {}", host());
        let body = json!({ "name": name, "password": password, "label": label });
        let drawn: Drawn = view(runtime::block_on(client.post(&["login"], &body))?)?;
        let note = format!(
            "logged in to {server} as {name}, for 30 days (token {})",
            drawn.id
        );
        let login = credentials::Login {
            id: drawn.id,
            token: drawn.token,
            ca,
        };
        Credentials::read()?.enter(&server, login)?;
        term::note(note);
        Ok(Exit::Done)
    }
}

impl Logout {
    /// Revokes the token and forgets it.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let server = Remote::at(self.url).address();
        let mut credentials = Credentials::read()?;
        let Some(login) = credentials.of(&server).cloned() else {
            return Err(Failure::not_found(format!("you are not logged in to {server}"))
                .hint("`pipe login URL` logs in"));
        };
        let client = Client::with_token(&server, Some(login.token), login.ca.as_deref())?;
        let revoked = runtime::block_on(client.post(&["tokens", &login.id, "revoke"], &json!({})));
        credentials.leave(&server)?;
        match revoked {
            Ok(_) => term::note(format_args!("logged out of {server}")),
            Err(failure) => {
                term::warn("the token is forgotten here, but the server was not told:");
                return Err(failure);
            }
        }
        Ok(Exit::Done)
    }
}

fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() {
        "this machine".to_owned()
    } else {
        name
    }
}
