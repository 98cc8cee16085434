//! `pipe keep`.

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
pub(crate) struct Keep {
    /// The run; without it the newest of HEAD
    #[arg(value_name = "RUN", value_parser = run_number)]
    number: Option<u64>,
    /// Let it go again when it is old
    #[arg(long)]
    release: bool,
    /// Why, for others
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Keep {
    /// Keeps the run, or lets it go.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let (what, told) = if self.release {
            ("release", "goes when it is old")
        } else {
            ("keep", "is kept whatever its age")
        };
        let body = json!({ "what": what, "reason": self.message });
        let (run, answer) = runtime::block_on(async {
            let run = find_run_to_change(&client, self.number).await?;
            let answer = client.post(&["runs", &run.to_string(), "keep"], &body).await?;
            Ok((run, answer))
        })?;
        match output {
            Output::Json => term::say(answer),
            Output::Text => {
                term::say(format_args!("run {run} {told}"));
                for (part, key) in [("logs", "logs_gone"), ("artifacts", "artifacts_gone")] {
                    if let Some(how) = answer.get(key).and_then(|how| how.as_str()) {
                        term::note(format_args!("warning: its {part} were {how}"));
                    }
                }
            }
        }
        Ok(Exit::Done)
    }
}
