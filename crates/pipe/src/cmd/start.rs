//! `pipe start`.

use std::collections::BTreeMap;

use clap::Args;
use pipekeeper_model::Name;
use serde_json::json;

use super::{retry::started, run::pair};
use crate::{
    cli::{Output, Remote},
    client::Client,
    failure::{Exit, Failure},
    runtime,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The project
    project: Name,
    /// The pipeline
    pipeline: Name,
    /// A branch, a tag or a full commit id; by default the project's default branch
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// A parameter; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(Name, String)>,
    /// Run every action, also where `reuse:` would adopt an earlier success
    #[arg(long)]
    no_reuse: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Start {
    /// Asks for the run.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let params: BTreeMap<Name, String> = self.params.into_iter().collect();
        let body = json!({
            "project": self.project,
            "pipeline": self.pipeline,
            "revision": self.revision,
            "params": params,
            "reuse": !self.no_reuse,
        });
        let answer = runtime::block_on(client.post(&["runs"], &body))?;
        started(&answer, output);
        Ok(Exit::Done)
    }
}
