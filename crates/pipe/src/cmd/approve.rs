//! `pipe approve` and `pipe reject`: a decision names what it decides on, so that nothing else can be slipped under it.

use std::collections::BTreeMap;

use clap::Args;
use pipekeeper_model::Name;
use serde_json::{Value, json};

use super::run::pair;
use crate::{
    cli::{Output, Remote},
    client::{ApprovalView, Client, Node, RunView, Target, find_run_to_change, view},
    clock,
    failure::{Exit, Failure, OrFail},
    report::words,
    runtime,
    term::{self, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// RUN/ACTION, RUN or ACTION; without any, what waits is listed, first what you can decide
    #[arg(value_name = "RUN/ACTION")]
    target: Option<Target>,
    /// A word to the others
    #[arg(long, short = 'm', value_name = "TEXT")]
    comment: Option<String>,
    /// A value that the gate asks for; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair, requires = "target")]
    params: Vec<(Name, String)>,
    /// Let the run through whatever the gate's rule says; wants a comment and the right to
    #[arg(long, requires = "comment", requires = "target")]
    bypass: bool,
    #[command(flatten)]
    remote: Remote,
}

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Reject {
    /// RUN/ACTION, RUN or ACTION; without a run the newest of HEAD
    #[arg(value_name = "RUN/ACTION")]
    target: Option<Target>,
    /// Why
    #[arg(long, short = 'm', value_name = "TEXT")]
    comment: String,
    #[command(flatten)]
    remote: Remote,
}

impl Approve {
    /// Approves, or lists what could be approved.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        runtime::block_on(async {
            match self.target {
                None => list(&client, output).await,
                Some(target) => {
                    let params: BTreeMap<Name, String> = self.params.into_iter().collect();
                    let mut body = json!({ "comment": self.comment, "params": params });
                    if self.bypass {
                        body["bypass"] = true.into();
                    }
                    let (verb, past) = ("approve", if self.bypass { "bypassed" } else { "approved" });
                    decide(&client, target, Says { verb, past, body }, output).await
                }
            }
        })
    }
}

impl Reject {
    /// Rejects.
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let client = Client::new(&self.remote)?;
        let target = self.target.unwrap_or_default();
        let says = Says {
            verb: "reject",
            past: "rejected",
            body: json!({ "comment": self.comment }),
        };
        runtime::block_on(decide(&client, target, says, output))
    }
}

/// Everything that waits for a person, over all projects; what you can decide first.
async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let answer = client.get(&["approvals"], &[]).await?;
    let found = answer.get("approvals").cloned().unwrap_or_default();
    if output == Output::Json {
        term::say(serde_json::to_string_pretty(&found).or_fail("write the list")?);
        return Ok(Exit::Done);
    }
    let found: Vec<ApprovalView> = view(found)?;
    if found.is_empty() {
        term::note("nothing waits for a decision");
    }
    found.iter().for_each(say);
    if answer.get("more").and_then(Value::as_bool) == Some(true) {
        term::note("older runs wait for people too: `pipe runs --active` lists them");
    }
    Ok(Exit::Done)
}

fn say(one: &ApprovalView) {
    let (run, now) = (&one.run, clock::now());
    let asks = match (&one.asks, &one.environment) {
        (Some(text), Some(environment)) => format!("{text} (to {environment})"),
        (Some(text), None) => text.clone(),
        (None, Some(environment)) => format!("go to {environment}?"),
        (None, None) => "start it?".to_owned(),
    };
    term::say(format_args!(
        "{}  {}/{}  {}  ({})",
        one.target,
        run.project,
        run.pipeline,
        clean(&asks),
        clean(&one.why)
    ));
    let place = run.r#ref.as_ref().map(|place| place.name.as_str());
    let sha = run.sha.as_deref().and_then(|sha| sha.get(..8));
    let of = [Some(run.subject.as_str()), place, sha];
    let of: Vec<_> = of.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    term::say(format_args!(
        "    {}; by {}, waits for {}, expires in {}",
        clean(&of.join(", ")),
        clean(&run.actor),
        words::length(now.since(one.since)),
        words::length(one.expires.since(now))
    ));
    if let Some(why) = &one.why_not {
        term::say(format_args!("    not by you: {}", clean(why)));
    }
}

/// What is said at a gate.
struct Says {
    verb: &'static str,
    past: &'static str,
    /// All but the subject.
    body: Value,
}

async fn decide(client: &Client, target: Target, mut says: Says, output: Output) -> Result<Exit, Failure> {
    let id = find_run_to_change(client, target.run).await?;
    let run = client.run(id).await?;
    let node = choose(&run, target.action.as_deref())?;
    let number = id.to_string();
    let path = ["runs", number.as_str(), "nodes", node.name.as_str()];
    let answer = match (&node.gate, &node.start) {
        (Some(gate), _) => {
            says.body["subject"] = json!(gate.subject);
            client
                .post(&[&path[..], &[says.verb]].concat(), &says.body)
                .await?
        }
        (None, Some(start)) if says.verb == "approve" => {
            press_start(client, &[&path[..], &["start"]].concat(), &start.how).await?
        }
        (None, Some(_)) => {
            return Err(
                Failure::usage(format!("`{}` waits for a start, not for a decision", node.name))
                    .hint(format!("`pipe cancel {id}` ends the run")),
            );
        }
        (None, None) => {
            return Err(Failure::usage(format!(
                "`{}` waits for nobody: {}",
                node.name, node.why
            )));
        }
    };
    match output {
        Output::Json => term::say(answer),
        Output::Text => {
            term::say(format_args!("{} {id}/{}", says.past, node.name));
        }
    }
    Ok(Exit::Done)
}

async fn press_start(client: &Client, path: &[&str], how: &str) -> Result<Value, Failure> {
    let answer = client.post(path, &json!({ "confirm": false })).await?;
    if how == "confirm" {
        client.post(path, &json!({ "confirm": true })).await
    } else {
        Ok(answer)
    }
}

/// The node that is meant: the named one, or the only one that waits.
fn choose<'a>(run: &'a RunView, name: Option<&str>) -> Result<&'a Node, Failure> {
    let id = run.item.id;
    if let Some(name) = name {
        return run
            .node(name)
            .ok_or_else(|| Failure::not_found(format!("run {id} has no action `{name}`")));
    }
    let mut open = run
        .nodes
        .iter()
        .filter(|node| node.gate.is_some() || node.start.is_some());
    match (open.next(), open.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Failure::not_found(format!("run {id} waits for no decision"))),
        (Some(one), Some(other)) => Err(Failure::usage(format!(
            "run {id} waits for several: `{}`, `{}`, …",
            one.name, other.name
        ))
        .hint(format!("write `pipe approve {id}/ACTION`"))),
    }
}
