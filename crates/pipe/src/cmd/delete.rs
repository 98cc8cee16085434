//! `pipe delete`: takes a document away from a server.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{Output, Remote},
    client::Client,
    failure::{Exit, Failure},
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The document
    #[arg(value_name = "KIND/NAME")]
    what: String,
    #[command(flatten)]
    remote: Remote,
}

impl Delete {
    /// Removes it; its versions stay.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let Some((kind, name)) = self.what.split_once('/') else {
            let text = format!("`{}` names no document", self.what);
            return Err(Failure::usage(text).hint("write KIND/NAME, such as RoleBinding/ops"));
        };
        let client = Client::new(&self.remote)?;
        let removed = runtime::block_on(client.post(&["documents", kind, name, "remove"], &json!({})))?;
        match output {
            Output::Json => term::say(removed),
            Output::Text => term::note(format_args!(
                "removed {}; `pipe get {} --history` shows what it was",
                self.what, self.what
            )),
        }
        Ok(Exit::Done)
    }
}
