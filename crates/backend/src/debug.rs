//! A shell for a person, in containers that are made like an attempt's and stand where one of its steps would begin.
//!
//! Such a session is no attempt of its run: nobody but its session hears of it, it leaves nothing behind, and it has no
//! secret. Entry types: [`DebugOrder`] and [`Terminal`].

use std::fmt;

use futures_util::future::BoxFuture;
use pipekeeper_model::{AttemptId, Millis, Name};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::Launch;

/// Numbers of attempts from here on are sessions': no run tries anything so often.
pub(crate) const FIRST_SESSION: u32 = 1 << 31;

/// What a session is made of.
#[derive(Debug)]
pub struct DebugOrder {
    /// The attempt that is looked into; its last step is the one that does not run.
    pub launch: Launch,
    /// How long the shell may be open.
    pub limit: Millis,
    /// The person's terminal, as it is now.
    pub size: TerminalSize,
    /// What that terminal is called, such as `xterm-256color`.
    pub term: TermName,
    /// Where to tell what happens before the shell opens. Once it is closed, nobody wants the session any more.
    pub told: mpsc::Sender<Told>,
}

/// What a session in held containers is made of.
#[derive(Debug)]
pub struct EnterOrder {
    /// The attempt that ended.
    pub attempt: AttemptId,
    /// Its project.
    pub project: Name,
    /// The cluster that it named.
    pub cluster: Option<Name>,
    /// How long the shell may be open, if the containers are not held for longer.
    pub limit: Millis,
    /// The person's terminal, as it is now.
    pub size: TerminalSize,
    /// What that terminal is called.
    pub term: TermName,
    /// Where to tell what happens before the shell opens.
    pub told: mpsc::Sender<Told>,
}

/// What became of a wish to enter held containers.
#[derive(Debug)]
pub enum Entered {
    /// The shell is open.
    Open(Terminal),
    /// Containers are held here, but not, or not any more, this attempt's.
    NotHeld,
    /// No containers are ever held where it ran.
    NeverHeld,
}

/// What happens before the shell opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A line for people.
    Note(String),
    /// Output of the steps before.
    Log(Vec<u8>),
}

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Its width.
    pub columns: u16,
    /// Its height.
    pub rows: u16,
}

/// The name of a kind of terminal: short, and of plain letters alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermName(String);

impl TermName {
    /// The name, if it is one; else that of a terminal that can do nothing.
    pub fn new(name: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-+._".contains(&byte);
        let is_name = (1..=32).contains(&name.len()) && name.bytes().all(is_plain);
        Self(if is_name { name } else { "dumb" }.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Both directions of a terminal.
pub trait TerminalStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> TerminalStream for T {}

/// What becomes of containers that are there for their session alone.
pub(crate) const REMOVED: &str = "what the shell ran in is removed";

/// An open shell. Dropping it removes what it runs in, unless that is held; [`Terminal::end`] also waits for that.
pub struct Terminal {
    /// What the person types, and what they see. It ends with the shell.
    pub stream: Box<dyn TerminalStream>,
    /// The sizes that the person's terminal gets.
    pub sizes: mpsc::Sender<TerminalSize>,
    /// What becomes of its containers afterwards, in a line for the person.
    pub afterwards: String,
    pub(crate) keep: Box<dyn Keep>,
}

/// What keeps the containers of a session; without it they go.
pub(crate) trait Keep: Send {
    /// Removes them.
    fn remove(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl Terminal {
    /// Ends the shell, if it did not end itself, and removes what it ran in, unless that is held.
    pub async fn end(self) {
        self.keep.remove().await;
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::TermName;

    #[test]
    fn a_terminals_name_is_never_more_than_a_name() {
        assert_eq!(TermName::new("xterm-256color").as_str(), "xterm-256color");
        for odd in ["", "a b", "x;id", "../x", &"x".repeat(33)] {
            assert_eq!(TermName::new(odd).as_str(), "dumb", "{odd}");
        }
    }
}
