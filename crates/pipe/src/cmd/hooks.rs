//! `pipe hooks`: what webhooks brought, and what became of it.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cli::{Output, Remote},
    client::{Client, DeliveryView, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime,
    term::{self, Paint, Tone, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Hooks {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List deliveries and refusals, newest first
    List {
        /// Only this project's
        #[arg(long)]
        project: Option<String>,
        /// How many deliveries at most
        #[arg(long, default_value_t = 20)]
        limit: u32,
    },
    /// Show a delivery with its body
    Show {
        /// Its number
        delivery: u64,
    },
    /// Handle a delivery again
    Replay {
        /// Its number
        delivery: u64,
    },
}

#[derive(Deserialize)]
struct Refusal {
    project: String,
    at: pipekeeper_model::Timestamp,
    reason: String,
}

impl Hooks {
    /// Does what was asked.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let (answer, what) = runtime::block_on(async {
            let answer = ask(&client, &self.what).await?;
            Ok((answer, self.what))
        })?;
        if output == Output::Json {
            term::say(serde_json::to_string_pretty(&answer).or_fail("write the answer")?);
            return Ok(Exit::Done);
        }
        match what {
            What::List { .. } => show_list(answer)?,
            What::Show { .. } => show_one(&view(answer)?),
            What::Replay { delivery } => term::say(format_args!("delivery {delivery} is handled again")),
        }
        Ok(Exit::Done)
    }
}

async fn ask(client: &Client, what: &What) -> Result<Value, Failure> {
    match what {
        What::List { project, limit } => {
            let project: Vec<_> = project.iter().map(|name| ("project", name.clone())).collect();
            let mut query = project.clone();
            query.push(("limit", limit.to_string()));
            let deliveries = client.get(&["deliveries"], &query).await?;
            let refusals = client.get(&["refusals"], &project).await?;
            Ok(json!({
                "deliveries": deliveries.get("deliveries"),
                "refusals": refusals.get("refusals"),
            }))
        }
        What::Show { delivery } => client.get(&["deliveries", &delivery.to_string()], &[]).await,
        What::Replay { delivery } => {
            let path = ["deliveries", &delivery.to_string(), "replay"];
            client.post(&path, &json!({})).await
        }
    }
}

fn show_list(answer: Value) -> Result<(), Failure> {
    let part = |key: &str| answer.get(key).cloned().unwrap_or_default();
    let deliveries: Vec<DeliveryView> = view(part("deliveries"))?;
    let refusals: Vec<Refusal> = view(part("refusals"))?;
    if deliveries.is_empty() && refusals.is_empty() {
        term::note("no deliveries");
    }
    deliveries.iter().for_each(|one| term::say(line(one)));
    for refusal in refusals {
        term::say(format_args!(
            "    –  {:<12} {:>8} ago  {} {}",
            refusal.project,
            words::length(clock::now().since(refusal.at)),
            Paint::for_stdout().tone(Tone::Bad, "refused:"),
            clean(&refusal.reason)
        ));
    }
    Ok(())
}

fn line(one: &DeliveryView) -> String {
    format!(
        "{:>5}  {:<12} {:>8} ago  {}: {}",
        one.id,
        one.project,
        words::length(clock::now().since(one.received_at)),
        clean(&one.event),
        end(one)
    )
}

/// What became of it.
pub(crate) fn end(one: &DeliveryView) -> String {
    let outcome = &one.outcome;
    let mut text = outcome.what.replace('_', " ");
    let runs: Vec<String> = outcome.runs.iter().map(ToString::to_string).collect();
    let parts = [
        (!runs.is_empty()).then(|| runs.join(", ")),
        outcome.delivery.map(|number| number.to_string()),
        outcome.reason.clone(),
        (!outcome.notes.is_empty()).then(|| format!("({})", outcome.notes.join("; "))),
    ];
    for part in parts.into_iter().flatten() {
        text.push(' ');
        let lines: Vec<String> = part.lines().map(|line| clean(line.trim())).collect();
        text.push_str(&lines.join(" · "));
    }
    text
}

fn show_one(one: &DeliveryView) {
    term::say(line(one));
    let body = one.body.as_deref().unwrap_or_default();
    let pretty = serde_json::from_str::<Value>(body)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| body.to_owned());
    for line in pretty.lines() {
        term::say(clean(line));
    }
}
