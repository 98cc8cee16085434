//! `pipe secret`: the secrets that a server keeps. Values come from stdin or from a prompt, never from the command line.

use clap::{Args, Subcommand, ValueEnum};
use pipekeeper_model::{EventKind, Name, Timestamp};
use pipekeeper_spec::document;
use serde::Deserialize;
use serde_json::json;

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    clock,
    failure::{Exit, Failure},
    report::words,
    runtime,
    term::{self, secret},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Secret {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set a secret's value, from stdin or asked for; bindings that are not said stay as they are
    Set {
        #[command(flatten)]
        which: Which,
        /// Only for runs that this event started; may be said several times
        #[arg(long = "event", value_name = "EVENT", value_parser = event)]
        events: Vec<EventKind>,
        /// Only for runs that are trusted so far; protected unless it is said, and may be said several times
        #[arg(long = "tier", value_name = "TIER", value_enum)]
        tiers: Vec<Tier>,
        /// Only for actions all of whose steps run in this image, whatever its tag; may be said several times
        #[arg(long = "image", value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// List secrets: where they may be used, who set them and when, never their values
    List,
    /// Remove a secret
    Remove {
        #[command(flatten)]
        which: Which,
    },
    /// Have another master key seal all secrets, or finish doing so; the server goes on meanwhile
    RotateKey,
}

/// Which secret.
#[derive(Debug, Args)]
struct Which {
    /// What pipelines call it
    name: Name,
    /// The project whose actions may ask for it; all projects' without
    #[arg(long, value_name = "NAME")]
    project: Option<Name>,
    /// Only for actions that name this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Protected branches and tags
    Protected,
    /// Other refs of the repository
    Branches,
}

#[derive(Deserialize)]
struct SecretView {
    name: Name,
    known_as: Name,
    bindings: document::Secret,
    value: Option<ValueView>,
}

#[derive(Deserialize)]
struct ValueView {
    version: u64,
    by: String,
    set: Timestamp,
    used: Option<Timestamp>,
}

fn event(text: &str) -> Result<EventKind, String> {
    let found = EventKind::ALL.iter().find(|kind| kind.as_str() == text);
    found.copied().ok_or_else(|| {
        let all: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("there are {}", all.join(", "))
    })
}

impl Secret {
    /// Does what was asked.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        match self.what {
            What::Set {
                which,
                events,
                tiers,
                images,
            } => {
                let value = secret::ask_whole(&format!("The value of {}: ", which.name))?;
                let tiers: Vec<&str> = tiers.into_iter().map(Tier::as_str).collect();
                let body = json!({
                    "name": which.name, "project": which.project, "environment": which.environment,
                    "events": some(events), "tiers": some(tiers), "images": some(images), "value": value,
                });
                set(&client, &body, output)
            }
            What::List => list(&client, output),
            What::Remove { which } => {
                let body = json!({
                    "name": which.name, "project": which.project, "environment": which.environment,
                });
                runtime::block_on(client.post(&["secrets", "remove"], &body))?;
                term::note(format_args!("removed `{}`", which.name));
                Ok(Exit::Done)
            }
            What::RotateKey => rotate(&client, output),
        }
    }
}

impl Tier {
    fn as_str(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Branches => "branches",
        }
    }
}

/// Nothing said is nothing sent.
fn some<T>(all: Vec<T>) -> Option<Vec<T>> {
    (!all.is_empty()).then_some(all)
}

fn set(client: &Client, body: &serde_json::Value, output: Output) -> Result<Exit, Failure> {
    let set = runtime::block_on(client.post(&["secrets", "set"], body))?;
    let made: Option<String> = view(set["made_key_file"].clone())?;
    match output {
        Output::Json => term::say(set),
        Output::Text => term::say(line(&view(set)?)),
    }
    if let Some(file) = made {
        term::warn(format_args!(
            "the server made its master key in `{}`: keep a copy apart from its database, for without it no secret can be read again",
            term::clean(&file)
        ));
    }
    Ok(Exit::Done)
}

fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let mut found = runtime::block_on(client.get(&["secrets"], &[]))?;
    match output {
        Output::Json => term::say(found),
        Output::Text => {
            let secrets: Vec<SecretView> = view(found["secrets"].take())?;
            if secrets.is_empty() {
                term::note("there are no secrets; `pipe secret set NAME --project PROJECT` sets one");
            }
            secrets.iter().for_each(|secret| term::say(line(secret)));
        }
    }
    Ok(Exit::Done)
}

fn rotate(client: &Client, output: Output) -> Result<Exit, Failure> {
    let rotated = runtime::block_on(client.post(&["secrets", "rotate-key"], &json!({})))?;
    match output {
        Output::Json => term::say(rotated),
        Output::Text => {
            let key: String = view(rotated["key"].clone())?;
            let taken_over: usize = view(rotated["taken_over"].clone())?;
            if rotated["begun"] == "before" {
                term::note("finished an earlier change of the key; once more draws another");
            }
            term::say(format_args!("{key} took over {taken_over} secrets"));
            term::note("keep a copy of the file of keys, which has changed, apart from the database");
        }
    }
    Ok(Exit::Done)
}

fn line(secret: &SecretView) -> String {
    let bindings = &secret.bindings;
    let named = if secret.name == secret.known_as {
        String::new()
    } else {
        format!(" ({})", secret.name)
    };
    let mut parts = vec![format!("{}{named}", secret.known_as)];
    if bindings.all_projects {
        parts.push("all projects".to_owned());
    }
    let mut bound = |what: &str, names: Vec<&str>| {
        if !names.is_empty() {
            parts.push(format!("{what} {}", names.join(",")));
        }
    };
    bound("project", bindings.projects.iter().map(Name::as_str).collect());
    bound(
        "environment",
        bindings.environments.iter().map(Name::as_str).collect(),
    );
    bound(
        "event",
        bindings.events.iter().map(|event| event.as_str()).collect(),
    );
    bound("tier", bindings.tiers.iter().map(|tier| tier.as_str()).collect());
    let images = Vec::from(bindings.images.clone());
    bound("image", images.iter().map(String::as_str).collect());
    parts.push(secret.value.as_ref().map_or_else(
        || "no value yet".to_owned(),
        |value| value_words(value, clock::now()),
    ));
    term::clean(&parts.join("  "))
}

fn value_words(value: &ValueView, now: Timestamp) -> String {
    let used = match value.used {
        Some(used) => format!("used {} ago", words::length(now.since(used))),
        None => "never used".to_owned(),
    };
    let age = words::length(now.since(value.set));
    format!("version {} by {}, {age} old, {used}", value.version, value.by)
}
