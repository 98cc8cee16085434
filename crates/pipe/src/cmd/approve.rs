//! `pipe approve` and `pipe reject`: a decision names what it decides on, so that nothing else can be slipped under it.

use std::collections::BTreeMap;

use clap::Args;
use pipekeeper_model::Name;
use serde_json::{Value, json};

use super::run::pair;
use crate::{
    cli::{Output, Remote},
    client::{Client, Node, RunItem, RunView, Target, find_run_to_change, view},
    failure::{Exit, Failure, OrFail},
    runtime,
    term::{self, clean},
};

/// The arguments.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// RUN/ACTION, RUN or ACTION; without any, what waits is listed
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

/// Everything that waits for a person, over all projects.
async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let query = [("active", "true".to_owned()), ("limit", "500".to_owned())];
    let answer = client.get(&["runs"], &query).await?;
    let runs: Vec<RunItem> = view(answer.get("runs").cloned().unwrap_or_default())?;
    let mut found: Vec<Value> = Vec::new();
    for item in runs.iter().filter(|run| run.needs_person) {
        let run = client.run(item.id).await?;
        found.extend(run.nodes.iter().filter_map(|node| waiting(&run, node)));
    }
    if output == Output::Json {
        term::say(serde_json::to_string_pretty(&found).or_fail("write the list")?);
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        term::note("nothing waits for a decision");
    }
    let text = |one: &Value, key: &str| {
        one.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    for one in &found {
        term::say(format_args!(
            "{}  {}  {}  ({})",
            text(one, "target"),
            text(one, "project"),
            clean(&text(one, "asks")),
            clean(&text(one, "why"))
        ));
    }
    Ok(Exit::Done)
}

fn waiting(run: &RunView, node: &Node) -> Option<Value> {
    let (asks, subject) = match (&node.gate, &node.start) {
        (Some(gate), _) => (gate.text.clone(), Some(&gate.subject)),
        (None, Some(start)) => (format!("start it ({})", start.how), None),
        (None, None) => return None,
    };
    Some(json!({
        "target": format!("{}/{}", run.item.id, node.name),
        "project": run.item.project,
        "asks": asks,
        "subject": subject,
        "why": node.why,
    }))
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
