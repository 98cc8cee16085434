//! `pipe cancel`.

use clap::Args;
use serde_json::json;

use crate::{
    cli::{Output, Remote},
    client::{Client, find_run_to_change, run_number},
    failure::{Exit, Failure},
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run; without it the newest of HEAD
    #[arg(value_name = "RUN", value_parser = run_number)]
    number: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

impl Cancel {
    /// Asks the run to end.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let (run, answer) = runtime::block_on(async {
            let run = find_run_to_change(&client, self.number).await?;
            let answer = client
                .post(&["runs", &run.to_string(), "cancel"], &json!({}))
                .await?;
            Ok((run, answer))
        })?;
        match output {
            Output::Json => term::say(answer),
            Output::Text => term::say(format_args!("run {run} is being cancelled")),
        }
        Ok(Exit::Done)
    }
}
