//! What a server records of a run, as a stream that begins again wherever it broke off, with the logs it tells of as files
//! beside it. Entry function: [`listen`].

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use pipekeeper_controller::Layout;
use pipekeeper_engine::{Event, Fact};
use pipekeeper_model::{AttemptId, RunId, plan::Plan};
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::mpsc, time::sleep};

use super::PAUSE;
use crate::{
    client::{Client, view},
    failure::{Exit, Failure, OrFail},
    follow::Heard,
    term,
};

/// Tells what is recorded, to the run's end; a log is here before anybody hears of it. The run works on meanwhile, so a server
/// that does not answer is asked again.
pub(super) async fn listen(
    client: Client,
    run: RunId,
    layout: Layout,
    tell: mpsc::Sender<Result<Heard, Failure>>,
) {
    let mut reader = Reader {
        client,
        run,
        layout,
        after: 0,
        plan: None,
        logs: BTreeMap::new(),
        tell,
    };
    let mut told_after = None;
    loop {
        match reader.read().await {
            Ok(End::OfRun | End::NobodyListens) => return,
            Ok(End::OfStream) => told_after = None,
            Err(Broken::ForGood(failure)) => {
                // Whoever listened has left, or hears why.
                drop(reader.tell.send(Err(failure)).await);
                return;
            }
            Err(Broken::ForNow(failure)) if told_after != Some(reader.after) => {
                term::warn(format_args!(
                    "{}; the run works on there, and is shown again as soon as the server answers",
                    failure.message
                ));
                told_after = Some(reader.after);
            }
            Err(Broken::ForNow(_)) => {}
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

/// Why reading broke off.
enum Broken {
    /// The server does not answer, which may change.
    ForNow(Failure),
    /// Asking again would bring the same.
    ForGood(Failure),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        if failure.exit == Exit::Ours {
            Self::ForNow(failure)
        } else {
            Self::ForGood(failure)
        }
    }
}

struct Reader {
    client: Client,
    run: RunId,
    layout: Layout,
    /// The last event that was told.
    after: u64,
    plan: Option<Plan>,
    logs: BTreeMap<AttemptId, Copy>,
    tell: mpsc::Sender<Result<Heard, Failure>>,
}

/// The copy of a log.
struct Copy {
    file: File,
    bytes: u64,
}

/// A line of the record.
enum Line {
    Event(EventLine),
    Log(AttemptId),
    Waits {
        attempt: AttemptId,
        reason: String,
    },
    Silent(SilentLine),
    /// A newer server may tell more.
    Unknown,
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
    async fn read(&mut self) -> Result<End, Broken> {
        let mut stream = self.client.record(self.run, self.after).await?;
        let mut rest = Vec::new();
        while let Some(chunk) = stream.chunk().await.or_fail("read the record of the run")? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let line = understand(&line).map_err(Broken::ForGood)?;
                if let Some(end) = self.pass_on(line).await? {
                    return Ok(end);
                }
            }
        }
        Ok(End::OfStream)
    }

    async fn pass_on(&mut self, line: Line) -> Result<Option<End>, Broken> {
        let (heard, after, is_end) = match line {
            Line::Event(EventLine { number, event }) => {
                let is_end = self.prepare(&event).await?;
                (Heard::Events(vec![event]), number, is_end)
            }
            Line::Log(attempt) => {
                self.fetch_log(attempt).await?;
                (Heard::Log(attempt), self.after, false)
            }
            Line::Waits { attempt, reason } => (Heard::Waits { attempt, reason }, self.after, false),
            Line::Silent(SilentLine {
                attempt,
                seconds,
                processes,
            }) => {
                let heard = Heard::Silent {
                    attempt,
                    seconds,
                    processes,
                };
                (heard, self.after, false)
            }
            Line::Unknown => return Ok(None),
        };
        if self.tell.send(Ok(heard)).await.is_err() {
            return Ok(Some(End::NobodyListens));
        }
        // Not before: what was not told is read again.
        self.after = after;
        Ok(is_end.then_some(End::OfRun))
    }

    /// Does what an event wants done before it is told; whether it is the last one.
    async fn prepare(&mut self, event: &Event) -> Result<bool, Broken> {
        if let Fact::RunCreated { request, .. } = &event.fact {
            self.plan = Some(request.plan.clone());
        }
        if let Fact::AttemptFinished { attempt, .. } = &event.fact {
            self.fetch_log(*attempt).await?;
        }
        Ok(matches!(event.fact, Fact::RunFinished { .. }))
    }

    /// Brings what an attempt wrote to where the report reads it.
    async fn fetch_log(&mut self, attempt: AttemptId) -> Result<(), Broken> {
        let node = self.plan.as_ref().and_then(|plan| plan.node(attempt.node));
        let Some(name) = node.map(|node| &node.name) else {
            return Ok(());
        };
        let path = self.layout.log(attempt);
        let copy = match self.logs.entry(attempt) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Copy {
                file: create(&path)
                    .or_fail(format_args!("make `{}`", path.display()))
                    .map_err(Broken::ForGood)?,
                bytes: 0,
            }),
        };
        let part = self
            .client
            .log(self.run.0, name, Some(attempt.number), copy.bytes)
            .await?;
        copy.file
            .write_all(&part.bytes)
            .or_fail(format_args!("write `{}`", path.display()))
            .map_err(Broken::ForGood)?;
        copy.bytes += part.bytes.len() as u64;
        Ok(())
    }
}

fn understand(line: &[u8]) -> Result<Line, Failure> {
    if line.trim_ascii().is_empty() {
        return Ok(Line::Unknown);
    }
    let line: Value = serde_json::from_slice(line).or_fail("read the record of the run")?;
    Ok(match line.get("type").and_then(Value::as_str) {
        Some("event") => Line::Event(view(line)?),
        Some("log") => Line::Log(view::<AttemptLine>(line)?.attempt),
        Some("waits") => {
            let AttemptLine { attempt, reason } = view(line)?;
            Line::Waits { attempt, reason }
        }
        Some("silent") => Line::Silent(view(line)?),
        Some(_) | None => Line::Unknown,
    })
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
}
