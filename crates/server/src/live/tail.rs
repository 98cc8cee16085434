//! The log of one attempt, followed as it grows: as text for programs, as rendered lines for pages.

use std::{fs::File, io, sync::Arc};

use memchr::memrchr;
use pipekeeper_controller::Layout;
use pipekeeper_model::AttemptId;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::{
    ansi::Renderer,
    logs::{self, Known},
    text::whole_characters,
};

/// How a log is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogForm {
    /// As text, whole.
    #[default]
    Text,
    /// As lines of HTML; a reader that is far behind is taken to the end.
    Html,
}

/// What one event carries at most: enough that the way to the reader costs little beside the bytes.
const CHUNK: usize = 256 * 1024;
/// From here on a page is too far behind to be worth catching up line by line.
const FAR_BEHIND: u64 = 1024 * 1024;
const PAGE_TAIL: usize = 64 * 1024;
/// Characters of a line that pages show while it grows.
pub(crate) const LINE_SHOWN: usize = 4_096;

/// A log being followed.
pub(super) struct Tail {
    attempt: AttemptId,
    layout: Layout,
    file: Option<Arc<File>>,
    offset: u64,
    /// How far the log is known to go; reading stops there, so that a fast writer starves nobody.
    known: u64,
    form: Form,
}

enum Form {
    Text,
    Html(Box<Lines>),
}

struct Lines {
    renderer: Renderer,
    /// The number of the line that is not finished, and where it starts.
    line: u64,
    start: u64,
    is_placed: bool,
    /// The reader was just taken here: it gets to see something before it is taken on.
    was_taken: bool,
}

/// What a read gave.
pub(super) enum Read {
    /// Something to send.
    Chunk(LogResponse),
    /// The reader is taken elsewhere in the log.
    Skipped(LogResponse),
}

/// A piece of a log.
#[derive(Serialize)]
pub(super) struct LogResponse {
    node: String,
    attempt: u32,
    /// Where it starts.
    offset: u64,
    /// Where the next one starts.
    next: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The number of the first of the lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<String>>,
    /// The line that is not finished yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<String>,
}

impl Tail {
    pub(super) fn new(layout: Layout, attempt: AttemptId, offset: u64, form: LogForm) -> Self {
        Self {
            attempt,
            layout,
            file: None,
            // The greatest stands for a length that is not known.
            offset: offset.min(u64::MAX - 1),
            known: u64::MAX,
            form: match form {
                LogForm::Text => Form::Text,
                LogForm::Html => Form::Html(Box::new(Lines {
                    renderer: Renderer::new(LINE_SHOWN),
                    line: 1,
                    start: offset,
                    is_placed: offset == 0,
                    was_taken: false,
                })),
            },
        }
    }

    pub(super) fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Where a reader goes on that has seen everything so far.
    pub(super) fn resume(&self) -> u64 {
        match &self.form {
            Form::Text => self.offset,
            Form::Html(lines) => lines.start,
        }
    }

    /// Says that there may be more to read.
    pub(super) fn wake(&mut self) {
        self.known = u64::MAX;
    }

    /// The next piece, or nothing at the end of what is written; `is_over` says that nothing more will be.
    pub(super) async fn read(&mut self, node: &str, is_over: bool) -> io::Result<Option<Read>> {
        if self.offset >= self.known {
            return Ok(None);
        }
        let Some(file) = self.file().await? else {
            self.known = 0;
            return Ok(None);
        };
        if self.known == u64::MAX {
            self.known = file.metadata()?.len();
        }
        if self.offset > self.known {
            // The log is shorter than the reader believes: it read another log of this name.
            return self.restart(node, 0, 1).map(Some);
        }
        if let Form::Html(lines) = &mut self.form {
            if !lines.is_placed {
                let (file, start) = (Arc::clone(&file), lines.start);
                lines.line = 1 + blocking(move || logs::lines_between(&file, 0, start)).await?;
                lines.is_placed = true;
            }
            if self.known - self.offset > FAR_BEHIND && !lines.was_taken {
                let known = Known {
                    start: lines.start,
                    line: lines.line,
                };
                let slice = blocking(move || logs::tail_of(&file, usize::MAX, PAGE_TAIL, known)).await?;
                return self.restart(node, slice.start, slice.first_line).map(Some);
            }
        }
        let offset = self.offset;
        let most = usize::try_from(self.known - offset).unwrap_or(CHUNK).min(CHUNK);
        let bytes = blocking(move || logs::read(&file, offset, most)).await?;
        Ok(self.take(node, bytes, is_over).map(Read::Chunk))
    }

    async fn file(&mut self) -> io::Result<Option<Arc<File>>> {
        if self.file.is_none() {
            let path = self.layout.log(self.attempt);
            self.file = blocking(move || logs::open(&path)).await?.map(Arc::new);
        }
        Ok(self.file.clone())
    }

    fn restart(&mut self, node: &str, start: u64, line: u64) -> io::Result<Read> {
        self.offset = start;
        if let Form::Html(lines) = &mut self.form {
            **lines = Lines {
                renderer: Renderer::new(LINE_SHOWN),
                line,
                start,
                is_placed: true,
                was_taken: true,
            };
        }
        Ok(Read::Skipped(LogResponse {
            first: Some(line),
            ..self.response(node, start, start)
        }))
    }

    fn take(&mut self, node: &str, mut bytes: Vec<u8>, is_over: bool) -> Option<LogResponse> {
        if self.form.is_text() && !(is_over && self.offset + logs::length(&bytes) >= self.known) {
            bytes.truncate(whole_characters(&bytes));
        }
        if bytes.is_empty() {
            self.known = self.offset;
            return None;
        }
        if self.form.is_text() && is_mostly_escaped(&bytes) {
            bytes.truncate(CHUNK / 8);
        }
        let offset = self.offset;
        self.offset += logs::length(&bytes);
        let mut response = self.response(node, offset, self.offset);
        match &mut self.form {
            Form::Text => response.text = Some(to_text(bytes)),
            Form::Html(lines) => lines.take(offset, &bytes, &mut response),
        }
        Some(response)
    }

    fn response(&self, node: &str, offset: u64, next: u64) -> LogResponse {
        LogResponse {
            node: node.to_owned(),
            attempt: self.attempt.number,
            offset,
            next,
            text: None,
            first: None,
            lines: None,
            partial: None,
        }
    }
}

impl Form {
    fn is_text(&self) -> bool {
        match self {
            Self::Text => true,
            Self::Html(_) => false,
        }
    }
}

impl Lines {
    fn take(&mut self, offset: u64, bytes: &[u8], response: &mut LogResponse) {
        self.was_taken = false;
        self.renderer.feed(bytes);
        let done = self.renderer.take();
        response.offset = self.start;
        response.first = Some(self.line);
        self.line += u64::try_from(done.len()).unwrap_or(0);
        if let Some(end) = memrchr(b'\n', bytes) {
            self.start = offset + u64::try_from(end).unwrap_or(0) + 1;
        }
        response.next = self.start;
        response.lines = Some(done);
        response.partial = self.renderer.partial();
    }
}

/// Whether JSON makes several times as much of it: each such byte takes six.
fn is_mostly_escaped(bytes: &[u8]) -> bool {
    let is_escaped = |byte: &&u8| **byte < b' ' && !matches!(**byte, b'\n' | b'\r' | b'\t');
    bytes.iter().filter(is_escaped).count() > bytes.len() / 16
}

/// Most logs are text; finding that out is several times as fast as replacing what is none.
fn to_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use pipekeeper_controller::Layout;
    use pipekeeper_model::{AttemptId, NodeId, RunId};

    use super::{FAR_BEHIND, LogForm, Read, Tail};

    #[tokio::test]
    async fn a_page_that_is_taken_on_sees_something_before_it_is_taken_on_again() {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::new(temp.path());
        let attempt = AttemptId {
            run: RunId(1),
            node: NodeId(0),
            number: 1,
        };
        let path = layout.log(attempt);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut log = fs::File::create(path).unwrap();
        let lines = usize::try_from(FAR_BEHIND).unwrap() / 5 + 1;
        let mut grow = || log.write_all("line\n".repeat(lines).as_bytes()).unwrap();

        let mut tail = Tail::new(layout, attempt, 0, LogForm::Html);
        for round in 1..4 {
            grow();
            tail.wake();
            let taken = tail.read("work", false).await.unwrap();
            assert!(matches!(taken, Some(Read::Skipped(_))));
            grow();
            tail.wake();
            let Some(Read::Chunk(seen)) = tail.read("work", false).await.unwrap() else {
                panic!("nothing was shown");
            };
            assert_eq!(seen.first, Some(seen.offset / 5 + 1), "round {round}");
        }
    }
}
