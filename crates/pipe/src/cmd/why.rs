//! `pipe why`.

use clap::Args;
use pipekeeper_model::Outcome;
use serde::Deserialize;

use crate::{
    cli::{Output, Remote},
    client::{Client, Node, RunView, Target, find_run, view},
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

/// What kept an ended run from succeeding.
fn show_end(run: &RunView) {
    term::say(format_args!("run {} has ended: {}", run.item.id, run.item.word()));
    let is_to_blame = |node: &&Node| {
        node.outcome
            .is_some_and(|outcome| !matches!(outcome, Outcome::Succeeded | Outcome::Skipped))
    };
    for node in run.nodes.iter().filter(is_to_blame) {
        term::say(format_args!("{}: {}", node.name, clean(&node.why)));
    }
}

impl Why {
    /// Says why things are where they are.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let target = self.target.unwrap_or_default();
        let (answer, run) = runtime::block_on(async {
            let run = find_run(&client, target.run).await?;
            let query: Vec<_> = target.action.map(|name| ("node", name)).into_iter().collect();
            let answer = client.get(&["runs", &run.to_string(), "why"], &query).await?;
            Ok((answer, client.run(run).await?))
        })?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the reasons")?);
            return Ok(Exit::Done);
        }
        let reasons: Vec<Reason> = view(answer.get("nodes").cloned().unwrap_or_default())?;
        if reasons.is_empty() {
            show_end(&run);
        }
        for reason in reasons {
            term::say(format_args!("{}: {}", reason.name, clean(&reason.why)));
        }
        Ok(Exit::Done)
    }
}
