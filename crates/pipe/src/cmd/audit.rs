//! `pipe audit`: who did what to what.

use clap::Args;
use pipekeeper_model::{Actor, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    clock,
    failure::{Exit, Failure},
    report::words,
    runtime,
    term::{self, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Only what was done to this, or to what lies in it, such as run/57
    #[arg(value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only what this one did
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only what was done in this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Only this, such as gate.approve
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// How many entries, newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: u32,
    /// Every entry, to export them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<Value>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Entry {
    at: Timestamp,
    actor: Actor,
    from: Option<String>,
    verb: String,
    subject: String,
    reason: Option<String>,
}

impl Audit {
    /// Prints what fits.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let entries = runtime::block_on(self.read(&client))?;
        match output {
            Output::Json => term::say(Value::Array(entries)),
            Output::Text if entries.is_empty() => term::note("nothing fits"),
            Output::Text => {
                for entry in entries {
                    term::say(line(&view(entry)?));
                }
            }
        }
        Ok(Exit::Done)
    }

    async fn read(&self, client: &Client) -> Result<Vec<Value>, Failure> {
        let wanted = if self.all {
            usize::MAX
        } else {
            usize::try_from(self.limit).unwrap_or(usize::MAX)
        };
        let mut entries: Vec<Value> = Vec::new();
        let mut before = None;
        while entries.len() < wanted {
            let page: Page = view(client.get(&["audit"], &self.query(before)).await?)?;
            entries.extend(page.entries);
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        entries.truncate(wanted);
        Ok(entries)
    }

    fn query(&self, before: Option<u64>) -> Vec<(&'static str, String)> {
        let said = [
            ("subject", &self.subject),
            ("actor", &self.actor),
            ("project", &self.project),
            ("verb", &self.verb),
        ];
        let said = said
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.clone()?)));
        let before = before.map(|before| ("before", before.to_string()));
        said.chain(before).chain([("limit", "200".to_owned())]).collect()
    }
}

fn line(entry: &Entry) -> String {
    let ago = words::length(clock::now().since(entry.at));
    let from = entry
        .from
        .as_ref()
        .map(|from| format!(" from {from}"))
        .unwrap_or_default();
    let reason = entry
        .reason
        .as_ref()
        .map(|reason| format!(": {}", clean(reason)))
        .unwrap_or_default();
    let who = clean(&entry.actor.to_string());
    format!(
        "{ago:>8} ago  {who}{from}  {}  {}{reason}",
        entry.verb,
        clean(&entry.subject)
    )
}
