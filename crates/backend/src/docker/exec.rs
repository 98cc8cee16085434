//! Programs in containers: as a stream, or for their exit code.

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
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_util::io::StreamReader;

use super::engine::{status, told};
use crate::pod::{OpenError, PodStream};

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
    let (_, output, input) = timeout(LIMIT, start(docker, container, words, true))
        .await
        .map_err(|_| OpenError::Unreachable("the container engine does not answer".to_owned()))?
        .map_err(|error| match status(&error) {
            Some(404 | 409) => OpenError::NotRunning,
            Some(_) | None if told(&error).contains("not running") => OpenError::NotRunning,
            Some(_) | None => OpenError::Unreachable(told(&error)),
        })?;
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

/// Runs a program in a container to its end; its exit code, if the engine tells one.
pub(super) async fn run(docker: &Docker, container: &str, words: &[&str]) -> Result<Option<i64>, Error> {
    let (exec, output, _input) = start(docker, container, words, false).await?;
    output.try_for_each(|_| ready(Ok(()))).await?;
    Ok(docker.inspect_exec(&exec).await?.exit_code)
}

async fn start(
    docker: &Docker,
    container: &str,
    words: &[&str],
    is_stream: bool,
) -> Result<(String, Output, Input), Error> {
    let wanted = CreateExecOptions {
        attach_stdin: Some(is_stream),
        attach_stdout: Some(true),
        attach_stderr: Some(!is_stream),
        tty: Some(false),
        cmd: Some(words.to_vec()),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(container, wanted).await?.id;
    let options = StartExecOptions {
        detach: false,
        tty: false,
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
