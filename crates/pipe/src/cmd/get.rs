//! `pipe get`: the documents of a server.

use clap::Args;
use pipekeeper_model::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime,
    term::{self, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// KIND/NAME, or KIND for all of a kind; without it all there are
    #[arg(value_name = "KIND[/NAME]")]
    what: Option<String>,
    /// Every version of it, with who wrote it
    #[arg(long, requires = "what")]
    history: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Item {
    version: u64,
    author: String,
    at: Timestamp,
    document: Option<Value>,
}

/// A document that the server cannot use as it is.
#[derive(Deserialize)]
struct UnusableItem {
    kind: String,
    name: String,
    reason: String,
}

impl Get {
    /// Prints what is asked for.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let found = runtime::block_on(self.ask(&client))?;
        match output {
            Output::Json => term::say(found),
            Output::Text => self.show(found)?,
        }
        Ok(Exit::Done)
    }

    async fn ask(&self, client: &Client) -> Result<Value, Failure> {
        let what = self.what.as_deref().map(|what| what.split_once('/').ok_or(what));
        match what {
            None => client.get(&["documents"], &[]).await,
            Some(Err(kind)) if !self.history => {
                client.get(&["documents"], &[("kind", kind.to_owned())]).await
            }
            Some(Err(_)) => Err(Failure::usage("`--history` is of one document").hint("write KIND/NAME")),
            Some(Ok((kind, name))) if self.history => {
                client.get(&["documents", kind, name, "versions"], &[]).await
            }
            Some(Ok((kind, name))) => client.get(&["documents", kind, name], &[]).await,
        }
    }

    fn show(&self, mut found: Value) -> Result<(), Failure> {
        let unusable: Vec<UnusableItem> = match found.get_mut("unusable") {
            Some(unusable) => view(unusable.take())?,
            None => Vec::new(),
        };
        let list = ["documents", "versions"]
            .into_iter()
            .find_map(|key| Some(found.get_mut(key)?.take()));
        let Some(list) = list else {
            let item: Item = view(found)?;
            let document = item.document.unwrap_or_default();
            term::say(serde_json::to_string_pretty(&document).or_fail("write the document")?);
            return Ok(());
        };
        let items: Vec<Item> = view(list)?;
        if items.is_empty() {
            term::note("there are no documents: `pipe apply -f FILE` makes some");
        }
        for item in items {
            let ago = words::length(clock::now().since(item.at));
            let text = match &item.document {
                Some(document) if self.history => document.to_string(),
                Some(document) => title(document),
                None => "removed".to_owned(),
            };
            let author = clean(&item.author);
            term::say(format_args!(
                "{:<32} version {}  {ago} ago by {author}",
                clean(&text),
                item.version
            ));
        }
        for UnusableItem { kind, name, reason } in unusable {
            let text = format!("{kind}/{name} cannot be used as it is: {reason}");
            term::note(clean(&text));
        }
        Ok(())
    }
}

fn title(document: &Value) -> String {
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("kind"), text("name"))
}
