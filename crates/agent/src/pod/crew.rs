//! The supervisor's side of its runners. Entry type: [`Crew`].

use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::geteuid;

use super::message::{FromRunner, StepEnd, ToRunner};
use super::own;
use crate::connection::{Connection, Stream};
use crate::protocol::{CONTAINER_ENDED, encode};

/// The runners of a pod.
pub(crate) struct Crew {
    listener: UnixListener,
    socket: PathBuf,
    /// Those that did not say which they are.
    strangers: Vec<Connection>,
    runners: Vec<Member>,
    /// The user that the shared files belong to.
    owner: (u32, u32),
}

struct Member {
    container: usize,
    user: (u32, u32),
    connection: Option<Connection>,
    end: Option<StepEnd>,
    processes: Option<Processes>,
    is_terminated: bool,
    cleaned: Option<Cleaned>,
}

/// What became of a runner's cleaning: what was in the way, if anything was.
type Cleaned = Result<(), String>;

/// What a runner told of its processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Processes {
    pub(crate) count: u32,
    pub(crate) cpu_ms: u64,
    pub(crate) text: String,
}

impl Crew {
    /// Listens in the folder of tools.
    pub(crate) fn listen(tools: &Path) -> io::Result<Self> {
        let socket = tools.join("steps.sock");
        let listener = UnixListener::bind(&socket)?;
        // Steps run as any user.
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            socket,
            strangers: Vec::new(),
            runners: Vec::new(),
            owner: own::ours(),
        })
    }

    /// Whether a runner is there for each of so many containers.
    pub(crate) fn is_complete(&mut self, containers: usize) -> bool {
        (0..containers).all(|container| self.member_mut(container).is_some_and(Member::is_there))
    }

    /// The containers whose runners came.
    pub(crate) fn containers(&self) -> Vec<usize> {
        self.runners.iter().map(|member| member.container).collect()
    }

    /// What to poll while runners are awaited.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.strangers.iter().map(AsFd::as_fd))
    }

    /// Takes the runners that came, and gives each the end of the log's pipe.
    pub(crate) fn admit(&mut self, output: &OwnedFd) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if send_output(&stream, output).is_ok() {
                        self.strangers.push(Connection::new(stream)?);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
        for mut connection in std::mem::take(&mut self.strangers) {
            let mut messages = Vec::new();
            match (connection.receive(&mut messages), messages.pop()) {
                (Ok(_), Some(FromRunner::Here { container, uid, gid })) => self.runners.push(Member {
                    container,
                    user: (uid, gid),
                    connection: Some(connection),
                    end: None,
                    processes: None,
                    is_terminated: false,
                    cleaned: None,
                }),
                (Ok(Stream::Open), None) => self.strangers.push(connection),
                (Ok(Stream::Ended) | Err(_), _) | (Ok(Stream::Open), Some(_)) => {}
            }
        }
        Ok(())
    }

    /// Lets nobody else in: user code may run now.
    pub(crate) fn close(&mut self) {
        // It may be gone already.
        drop(std::fs::remove_file(&self.socket));
        self.strangers.clear();
    }

    /// The descriptor of a runner, to wait for; none if it is gone.
    pub(crate) fn wake(&self, container: usize) -> Option<OwnedFd> {
        let connection = self.member(container)?.connection.as_ref()?;
        connection.as_fd().try_clone_to_owned().ok()
    }

    /// Tells a runner something; false if it is gone.
    pub(crate) fn tell(&mut self, container: usize, message: &ToRunner) -> bool {
        let Some(member) = self.member_mut(container) else {
            return false;
        };
        let Some(connection) = member.connection.as_mut() else {
            return false;
        };
        let told = encode(message).and_then(|frame| connection.send(&frame)).is_ok();
        if !told {
            member.connection = None;
        }
        told
    }

    /// How the step in this container ended, if it did. A runner that is gone took its step with it.
    pub(crate) fn take_end(&mut self, container: usize) -> Option<StepEnd> {
        let member = self.member_mut(container)?;
        member.listen();
        let is_gone = member.connection.is_none();
        member.end.take().or_else(|| {
            is_gone.then(|| StepEnd {
                code: None,
                signal: None,
                reason: Some(CONTAINER_ENDED.to_owned()),
            })
        })
    }

    /// What became of the cleaning that a runner was told to do, once that is known.
    pub(crate) fn take_cleaned(&mut self, container: usize) -> Option<Cleaned> {
        let member = self.member_mut(container)?;
        let is_there = member.is_there();
        let gone = (!is_there).then(|| Err(CONTAINER_ENDED.to_owned()));
        member.cleaned.take().or(gone)
    }

    /// Forgets what the runners told of the last attempt.
    pub(crate) fn begin_anew(&mut self) {
        self.owner = own::ours();
        for member in &mut self.runners {
            member.end = None;
            member.processes = None;
            member.cleaned = None;
        }
    }

    /// Whether something else than its step, or than us, ended what ran in this container.
    pub(crate) fn was_ended(&self, container: usize) -> bool {
        self.member(container)
            .is_some_and(|member| member.is_terminated || member.connection.is_none())
    }

    /// What a runner last told of its processes.
    pub(crate) fn take_processes(&mut self, container: usize) -> Option<Processes> {
        let member = self.member_mut(container)?;
        member.listen();
        member.processes.take()
    }

    /// Gives the shared folders to the user of this container, who is to work in them.
    pub(crate) fn hand_over(&mut self, container: usize, folders: &[PathBuf]) -> io::Result<()> {
        let user = self.member(container).map_or(self.owner, |member| member.user);
        // Nobody but root can give anything away.
        if user == self.owner || !geteuid().is_root() {
            return Ok(());
        }
        // Root needs no ownership; but what it makes will have to be given to whoever comes after it.
        if user.0 != 0 {
            for folder in folders {
                own::give(folder, user)?;
            }
        }
        self.owner = user;
        Ok(())
    }

    /// Sends all away.
    pub(crate) fn dismiss(&mut self, code: u8) {
        for container in self.containers() {
            self.tell(container, &ToRunner::Leave { code });
        }
    }

    fn member(&self, container: usize) -> Option<&Member> {
        self.runners.iter().find(|member| member.container == container)
    }

    fn member_mut(&mut self, container: usize) -> Option<&mut Member> {
        self.runners
            .iter_mut()
            .find(|member| member.container == container)
    }
}

impl Member {
    fn is_there(&mut self) -> bool {
        self.listen();
        self.connection.is_some() && !self.is_terminated
    }

    fn listen(&mut self) {
        let Some(connection) = self.connection.as_mut() else {
            return;
        };
        let mut messages = Vec::new();
        let received = connection
            .send(&[])
            .and_then(|()| connection.receive(&mut messages));
        if !matches!(received, Ok(Stream::Open)) {
            self.connection = None;
        }
        for message in messages {
            match message {
                FromRunner::Here { .. } => {}
                FromRunner::Ended(end) => self.end = Some(end),
                FromRunner::Terminated => self.is_terminated = true,
                FromRunner::Cleaned { problem } => self.cleaned = Some(problem.map_or(Ok(()), Err)),
                FromRunner::Processes { count, cpu_ms, text } => {
                    self.processes = Some(Processes { count, cpu_ms, text });
                }
            }
        }
    }
}

fn send_output(stream: &UnixStream, output: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [output.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
