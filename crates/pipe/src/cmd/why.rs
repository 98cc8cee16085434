//! `pipe why`.

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
pub(crate) struct Why {
    /// RUN, RUN/ACTION or ACTION; without a run the newest of HEAD
    #[arg(value_name = "RUN/ACTION")]
    target: Option<Target>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Reason {
    name: String,
    why: String,
}

impl Why {
    /// Says why things are where they are.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let target = self.target.unwrap_or_default();
        let answer = runtime::block_on(async {
            let run = find_run(&client, target.run).await?.to_string();
            let query: Vec<_> = target.action.map(|name| ("node", name)).into_iter().collect();
            client.get(&["runs", &run, "why"], &query).await
        })?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the reasons")?);
            return Ok(Exit::Done);
        }
        let reasons: Vec<Reason> = view(answer.get("nodes").cloned().unwrap_or_default())?;
        if reasons.is_empty() {
            term::say("the run has ended; `pipe show` tells how");
        }
        for reason in reasons {
            term::say(format_args!("{}: {}", reason.name, clean(&reason.why)));
        }
        Ok(Exit::Done)
    }
}
