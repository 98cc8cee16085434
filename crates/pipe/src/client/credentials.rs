//! The servers that this user is logged in to: their tokens in one private file, and which of them commands mean.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, OrFail},
    folders,
};

const FILE: &str = "servers.json";

/// What is in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The server that the last login was to.
    current: Option<String>,
    /// The token of each server, by its address.
    servers: BTreeMap<String, Login>,
}

/// A login to one server.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// What the server calls the token.
    pub(crate) id: String,
    /// The token itself.
    pub(crate) token: String,
    /// The certificates, as PEM, to trust for this server beside the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
}

impl Credentials {
    /// Reads them; nothing if nobody logged in.
    pub(crate) fn read() -> Result<Self, Failure> {
        let path = path()?;
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .or_usage(format_args!("read `{}`", path.display()))
                .map_err(|failure| failure.hint("`pipe login` writes it anew once it is removed")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).or_usage(format_args!("read `{}`", path.display())),
        }
    }

    /// The server that is meant when none is named.
    pub(crate) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    /// The login to a server.
    pub(crate) fn of(&self, server: &str) -> Option<&Login> {
        self.servers.get(&plain(server))
    }

    /// Notes a login, and means that server from now on.
    pub(crate) fn enter(&mut self, server: &str, login: Login) -> Result<(), Failure> {
        let server = plain(server);
        self.servers.insert(server.clone(), login);
        self.current = Some(server);
        self.write()
    }

    /// Forgets a login.
    pub(crate) fn leave(&mut self, server: &str) -> Result<(), Failure> {
        let server = plain(server);
        self.servers.remove(&server);
        self.current = self.current.take().filter(|current| *current != server);
        self.write()
    }

    fn write(&self) -> Result<(), Failure> {
        let path = path()?;
        if let Some(folder) = path.parent() {
            folders::make(folder)?;
        }
        let text = serde_json::to_string_pretty(self).or_fail("write the logins")?;
        folders::write_private(&path, &format!("{text}\n"))
    }
}

/// An address in the one form that it is kept under.
fn plain(server: &str) -> String {
    let whole = reqwest::Url::parse(server).map_or_else(|_| server.to_owned(), String::from);
    whole.trim_end_matches('/').to_owned()
}

fn path() -> Result<PathBuf, Failure> {
    Ok(folders::config()?.join(FILE))
}
