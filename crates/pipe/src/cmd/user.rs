//! `pipe user`: who there is, and what they may do.

use std::str::FromStr;

use clap::{Args, Subcommand};
use pipekeeper_access::{Grant, Role};
use pipekeeper_model::{Actor, Name};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    failure::{Exit, Failure, OrFail},
    runtime,
    term::{self, secret},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct User {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List people and programs that may log in
    List,
    /// Add somebody
    Add {
        /// Their name
        name: Name,
        #[command(flatten)]
        facts: Facts,
    },
    /// Change somebody; what is not said stays
    Set {
        /// Their name
        name: Name,
        #[command(flatten)]
        facts: Facts,
        /// Keep them out, with all their tokens and sessions
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Let them in again
        #[arg(long)]
        enable: bool,
    },
    /// Remove somebody, with all their tokens and sessions
    Remove {
        /// Their name
        name: Name,
    },
}

/// What may be said of somebody.
#[derive(Debug, Args)]
struct Facts {
    /// A role, everywhere or in some projects: viewer, developer, maintainer, admin, or a group of approvers; all of
    /// them are said together
    #[arg(long = "role", value_name = "ROLE[@PROJECT,…]")]
    roles: Vec<RoleIn>,
    /// An account of theirs at a forge, as the forge authenticates it
    #[arg(long = "identity", value_name = "LOGIN@FORGE")]
    identities: Vec<Identity>,
    /// What the issuer of logins calls them; empty takes that away
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Ask for a password (or read it from stdin)
    #[arg(long)]
    password: bool,
}

/// A role with its projects.
#[derive(Clone, Debug)]
struct RoleIn(Grant);

impl FromStr for RoleIn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, projects) = match text.split_once('@') {
            Some((role, projects)) => (role, Some(projects)),
            None => (text, None),
        };
        let role: Role = role
            .parse()
            .map_err(|error: pipekeeper_access::RoleError| error.to_string())?;
        let parse = |name: &str| {
            name.parse::<Name>()
                .map_err(|error| format!("the project `{name}`: {error}"))
        };
        let projects = projects
            .map(|names| names.split(',').map(parse).collect())
            .transpose()?;
        Ok(Self(Grant {
            role,
            projects,
            environments: None,
        }))
    }
}

/// An account at a forge.
#[derive(Clone, Debug)]
struct Identity(Actor);

impl FromStr for Identity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once('@') {
            Some((login, forge)) if !login.is_empty() && !forge.is_empty() => Ok(Self(Actor::Forge {
                forge: forge.to_owned(),
                login: login.to_owned(),
            })),
            Some(_) | None => Err("write it like `ann@gitea`".to_owned()),
        }
    }
}

#[derive(Deserialize)]
struct UserView {
    name: String,
    has_password: bool,
    grants: Vec<Grant>,
    identities: Vec<Actor>,
    disabled: bool,
    subject: Option<Subject>,
    #[serde(default)]
    groups: Vec<String>,
}

/// Who somebody is for the issuer of logins.
#[derive(Deserialize)]
struct Subject {
    subject: String,
}

impl User {
    /// Does what was asked; alone it says who the caller is.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        runtime::block_on(async {
            match self.what {
                None => me(&client, output).await,
                Some(What::List) => list(&client, output).await,
                Some(What::Add { name, facts }) => {
                    let body = facts.into_body()?;
                    change(&client, &["users", name.as_str(), "add"], body, output).await
                }
                Some(What::Set {
                    name,
                    facts,
                    disable,
                    enable,
                }) => {
                    let mut body = facts.into_body()?;
                    if disable || enable {
                        body.insert("disabled".to_owned(), disable.into());
                    }
                    change(&client, &["users", name.as_str()], body, output).await
                }
                Some(What::Remove { name }) => {
                    client
                        .post(&["users", name.as_str(), "remove"], &json!({}))
                        .await?;
                    term::note(format_args!("removed `{name}`"));
                    Ok(Exit::Done)
                }
            }
        })
    }
}

impl Facts {
    fn into_body(self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        if !self.roles.is_empty() {
            let grants: Vec<_> = self.roles.into_iter().map(|RoleIn(grant)| grant).collect();
            body.insert(
                "grants".to_owned(),
                serde_json::to_value(grants).or_fail("write the roles")?,
            );
        }
        if !self.identities.is_empty() {
            let identities: Vec<_> = self.identities.into_iter().map(|Identity(actor)| actor).collect();
            let value = serde_json::to_value(identities).or_fail("write the identities")?;
            body.insert("identities".to_owned(), value);
        }
        if let Some(subject) = self.subject {
            body.insert("subject".to_owned(), subject.into());
        }
        if self.password {
            body.insert("password".to_owned(), secret::ask("Their password: ")?.into());
        }
        Ok(body)
    }
}

async fn change(
    client: &Client,
    path: &[&str],
    body: Map<String, Value>,
    output: Output,
) -> Result<Exit, Failure> {
    let changed = client.post(path, &Value::Object(body)).await?;
    match output {
        Output::Json => term::say(changed),
        Output::Text => term::say(line(&view(changed)?)),
    }
    Ok(Exit::Done)
}

async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let mut found = client.get(&["users"], &[]).await?;
    match output {
        Output::Json => term::say(found),
        Output::Text => {
            let users: Vec<UserView> = view(found["users"].take())?;
            if users.is_empty() {
                term::note(
                    "nobody can log in yet: the server prints a link for the first admin when it starts",
                );
            }
            users.iter().for_each(|user| term::say(line(user)));
        }
    }
    Ok(Exit::Done)
}

async fn me(client: &Client, output: Output) -> Result<Exit, Failure> {
    let found = client.get(&["me"], &[]).await?;
    match output {
        Output::Json => term::say(found),
        Output::Text => {
            let actor: Actor = view(found["actor"].clone())?;
            let grants: Vec<Grant> = view(found["grants"].clone())?;
            term::say(format_args!("{actor}  {}", grants_text(&grants)));
        }
    }
    Ok(Exit::Done)
}

fn line(user: &UserView) -> String {
    let mut parts = vec![format!("{:<16} {}", user.name, grants_text(&user.grants))];
    parts.extend(user.identities.iter().map(ToString::to_string));
    if let Some(subject) = &user.subject {
        parts.push(term::clean(&format!("subject {}", subject.subject)));
    }
    if !user.groups.is_empty() {
        parts.push(term::clean(&format!("groups {}", user.groups.join(","))));
    }
    if !user.has_password && user.subject.is_none() {
        parts.push("no password".to_owned());
    }
    if user.disabled {
        parts.push("kept out".to_owned());
    }
    parts.join("  ")
}

fn grants_text(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "no role".to_owned();
    }
    let text = |grant: &Grant| {
        let places = grant
            .projects
            .iter()
            .flatten()
            .chain(grant.environments.iter().flatten());
        let places: Vec<&str> = places.map(Name::as_str).collect();
        if places.is_empty() {
            grant.role.to_string()
        } else {
            format!("{}@{}", grant.role, places.join(","))
        }
    };
    grants.iter().map(text).collect::<Vec<_>>().join(" ")
}
