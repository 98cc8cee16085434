//! `pipe top`.

use clap::Args;
use serde::Deserialize;

use crate::{
    cli::{Output, Remote},
    client::{Client, Target, find_run, view},
    failure::{Exit, Failure, OrFail},
    runtime,
    term::{self, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// RUN/ACTION or ACTION; without a run the newest of HEAD
    #[arg(value_name = "RUN/ACTION")]
    target: Target,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Running {
    processes: String,
}

impl Top {
    /// Prints the processes of an action that runs.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let action = self.target.action.ok_or_else(|| {
            Failure::usage("`pipe top` wants an action")
                .hint("write `pipe top RUN/ACTION`; `pipe show RUN` lists them")
        })?;
        let client = Client::new(&self.remote)?;
        let answer = runtime::block_on(async {
            let run = find_run(&client, self.target.run).await?;
            client
                .get(&["runs", &run.to_string(), "top"], &[("node", action)])
                .await
        })?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the processes")?);
            return Ok(Exit::Done);
        }
        let running: Running = view(answer)?;
        for line in running.processes.lines() {
            term::say(clean(line));
        }
        Ok(Exit::Done)
    }
}
