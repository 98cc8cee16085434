//! `pipe locks`.

use clap::Args;
use pipekeeper_model::Timestamp;
use serde::Deserialize;

use crate::{
    cli::{Output, Remote},
    client::{Client, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Locks {
    /// Only those that runs of this project have or wait for
    #[arg(long)]
    project: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Lock {
    name: String,
    project: Option<String>,
    slots: u32,
    holders: Vec<Claim>,
    waiting: Vec<Claim>,
}

/// Of runs of projects that one may not look at, only the time is known.
#[derive(Deserialize)]
struct Claim {
    run: Option<u64>,
    project: Option<String>,
    pipeline: Option<String>,
    action: Option<String>,
    since: Timestamp,
}

impl Locks {
    /// Lists locks by name.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let query: Vec<_> = self.project.map(|name| ("project", name)).into_iter().collect();
        let answer = runtime::block_on(client.get(&["locks"], &query))?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the locks")?);
            return Ok(Exit::Done);
        }
        let locks: Vec<Lock> = view(answer.get("locks").cloned().unwrap_or_default())?;
        if locks.is_empty() {
            term::note("no lock is held or waited for");
        }
        for lock in &locks {
            let whose = lock.project.as_deref().unwrap_or("the whole server");
            let (held, slots) = (lock.holders.len(), lock.slots);
            term::say(format_args!("{} of {whose}: {held} of {slots} held", lock.name));
            lock.holders
                .iter()
                .for_each(|claim| term::say(line("held by", claim)));
            lock.waiting
                .iter()
                .for_each(|claim| term::say(line("waits:", claim)));
        }
        Ok(Exit::Done)
    }
}

fn line(what: &str, claim: &Claim) -> String {
    let who = match (claim.run, &claim.project, &claim.pipeline, &claim.action) {
        (Some(run), Some(project), Some(pipeline), Some(action)) => {
            format!("run {run} ({project}/{pipeline}, {action})")
        }
        _ => "a run of another project".to_owned(),
    };
    let length = words::length(clock::now().since(claim.since));
    format!("  {what} {who} since {length}")
}
