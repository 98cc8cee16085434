//! `pipe logs`: the bytes of an action's log, as they are.

use clap::Args;

use crate::{
    cli::Remote,
    client::{Client, Node, RunView, Target, find_run},
    failure::{Exit, Failure, OrFail},
    runtime, term,
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// RUN/ACTION or ACTION; the action may be left out where only one has a log
    #[arg(value_name = "RUN/ACTION")]
    target: Option<Target>,
    /// Which attempt; by default the last
    #[arg(long)]
    attempt: Option<u32>,
    /// Go on until the action ends
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Logs {
    /// Prints the log.
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        runtime::block_on(async {
            let target = self.target.unwrap_or_default();
            let run = find_run(&client, target.run).await?;
            let view = client.run(run).await?;
            let node = choose(&view, target.action)?;
            if self.follow {
                follow(&client, run, &node, self.attempt).await?;
            } else {
                let part = client.log(run, &node, self.attempt, 0).await?;
                term::put(&part.bytes);
                if part.bytes.is_empty() {
                    note_missing(&view, &node);
                }
            }
            Ok(Exit::Done)
        })
    }
}

/// The action whose log is meant.
fn choose(run: &RunView, given: Option<String>) -> Result<String, Failure> {
    if let Some(name) = given {
        return Ok(name);
    }
    let has_log = |node: &&Node| node.kind == "work" && node.started_at.is_some();
    let mut with_log = run.nodes.iter().filter(has_log);
    match (with_log.next(), with_log.next()) {
        (Some(only), None) => Ok(only.name.clone()),
        (None, _) => Err(Failure::not_found(format!(
            "no action of run {} has a log yet",
            run.item.id
        ))),
        (Some(_), Some(_)) => {
            let names: Vec<&str> = run
                .nodes
                .iter()
                .filter(has_log)
                .map(|node| node.name.as_str())
                .collect();
            Err(
                Failure::usage(format!("several actions have a log: {}", names.join(", ")))
                    .hint(format!("write `pipe logs {}/ACTION`", run.item.id)),
            )
        }
    }
}

/// Says on stderr why there is nothing to print: silence looks like a log that was lost.
fn note_missing(run: &RunView, name: &str) {
    let Some(node) = run.node(name) else { return };
    let yet = match (node.outcome, node.started_at) {
        // Its pod may still wait for something.
        (None, _) => " yet",
        (Some(_), None) => "",
        // It ran, and had nothing to say.
        (Some(_), Some(_)) => return,
    };
    term::note(format_args!(
        "`{name}` has no log{yet}: {}",
        term::clean(&node.why)
    ));
}

/// Prints what is written, and again whenever the live stream says that there may be more.
async fn follow(client: &Client, run: u64, node: &str, attempt: Option<u32>) -> Result<(), Failure> {
    // The stream is opened first: what is written between the two is not missed.
    let mut live = client.live(run, node).await?;
    let (mut current, mut offset) = (attempt.unwrap_or(0), 0);
    loop {
        let view = client.run(run).await?;
        let settled = is_settled(&view, node)?;
        let has_log = settled || view.node(node).is_some_and(|node| node.started_at.is_some());
        if !has_log {
            // What wakes the stream may be the start of the action.
            if live.chunk().await.or_fail("follow the log")?.is_none() {
                live = client.live(run, node).await?;
            }
            continue;
        }
        let mut part = client.log(run, node, attempt, offset).await?;
        if part.attempt != current {
            // Another attempt has another log, from its beginning.
            current = part.attempt;
            if offset > 0 {
                offset = 0;
                part = client.log(run, node, attempt, 0).await?;
            }
        }
        offset += part.bytes.len() as u64;
        term::put(&part.bytes);
        if settled {
            if offset == 0 {
                note_missing(&view, node);
            }
            return Ok(());
        }
        if live.chunk().await.or_fail("follow the log")?.is_none() {
            live = client.live(run, node).await?;
        }
    }
}

fn is_settled(run: &RunView, node: &str) -> Result<bool, Failure> {
    let node = run
        .node(node)
        .ok_or_else(|| Failure::not_found(format!("run {} has no action `{node}`", run.item.id)))?;
    Ok(node.outcome.is_some())
}
