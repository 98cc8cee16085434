//! Streams into the supervisor's container, and terminals beside the steps, by the cluster's exec.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Error,
    api::{AttachParams, AttachedProcess},
    client::UpgradeConnectionError,
};
use pipekeeper_backend::{
    TerminalSize,
    pod::{OpenError, Opened, PodStream, StreamRole, paths},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::timeout,
};

use crate::{names, refusal};

/// Bytes that wait in memory on their way in or out.
const BUFFER: usize = 1 << 20;
/// How long a stream may take to open.
const LIMIT: Duration = Duration::from_secs(15);

/// The two ends of a process in the pod; it is left alone when this is dropped.
struct ExecStream<R, W> {
    process: AttachedProcess,
    output: R,
    input: W,
    /// Ends with the connection: then nothing more comes, which the output itself does not say.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    has_ended: bool,
}

/// Starts the program in the supervisor's container and connects to it.
pub(crate) async fn open(
    pods: &Api<Pod>,
    pod: &str,
    role: StreamRole,
) -> Result<Box<dyn PodStream>, OpenError> {
    let words = [paths::PROGRAM, role.argument()];
    let process = start(pods, pod, &words, params(names::AGENT)).await?;
    Ok(Box::new(stream_of(process)?))
}

/// Starts a program on a terminal in the container of a step.
pub(crate) async fn terminal(
    pods: &Api<Pod>,
    pod: &str,
    container: usize,
    words: &[&str],
    size: TerminalSize,
) -> Result<Opened, OpenError> {
    let how = AttachParams {
        tty: true,
        ..params(&names::step(container))
    };
    let mut process = start(pods, pod, words, how).await?;
    let (sizes, mut coming) = mpsc::channel(1);
    if let Some(mut takes) = process.terminal_size() {
        tokio::spawn(async move {
            let mut next = Some(size);
            while let Some(TerminalSize { columns, rows }) = next {
                let told = kube::api::TerminalSize {
                    width: columns,
                    height: rows,
                };
                // The terminal is gone when nobody takes it.
                if takes.send(told).await.is_err() {
                    return;
                }
                next = coming.recv().await;
            }
        });
    }
    Ok((Box::new(stream_of(process)?), sizes))
}

fn params(container: &str) -> AttachParams {
    AttachParams {
        container: Some(container.to_owned()),
        stdin: true,
        stdout: true,
        stderr: false,
        tty: false,
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        max_stderr_buf_size: None,
    }
}

async fn start(
    pods: &Api<Pod>,
    pod: &str,
    words: &[&str],
    how: AttachParams,
) -> Result<AttachedProcess, OpenError> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let opening = pods.exec(pod, words, &how);
    timeout(LIMIT, opening)
        .await
        .map_err(|_| OpenError::Unreachable("the cluster does not answer".to_owned()))?
        .map_err(|error| explain(&error))
}

fn stream_of(
    mut process: AttachedProcess,
) -> Result<ExecStream<impl AsyncRead + Unpin + Send, impl AsyncWrite + Unpin + Send>, OpenError> {
    let (Some(output), Some(input)) = (process.stdout(), process.stdin()) else {
        return Err(OpenError::Unreachable(
            "the cluster gave half a stream".to_owned(),
        ));
    };
    let status = process.take_status();
    let end = async move {
        if let Some(status) = status {
            status.await;
        }
    };
    Ok(ExecStream {
        process,
        output,
        input,
        end: Box::pin(end),
        has_ended: false,
    })
}

/// Why a stream did not open. A container that does not run yet is told apart only by text that differs between versions, so
/// whatever is neither about rights nor about the way to the node counts as that.
fn explain(error: &Error) -> OpenError {
    let (code, message) = if let Error::Api(status) = error {
        (status.code, status.message.as_str())
    } else if let Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) = error {
        (status.as_u16(), "")
    } else {
        return OpenError::Unreachable(refusal::cause(error));
    };
    match code {
        401 | 403 => OpenError::Unreachable(format!(
            "the cluster answers {code} to a stream: grant the role in deploy/kubernetes, which allows `pods/exec`"
        )),
        429 | 502..=504 => OpenError::Unreachable(refusal::cause(error)),
        _ if message.contains("dialing backend") => OpenError::Unreachable(refusal::cause(error)),
        _ => OpenError::NotRunning,
    }
}

impl<R, W> Drop for ExecStream<R, W> {
    fn drop(&mut self) {
        self.process.abort();
    }
}

impl<R, W> ExecStream<R, W> {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> bool {
        self.has_ended = self.has_ended || self.end.as_mut().poll(cx).is_ready();
        self.has_ended
    }

    /// What waits for room waits in vain once nobody makes any.
    fn unless_ended<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.poll_end(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        polled
    }
}

impl<R: AsyncRead + Unpin, W: Unpin> AsyncRead for ExecStream<R, W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.output).poll_read(cx, buf);
        if polled.is_ready() || !self.poll_end(cx) {
            return polled;
        }
        // What came before the end may have come since.
        match Pin::new(&mut self.output).poll_read(cx, buf) {
            Poll::Pending => Poll::Ready(Ok(())),
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl<R: Unpin, W: AsyncWrite + Unpin> AsyncWrite for ExecStream<R, W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.poll_end(cx) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let polled = Pin::new(&mut self.input).poll_write(cx, buf);
        self.unless_ended(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.input).poll_flush(cx);
        self.unless_ended(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.input).poll_shutdown(cx);
        self.unless_ended(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn answer(code: u16, message: &str) -> OpenError {
        explain(&Error::Api(Box::new(
            Status::failure(message, "").with_code(code),
        )))
    }

    #[test]
    fn what_a_cluster_says_to_an_early_stream_is_no_trouble() {
        for (code, message) in [
            (400, "pod r1-n1-a1 does not have a host assigned"),
            (400, "container agent is not available"),
            (404, "pods \"r1-n1-a1\" not found"),
            (500, "container not found (\"agent\")"),
        ] {
            assert_eq!(answer(code, message), OpenError::NotRunning, "{message}");
        }
    }

    #[test]
    fn rights_and_the_way_to_a_node_are() {
        for (code, message, wanted) in [
            (403, "pods \"r1-n1-a1\" is forbidden", "`pods/exec`"),
            (401, "Unauthorized", "`pods/exec`"),
            (
                500,
                "error dialing backend: dial tcp: connection refused",
                "connection refused",
            ),
            (503, "the server is starting", "starting"),
        ] {
            let OpenError::Unreachable(said) = answer(code, message) else {
                panic!("{message}")
            };
            assert!(said.contains(wanted), "{said}");
        }
    }
}
