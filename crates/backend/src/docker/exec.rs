//! Programs in containers: as a stream, on a terminal, or for their exit code.

use std::{
    future::ready,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    query_parameters::ResizeExecOptionsBuilder,
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::timeout,
};
use tokio_util::io::StreamReader;

use super::engine::{status, told};
use crate::{
    TerminalSize,
    pod::{OpenError, Opened, PodStream},
};

/// How long a stream may take to open.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// The two ends of a program in a container.
struct ExecStream<R> {
    output: R,
    input: Input,
}

/// Starts a program in a container and connects to it.
pub(super) async fn open(
    docker: &Docker,
    container: &str,
    words: &[&str],
) -> Result<Box<dyn PodStream>, OpenError> {
    let (_, output, input) = opened(start(docker, container, words, Use::Stream)).await?;
    // What else comes, such as the rest of a frame that was cut, is none of the program's output.
    let output = output.filter_map(|piece| {
        ready(match piece {
            Ok(LogOutput::StdOut { message }) => Some(Ok(message)),
            Ok(LogOutput::StdErr { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. }) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        })
    });
    let output = StreamReader::new(output);
    Ok(Box::new(ExecStream { output, input }))
}

/// Starts a program in a container on a terminal.
pub(super) async fn terminal(
    docker: &Docker,
    container: &str,
    words: &[&str],
    size: TerminalSize,
) -> Result<Opened, OpenError> {
    let (exec, output, input) = opened(start(docker, container, words, Use::Terminal)).await?;
    let (sizes, mut coming) = mpsc::channel(1);
    let resized = docker.clone();
    tokio::spawn(async move {
        let mut next = Some(size);
        while let Some(TerminalSize { columns, rows }) = next {
            let options = ResizeExecOptionsBuilder::default()
                .w(columns.into())
                .h(rows.into())
                .build();
            // A program that just ended has no size.
            if let Err(error) = resized.resize_exec(&exec, options).await {
                tracing::debug!("a terminal keeps its size: {}", told(&error));
            }
            next = coming.recv().await;
        }
    });
    let output = output.map_ok(LogOutput::into_bytes).map_err(io::Error::other);
    let output = StreamReader::new(output);
    Ok((Box::new(ExecStream { output, input }), sizes))
}

/// What was started, in time.
async fn opened<T>(starting: impl Future<Output = Result<T, Error>>) -> Result<T, OpenError> {
    timeout(LIMIT, starting)
        .await
        .map_err(|_| OpenError::Unreachable("the container engine does not answer".to_owned()))?
        .map_err(|error| match status(&error) {
            Some(404 | 409) => OpenError::NotRunning,
            Some(_) | None if told(&error).contains("not running") => OpenError::NotRunning,
            Some(_) | None => OpenError::Unreachable(told(&error)),
        })
}

/// Runs a program in a container to its end; its exit code, if the engine tells one.
pub(super) async fn run(docker: &Docker, container: &str, words: &[&str]) -> Result<Option<i64>, Error> {
    let (exec, output, _input) = start(docker, container, words, Use::Run).await?;
    output.try_for_each(|_| ready(Ok(()))).await?;
    Ok(docker.inspect_exec(&exec).await?.exit_code)
}

/// What a program is started for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Its exit code.
    Run,
    /// What it reads and writes.
    Stream,
    /// A person at a terminal.
    Terminal,
}

async fn start(
    docker: &Docker,
    container: &str,
    words: &[&str],
    what_for: Use,
) -> Result<(String, Output, Input), Error> {
    let is_terminal = what_for == Use::Terminal;
    let wanted = CreateExecOptions {
        attach_stdin: Some(what_for != Use::Run),
        attach_stdout: Some(true),
        attach_stderr: Some(what_for != Use::Stream),
        tty: Some(is_terminal),
        cmd: Some(words.to_vec()),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(container, wanted).await?.id;
    let options = StartExecOptions {
        detach: false,
        tty: is_terminal,
        output_capacity: Some(BUFFER),
    };
    match docker.start_exec(&exec, Some(options)).await? {
        StartExecResults::Attached { output, input } => Ok((exec, output, input)),
        StartExecResults::Detached => Err(io::Error::other("the engine gave no stream").into()),
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for ExecStream<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl<R: Unpin> AsyncWrite for ExecStream<R> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.input.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().poll_shutdown(cx)
    }
}
