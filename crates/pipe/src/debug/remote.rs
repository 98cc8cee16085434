//! A shell through a server: this terminal at one end, the server's frames at the other.

use pipekeeper_backend::TerminalSize;
use pipekeeper_server::terminal::{Frame, FrameReader, HEARTBEAT, SILENCE, send};
use reqwest::Upgraded;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    signal::ctrl_c,
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};

use super::OPEN;
use crate::{
    client::Client,
    console,
    failure::{Exit, Failure, OrFail},
    term,
};

/// Bytes on their way between the terminal and the frames.
const ROOM: usize = 32 << 10;

/// Which pod is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pod {
    /// That of the attempt itself, if it is held.
    Held,
    /// A new one that is made like it.
    New,
}

/// The server's end of the connection.
struct Line {
    from: FrameReader<ReadHalf<Upgraded>>,
    to: WriteHalf<Upgraded>,
}

/// Opens the shell in the place of a step of an action, and stays until it ends.
pub(crate) async fn open(
    client: &Client,
    run: u64,
    action: &str,
    (step, pod): (Option<&str>, Pod),
) -> Result<Exit, Failure> {
    console::check()?;
    let TerminalSize { columns, rows } = console::size();
    let mut query = vec![
        ("columns", columns.to_string()),
        ("rows", rows.to_string()),
        ("term", console::name().as_str().to_owned()),
    ];
    query.extend(step.map(|step| ("step", step.to_owned())));
    query.extend(match pod {
        Pod::Held => None,
        Pod::New => Some(("pod", "new".to_owned())),
    });
    let path = ["runs", &run.to_string(), "nodes", action, "debug"];
    let (from, to) = split(client.terminal(&path, &query).await?);
    let mut line = Line {
        from: FrameReader::new(from),
        to,
    };
    if !line.until_open().await? {
        return Ok(Exit::Interrupted);
    }
    term::note(OPEN);
    let (near, far) = duplex(ROOM);
    let (sizes, coming) = mpsc::channel(1);
    // Each ends when the other does; what was put out until then is shown first.
    let (exit, passed) = tokio::join!(console::connect(near, sizes), line.pass(far, coming));
    let exit = exit?;
    if let Some(afterwards) = passed? {
        term::note(term::clean(&afterwards));
    }
    Ok(exit)
}

impl Line {
    /// Shows what happens until the shell is open; false if the user does not want it any more.
    async fn until_open(&mut self) -> Result<bool, Failure> {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut interrupted = std::pin::pin!(ctrl_c());
        loop {
            let frame = tokio::select! {
                frame = next(&mut self.from) => frame?,
                _ = beats.tick() => {
                    send(&mut self.to, &Frame::Alive).await.or_fail("speak to the server")?;
                    continue;
                }
                // The server removes what it made once the connection ends.
                _ = &mut interrupted => return Ok(false),
            };
            match frame {
                Frame::Note(text) => term::note(term::clean(&text)),
                Frame::Output(bytes) => term::put(&bytes),
                Frame::Opened => return Ok(true),
                Frame::Refused(text) => return Err(Failure::new(Exit::RunFailed, term::clean(&text))),
                Frame::Closed => return Err(Failure::ours("the shell ended before it opened")),
                Frame::Alive | Frame::Input(_) | Frame::Size { .. } => {}
            }
        }
    }

    /// Passes on what is typed and what is to be seen, until either side ends; what the server says of the end.
    async fn pass(
        self,
        far: DuplexStream,
        mut sizes: mpsc::Receiver<TerminalSize>,
    ) -> Result<Option<String>, Failure> {
        let (mut typed, mut seen) = split(far);
        let Self { mut from, mut to } = self;
        let up = async {
            let mut beats = interval(HEARTBEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut buffer = vec![0; ROOM];
            loop {
                let frame = tokio::select! {
                    read = typed.read(&mut buffer) => match read {
                        Ok(0) | Err(_) => return Ok(None),
                        Ok(count) => Frame::Input(buffer.get(..count).unwrap_or_default().to_owned()),
                    },
                    Some(TerminalSize { columns, rows }) = sizes.recv() => Frame::Size { columns, rows },
                    _ = beats.tick() => Frame::Alive,
                };
                send(&mut to, &frame).await.or_fail("speak to the server")?;
            }
        };
        let down = async {
            let mut said = None;
            loop {
                match next(&mut from).await? {
                    Frame::Output(bytes) => {
                        if seen.write_all(&bytes).await.is_err() {
                            return Ok(said);
                        }
                    }
                    Frame::Note(text) => said = Some(text),
                    Frame::Closed => return Ok(said),
                    Frame::Refused(text) => return Err(Failure::ours(term::clean(&text))),
                    Frame::Alive | Frame::Opened | Frame::Input(_) | Frame::Size { .. } => {}
                }
            }
        };
        tokio::select! {
            ended = up => ended,
            ended = down => ended,
        }
    }
}

/// The next frame; a server that says nothing is gone.
async fn next(from: &mut FrameReader<ReadHalf<Upgraded>>) -> Result<Frame, Failure> {
    let gone = || {
        Failure::ours("the connection to the server broke")
            .hint("call it again: a pod that is held is free again after 50 s, and one that was made for you ends by itself")
    };
    let came = timeout(SILENCE, from.next()).await.map_err(|_| gone())?;
    came.or_fail("hear the server")?.ok_or_else(gone)
}

/// Lets the held pod of an action go before its time.
pub(crate) async fn release(client: &Client, run: u64, action: &str) -> Result<Exit, Failure> {
    let path = ["runs", &run.to_string(), "nodes", action, "release"];
    client.post(&path, &serde_json::json!({})).await?;
    term::note(format_args!("the pod of `{action}` goes"));
    Ok(Exit::Done)
}
