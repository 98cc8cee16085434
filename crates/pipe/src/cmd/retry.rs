//! `pipe retry`.

use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{Output, Remote},
    client::{Client, find_run_to_change, run_number},
    failure::{Exit, Failure},
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Retry {
    /// The run; without it the newest of HEAD
    #[arg(value_name = "RUN", value_parser = run_number)]
    number: Option<u64>,
    /// Only what did not succeed, and what comes after it
    #[arg(long)]
    failed: bool,
    /// Run every action, also where `reuse:` would adopt an earlier success
    #[arg(long)]
    no_reuse: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Retry {
    /// Makes a new run on the same plan.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let which = if self.failed { "failed" } else { "all" };
        let answer = runtime::block_on(async {
            let run = find_run_to_change(&client, self.number).await?;
            client
                .post(
                    &["runs", &run.to_string(), "retry"],
                    &json!({ "which": which, "reuse": !self.no_reuse }),
                )
                .await
        })?;
        started(&answer, output);
        Ok(Exit::Done)
    }
}

/// Tells of a new run.
pub(crate) fn started(answer: &Value, output: Output) {
    match output {
        Output::Json => term::say(answer),
        Output::Text => match answer.get("run").and_then(Value::as_u64) {
            Some(run) => term::say(format_args!("run {run}")),
            None => term::say("started"),
        },
    }
}
