//! The server's end of a person's terminal. Entry function: [`serve`].

use pipekeeper_controller::{DebugWish, Handle, Terminal, TerminalSize, Told};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{Frame, FrameReader, HEARTBEAT, SILENCE, send};

/// Bytes of output that are sent at once.
const CHUNK: usize = 32 << 10;

/// How a session ended, for the server's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The shell did.
    Closed,
    /// It never opened.
    Refused,
    /// Its time was over.
    Expired,
    /// The person's connection did.
    Left,
}

impl End {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "the shell ended",
            Self::Refused => "no shell opened",
            Self::Expired => "its time was over",
            Self::Left => "the connection ended",
        }
    }
}

/// The person's connection.
struct Line<S> {
    from: FrameReader<ReadHalf<S>>,
    to: WriteHalf<S>,
}

/// Opens the shell that is wished for and connects it with the person, until either ends; then nothing of it is left.
pub(crate) async fn serve<S>(
    stream: S,
    handle: &Handle,
    wish: DebugWish,
    closed: impl Future<Output = ()>,
) -> End
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let limit = wish.limit;
    let (from, to) = split(stream);
    let mut line = Line {
        from: FrameReader::new(from),
        to,
    };
    tokio::pin!(closed);
    let opened = tokio::select! {
        opened = open(&mut line, handle, wish) => opened,
        () = &mut closed => Err(End::Left),
    };
    let mut terminal = match opened {
        Ok(terminal) => terminal,
        Err(end) => return end,
    };
    let end = tokio::select! {
        end = connect(&mut line, &mut terminal) => end,
        () = sleep(limit.to_duration()) => End::Expired,
        () = &mut closed => End::Left,
    };
    let last = match end {
        End::Closed => vec![Frame::Note(terminal.afterwards.clone()), Frame::Closed],
        End::Expired => vec![
            Frame::Note(format!("the shell had its {limit}; call it again for another")),
            Frame::Note(terminal.afterwards.clone()),
            Frame::Closed,
        ],
        End::Refused | End::Left => vec![Frame::Refused("the server ended the session".to_owned())],
    };
    for frame in last {
        // Whoever left does not hear it.
        drop(timeout(HEARTBEAT, send(&mut line.to, &frame)).await);
    }
    drop(timeout(HEARTBEAT, line.to.shutdown()).await);
    terminal.end().await;
    end
}

/// Tells what happens until the shell is open. Dropping it calls the shell off.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    line: &mut Line<S>,
    handle: &Handle,
    wish: DebugWish,
) -> Result<Terminal, End> {
    let (teller, mut told) = mpsc::channel(16);
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Line { from, to } = line;
    let opening = handle.debug(wish, teller);
    tokio::pin!(opening);
    // Sizes count from the opening on; what is typed before is for nobody.
    let leaving = async {
        loop {
            let came = timeout(SILENCE, from.next()).await;
            if !matches!(came, Ok(Ok(Some(_)))) {
                return;
            }
        }
    };
    tokio::pin!(leaving);
    let result = loop {
        let frame = tokio::select! {
            biased;
            Some(told) = told.recv() => frame_of(told),
            result = &mut opening => break result,
            _ = beats.tick() => Frame::Alive,
            () = &mut leaving => return Err(End::Left),
        };
        send(to, &frame).await.map_err(|_| End::Left)?;
    };
    while let Ok(told) = told.try_recv() {
        send(to, &frame_of(told)).await.map_err(|_| End::Left)?;
    }
    match result {
        Ok(terminal) => {
            send(to, &Frame::Opened).await.map_err(|_| End::Left)?;
            Ok(terminal)
        }
        Err(error) => {
            // Whoever left does not hear it.
            drop(send(to, &Frame::Refused(error.to_string())).await);
            Err(End::Refused)
        }
    }
}

fn frame_of(told: Told) -> Frame {
    match told {
        Told::Note(text) => Frame::Note(text),
        Told::Log(bytes) => Frame::Output(bytes),
    }
}

/// Passes on what is typed and what is to be seen. Neither way waits for the other.
async fn connect<S: AsyncRead + AsyncWrite + Unpin>(line: &mut Line<S>, terminal: &mut Terminal) -> End {
    let sizes = terminal.sizes.clone();
    let (mut output, mut input) = split(&mut terminal.stream);
    let Line { from, to } = line;
    let inward = async {
        loop {
            let Ok(Ok(Some(frame))) = timeout(SILENCE, from.next()).await else {
                return End::Left;
            };
            match frame {
                Frame::Input(bytes) => {
                    let written = async {
                        input.write_all(&bytes).await?;
                        input.flush().await
                    };
                    if written.await.is_err() {
                        return End::Closed;
                    }
                }
                Frame::Size { columns, rows } => {
                    // A shell that just ended has no size.
                    let _ = sizes.send(TerminalSize { columns, rows }).await;
                }
                Frame::Alive
                | Frame::Output(_)
                | Frame::Note(_)
                | Frame::Opened
                | Frame::Closed
                | Frame::Refused(_) => {}
            }
        }
    };
    let outward = async {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; CHUNK];
        loop {
            let frame = tokio::select! {
                read = output.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return End::Closed,
                    Ok(count) => Frame::Output(buffer.get(..count).unwrap_or_default().to_owned()),
                },
                _ = beats.tick() => Frame::Alive,
            };
            if send(to, &frame).await.is_err() {
                return End::Left;
            }
        }
    };
    tokio::select! {
        end = inward => end,
        end = outward => end,
    }
}
