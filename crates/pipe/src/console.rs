//! This terminal, as that of a shell elsewhere: every key goes there, and what comes is shown as it is.

use std::{env, io, io::IsTerminal};

use pipekeeper_backend::{TermName, TerminalSize};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split, stdin, stdout},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use crate::{
    failure::{Exit, Failure, OrFail},
    term,
};

/// Bytes that are passed on at once.
const CHUNK: usize = 8 << 10;

/// Refuses where there is no terminal.
pub(crate) fn check() -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return Ok(());
    }
    Err(
        Failure::usage("a shell wants a terminal: stdin or stdout is none")
            .hint("run it in a terminal, without a pipe or a redirection"),
    )
}

/// How large this terminal is.
pub(crate) fn size() -> TerminalSize {
    let (rows, columns) = term::size();
    let short = |number| u16::try_from(number).unwrap_or(u16::MAX);
    TerminalSize {
        columns: short(columns),
        rows: short(rows),
    }
}

/// What this terminal is called.
pub(crate) fn name() -> TermName {
    TermName::new(&env::var("TERM").unwrap_or_default())
}

/// Keys as they are typed, for as long as it lives; then the terminal is as it was.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Self, Failure> {
        let before = tcgetattr(io::stdin()).or_fail("read the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).or_fail("change the terminal's mode")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone has no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What this process is told from outside.
struct Told {
    resized: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Told {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).or_fail("listen for signals");
        Ok(Self {
            resized: listen(SignalKind::window_change())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// Connects this terminal with a shell until the shell ends, or this process is told to.
pub(crate) async fn connect(
    stream: impl AsyncRead + AsyncWrite,
    sizes: mpsc::Sender<TerminalSize>,
) -> Result<Exit, Failure> {
    let mut told = Told::listen()?;
    let raw = Raw::begin()?;
    let (mut seen, mut typed) = split(stream);
    // It may have changed since it was told first.
    let _ = sizes.send(size()).await;
    let keys = async {
        let (mut keys, mut buffer) = (stdin(), vec![0; CHUNK]);
        loop {
            match keys.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let written = async {
                        typed.write_all(bytes).await?;
                        typed.flush().await
                    };
                    // What is to be seen tells its end.
                    if written.await.is_err() {
                        return std::future::pending().await;
                    }
                }
            }
        }
    };
    let shown = async {
        let (mut out, mut buffer) = (stdout(), vec![0; CHUNK]);
        loop {
            let count = seen.read(&mut buffer).await.unwrap_or(0);
            let bytes = buffer.get(..count).unwrap_or_default();
            let written = async {
                out.write_all(bytes).await?;
                out.flush().await
            };
            if written.await.is_err() || count == 0 {
                return;
            }
        }
    };
    let resized = async {
        while told.resized.recv().await.is_some() {
            // A shell that just ended has no size.
            let _ = sizes.send(size()).await;
        }
    };
    let exit = tokio::select! {
        () = shown => Exit::Done,
        () = keys => Exit::Interrupted,
        () = resized => Exit::Interrupted,
        _ = told.terminate.recv() => Exit::Interrupted,
        _ = told.hangup.recv() => Exit::Interrupted,
    };
    drop(raw);
    Ok(exit)
}
