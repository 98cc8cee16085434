//! Compares what a round left with what must be: deliveries, run, side effects, logs, artifacts, files, processes.

use std::{fmt::Debug, fs, process::Command};

use pipekeeper_controller::Layout;
use pipekeeper_model::Digest;
use pipekeeper_store::{SqliteStore, Store};
use serde_json::{Value, json};

use crate::{
    client::Client,
    driver::wait_until,
    place::{LINES, Place, Scenario},
    processes,
};

/// An action that must have run, and how it must have gone.
struct Ran {
    name: &'static str,
    outcome: &'static str,
    log: String,
}

/// What the server tells; answers how many attempts were made anew.
pub(crate) fn served(place: &Place, client: &Client) -> Result<u32, String> {
    let get = |path: &str| client.get_json(path).map_err(|error| error.to_string());
    deliveries(&get("/deliveries")?)?;
    let runs = get("/runs")?;
    equal("runs", &runs["runs"].as_array().map(Vec::len), &Some(1))?;
    let run = get("/runs/1")?;
    let outcome = match place.scenario {
        Scenario::Finish => "succeeded",
        Scenario::Cancel => "cancelled",
    };
    equal("the run's outcome", &run["outcome"], &Value::from(outcome))?;
    let ran = expected(place.scenario);
    skipped(&run, &ran)?;
    let history = get("/runs/1/events?limit=500")?;
    let mut effects = Vec::new();
    let mut again = 0;
    for ran in &ran {
        let attempts = action(&run, ran, client)?;
        equal(
            &format!("tickets of `{}`", ran.name),
            &tickets(&history, ran.name),
            &1,
        )?;
        effects.push(format!("1 {} {attempts}", ran.name));
        again += attempts - 1;
    }
    effects.sort();
    equal("side effects", &place.effects(), &effects)?;
    if place.scenario == Scenario::Finish {
        artifact(place, &run, client)?;
    }
    Ok(again)
}

/// The first delivery made the run, the second is known as its double. Numbers may be left out, never given twice.
pub(crate) fn deliveries(answer: &Value) -> Result<(), String> {
    let mut all = answer["deliveries"].as_array().cloned().unwrap_or_default();
    all.sort_by_key(|one| one["id"].as_u64());
    let outcomes: Vec<_> = all.iter().map(|one| one["outcome"].clone()).collect();
    let first = all.first().map(|one| one["id"].clone());
    let wanted = [
        json!({ "what": "ran", "runs": [1], "notes": [] }),
        json!({ "what": "duplicate_of", "delivery": first }),
    ];
    equal("deliveries", &outcomes, &wanted.to_vec())
}

fn expected(scenario: Scenario) -> Vec<Ran> {
    let ran = |name, outcome, log: &str| Ran {
        name,
        outcome,
        log: log.to_owned(),
    };
    let chatter: String = (1..=LINES).map(|number| format!("line {number}\n")).collect();
    let last = ran("last", "succeeded", "over\n");
    match scenario {
        Scenario::Finish => vec![
            ran("chatter", "succeeded", &chatter),
            ran("maker", "succeeded", "made\n"),
            ran("user", "succeeded", "plugh\n500\n"),
            ran("after", "succeeded", "approved\n"),
            last,
        ],
        Scenario::Cancel => vec![
            ran("chatter", "cancelled", &format!("{chatter}working\n")),
            ran("maker", "cancelled", "working\n"),
            last,
        ],
    }
}

/// Nodes that did not run say so, or are the gate.
fn skipped(run: &Value, ran: &[Ran]) -> Result<(), String> {
    for node in run["nodes"].as_array().into_iter().flatten() {
        let name = node["name"].as_str().unwrap_or_default();
        if ran.iter().any(|ran| ran.name == name) {
            continue;
        }
        let wanted = if run["outcome"] == "succeeded" {
            "succeeded"
        } else {
            "skipped"
        };
        equal(&format!("`{name}`"), &node["outcome"], &Value::from(wanted))?;
        equal(
            &format!("attempts of `{name}`"),
            &node["attempts"],
            &Value::Array(Vec::new()),
        )?;
    }
    Ok(())
}

/// Answers how many attempts it took.
fn action(run: &Value, ran: &Ran, client: &Client) -> Result<u32, String> {
    let name = ran.name;
    let nodes = run["nodes"].as_array().into_iter().flatten();
    let node = nodes
        .into_iter()
        .find(|node| node["name"] == name)
        .ok_or_else(|| format!("there is no `{name}`"))?;
    equal(&format!("`{name}`"), &node["outcome"], &Value::from(ran.outcome))?;
    let attempts = node["attempts"].as_array().cloned().unwrap_or_default();
    let last = attempts
        .last()
        .ok_or_else(|| format!("`{name}` made no attempt"))?;
    let log = client
        .get(&format!("/runs/1/nodes/{name}/log"))
        .map_err(|error| error.to_string())?;
    equal(
        &format!("log size of `{name}`"),
        &last["log_bytes"],
        &Value::from(log.len()),
    )?;
    let text = String::from_utf8_lossy(&log);
    let found: String = text.split_inclusive('\n').filter(|line| !is_echo(line)).collect();
    if found != ran.log {
        let same = found
            .lines()
            .zip(ran.log.lines())
            .take_while(|(a, b)| a == b)
            .count();
        return Err(format!(
            "the log of `{name}` differs after {same} lines; it ends `{}`",
            text.chars()
                .rev()
                .take(200)
                .collect::<Vec<_>>()
                .iter()
                .rev()
                .collect::<String>()
        ));
    }
    u32::try_from(attempts.len()).map_err(|error| error.to_string())
}

/// `+ 12: command`
pub(crate) fn is_echo(line: &str) -> bool {
    let rest = line.trim_start_matches('+');
    rest.len() < line.len()
        && rest
            .strip_prefix(' ')
            .and_then(|rest| rest.split_once(": "))
            .is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

pub(crate) fn tickets(history: &Value, name: &str) -> usize {
    let events = history["events"].as_array().into_iter().flatten();
    events
        .filter(|event| event["type"] == "ticket_granted" && event["node"] == name)
        .count()
}

/// The archive through the API is the file under its digest.
fn artifact(place: &Place, run: &Value, client: &Client) -> Result<(), String> {
    let nodes = run["nodes"].as_array().into_iter().flatten();
    let made = nodes.into_iter().find(|node| node["name"] == "maker");
    let artifact = made.map(|node| node["artifacts"][0].clone()).unwrap_or_default();
    let digest: Digest = artifact["digest"]
        .as_str()
        .unwrap_or_default()
        .parse()
        .map_err(|error| format!("the artifact has no digest: {error}"))?;
    let bytes = client
        .get("/runs/1/nodes/maker/artifacts/numbers")
        .map_err(|error| error.to_string())?;
    equal("the artifact's digest", &Digest::of(&bytes), &digest)?;
    equal(
        "the artifact's size",
        &artifact["bytes"],
        &Value::from(bytes.len()),
    )?;
    let file = fs::read(Layout::new(place.data()).artifact(&digest)).map_err(|error| error.to_string())?;
    equal("the artifact's file", &Digest::of(&file), &digest)
}

/// No attempt keeps a folder.
pub(crate) fn tidied(place: &Place) -> Result<(), String> {
    let names = || -> Vec<_> {
        let entries = fs::read_dir(place.data().join("attempts"))
            .into_iter()
            .flatten()
            .flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    wait_until("no attempt is left", || Ok(names().is_empty()))
        .map_err(|error| format!("{error}: {:?}", names()))
}

/// What is there when the server is gone: a whole database without work to do, and no process.
pub(crate) fn left(place: &Place) -> Result<(), String> {
    let processes = || processes::living(place.root());
    wait_until("no process is left", || Ok(processes().is_empty()))
        .map_err(|error| format!("{error}: {:?}", processes()))?;
    let file = place.data().join("pipekeeper.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let store = SqliteStore::open(&file)
            .await
            .map_err(|error| error.to_string())?;
        let effects = store
            .effects(None, 100)
            .await
            .map_err(|error| error.to_string())?;
        let waiting = store
            .pending_deliveries(None, 100)
            .await
            .map_err(|error| error.to_string())?;
        store.close().await;
        equal("effects that wait", &format!("{effects:?}"), &"[]".to_owned())?;
        equal("deliveries that wait", &waiting.len(), &0)
    })?;
    // The program is a second opinion; not every machine has it.
    match Command::new("sqlite3")
        .arg(&file)
        .arg("PRAGMA integrity_check")
        .output()
    {
        Ok(output) => equal(
            "the database",
            &String::from_utf8_lossy(&output.stdout).trim(),
            &"ok",
        ),
        Err(_) => Ok(()),
    }
}

pub(crate) fn equal<T: PartialEq + Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{what}: it is {found:?}, not {wanted:?}"))
    }
}
