//! The way to a run on a server: its record as a stream, its logs as files beside it.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    time::Duration,
};

use async_trait::async_trait;
use pipekeeper_controller::Layout;
use pipekeeper_engine::{Event, Fact, Look, Run, Verdict};
use pipekeeper_model::{AttemptId, NodeId, RunId, plan::Plan};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::sleep};

use crate::{
    client::{Client, view},
    failure::{Exit, Failure, OrFail},
    follow::{Ask, Heard, Link},
    term,
};

/// How long a reader waits before it asks a server again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines that wait for a terminal that is slow.
const WAITING: usize = 256;

/// A run on a server.
pub(super) struct RemoteLink {
    client: Client,
    run: RunId,
    layout: Layout,
    lines: mpsc::Receiver<Result<Heard, Failure>>,
    /// What was heard before the plan was known.
    first: Option<Heard>,
    logs: BTreeMap<AttemptId, Copy>,
}

/// The copy of a log.
struct Copy {
    file: File,
    bytes: u64,
}

impl RemoteLink {
    /// Begins to listen; answers with the run's plan once that is heard.
    pub(super) async fn open(client: Client, run: RunId, layout: Layout) -> Result<(Self, Plan), Failure> {
        let (tell, mut lines) = mpsc::channel(WAITING);
        tokio::spawn(listen(client.clone(), run, tell));
        let nothing = || Failure::ours(format!("the server told nothing of run {run}"));
        let first = lines.recv().await.ok_or_else(nothing)??;
        let plan = plan_in(&first).ok_or_else(nothing)?;
        let link = Self {
            client,
            run,
            layout,
            lines,
            first: Some(first),
            logs: BTreeMap::new(),
        };
        Ok((link, plan))
    }
}

fn plan_in(heard: &Heard) -> Option<Plan> {
    let Heard::Events(events) = heard else { return None };
    events.iter().find_map(|event| {
        let Fact::RunCreated { request, .. } = &event.fact else {
            return None;
        };
        Some(request.plan.clone())
    })
}

#[async_trait]
impl Link for RemoteLink {
    async fn hear(&mut self) -> Result<Heard, Failure> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let ended = || {
            Err(Failure::ours(
                "the server ended its record before the run had ended",
            ))
        };
        self.lines.recv().await.unwrap_or_else(ended)
    }

    async fn fetch_log(&mut self, run: &Run, attempt: AttemptId) -> Result<(), Failure> {
        let Some(name) = name_of(run, attempt.node) else {
            return Ok(());
        };
        let path = self.layout.log(attempt);
        let copy = match self.logs.entry(attempt) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new.insert(Copy {
                file: create(&path).or_fail(format_args!("make `{}`", path.display()))?,
                bytes: 0,
            }),
        };
        let part = self
            .client
            .log(self.run.0, &name, Some(attempt.number), copy.bytes)
            .await?;
        copy.file
            .write_all(&part.bytes)
            .or_fail(format_args!("write `{}`", path.display()))?;
        copy.bytes += part.bytes.len() as u64;
        Ok(())
    }

    async fn ask(&mut self, run: &Run, ask: Ask) -> Result<(), Failure> {
        let number = self.run.to_string();
        let (node, verb, body) = match ask {
            Ask::Cancel => (None, "cancel", json!({})),
            Ask::Decide {
                node,
                verdict,
                subject,
                comment,
            } => {
                let verb = match verdict {
                    Verdict::Approve => "approve",
                    Verdict::Reject => "reject",
                };
                (
                    name_of(run, node),
                    verb,
                    json!({ "subject": subject, "comment": comment }),
                )
            }
            Ask::Start { node, look } => {
                let body = json!({ "confirm": look == Look::Second });
                (name_of(run, node), "start", body)
            }
        };
        let path = match &node {
            None => vec!["runs", &number, verb],
            Some(node) => vec!["runs", &number, "nodes", node, verb],
        };
        match self.client.post(&path, &body).await {
            // The run has moved on meanwhile.
            Err(failure) if failure.exit == Exit::Usage => Ok(()),
            told => told.map(drop),
        }
    }
}

fn name_of(run: &Run, node: NodeId) -> Option<String> {
    Some(run.plan()?.node(node)?.name.clone())
}

fn create(path: &std::path::Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
}

/// Reads the record to its end; where the stream breaks off, from there on again. The run works on meanwhile.
async fn listen(client: Client, run: RunId, tell: mpsc::Sender<Result<Heard, Failure>>) {
    let mut reader = Reader { after: 0, tell };
    let mut was_told = false;
    loop {
        match reader.read(&client, run).await {
            Ok(End::OfRun | End::NobodyListens) => return,
            Ok(End::OfStream) => was_told = false,
            Err(failure) if failure.exit != Exit::Ours => {
                // Whoever listened has left, or hears why.
                drop(reader.tell.send(Err(failure)).await);
                return;
            }
            Err(failure) if !was_told => {
                term::warn(format_args!(
                    "{}; the run works on there, and is shown again as soon as the server answers",
                    failure.message
                ));
                was_told = true;
            }
            Err(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// Why reading ended.
enum End {
    OfRun,
    OfStream,
    NobodyListens,
}

struct Reader {
    /// The last event that was heard.
    after: u64,
    tell: mpsc::Sender<Result<Heard, Failure>>,
}

#[derive(Deserialize)]
struct EventLine {
    number: u64,
    event: Event,
}

#[derive(Deserialize)]
struct SilentLine {
    attempt: AttemptId,
    seconds: u64,
    processes: String,
}

#[derive(Deserialize)]
struct AttemptLine {
    attempt: AttemptId,
    #[serde(default)]
    reason: String,
}

impl Reader {
    async fn read(&mut self, client: &Client, run: RunId) -> Result<End, Failure> {
        let mut stream = client.record(run, self.after).await?;
        let mut rest = Vec::new();
        while let Some(chunk) = stream.chunk().await.or_fail("read the record of the run")? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let Some(heard) = self.understand(&line)? else {
                    continue;
                };
                let is_end = matches!(&heard, Heard::Events(events) if events.iter().any(is_end));
                if self.tell.send(Ok(heard)).await.is_err() {
                    return Ok(End::NobodyListens);
                }
                if is_end {
                    return Ok(End::OfRun);
                }
            }
        }
        Ok(End::OfStream)
    }

    fn understand(&mut self, line: &[u8]) -> Result<Option<Heard>, Failure> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let line: Value = serde_json::from_slice(line).or_fail("read the record of the run")?;
        Ok(match line.get("type").and_then(Value::as_str) {
            Some("event") => {
                let EventLine { number, event } = view(line)?;
                self.after = number;
                Some(Heard::Events(vec![event]))
            }
            Some("log") => Some(Heard::Log(view::<AttemptLine>(line)?.attempt)),
            Some("waits") => {
                let AttemptLine { attempt, reason } = view(line)?;
                Some(Heard::Waits { attempt, reason })
            }
            Some("silent") => {
                let SilentLine {
                    attempt,
                    seconds,
                    processes,
                } = view(line)?;
                Some(Heard::Silent {
                    attempt,
                    seconds,
                    processes,
                })
            }
            // A newer server may tell more.
            Some(_) | None => None,
        })
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event.fact, Fact::RunFinished { .. })
}
