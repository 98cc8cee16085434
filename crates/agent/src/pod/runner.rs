//! The process that a step's container runs: it starts what the supervisor says and leaves nothing behind.
//!
//! Entry function: [`run`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    DumpableBehavior, Pid, WaitStatus, getgid, getpid, getuid, set_child_subreaper, set_dumpable_behavior,
};

use super::empty::{are_mounted, empty_temporary};
use super::message::{FromRunner, StepEnd, ToRunner};
use crate::connection::{Connection, Stream};
use crate::ending::{Ending, LEFTOVER_GRACE};
use crate::memory;
use crate::process::{Children, Tree, describe, reap};
use crate::protocol::encode;
use crate::signals::Signals;
use crate::spawn::{DEFAULT_PATH, Program, refresh};

/// How long the supervisor may take to listen.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(10);

/// The code of a container whose supervisor is gone.
const ORPHANED: u8 = 143;

struct Runner {
    connection: Connection,
    output: OwnedFd,
    signals: Signals,
    running: Option<Running>,
    /// The code to end with, once said.
    leave: Option<u8>,
}

/// The program of a step, from its start until nothing of it is left.
struct Running {
    pid: Pid,
    status: Option<WaitStatus>,
    ending: Option<(Ending, Instant)>,
    kills_before: u64,
}

/// Serves the supervisor that listens in this folder of tools, as the runner of this container.
pub(crate) fn run(tools: &Path, container: usize) -> ExitCode {
    match Runner::start(tools, container).and_then(Runner::serve) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            use std::io::Write as _;
            drop(writeln!(
                io::stderr(),
                "pipekeeper: the runner of a step cannot go on: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

impl Runner {
    fn start(tools: &Path, container: usize) -> io::Result<Self> {
        // The secrets that pass through here are not for other processes of the same user.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        set_child_subreaper(Some(getpid()))?;
        let stream = connect(&tools.join("steps.sock"))?;
        let output = receive_output(&stream)?;
        let mut runner = Self {
            connection: Connection::new(stream)?,
            output,
            signals: Signals::catch()?,
            running: None,
            leave: None,
        };
        runner.tell(&FromRunner::Here {
            container,
            uid: getuid().as_raw(),
            gid: getgid().as_raw(),
        })?;
        Ok(runner)
    }

    /// Serves until it is sent away; without a supervisor nothing may run.
    fn serve(mut self) -> io::Result<u8> {
        let mut open = Stream::Open;
        loop {
            let again = self.look_after();
            if let (None, Some(code)) = (&self.running, self.leave) {
                return Ok(code);
            }
            if open == Stream::Open {
                self.wait(again)?;
                open = self.hear()?;
            } else {
                self.leave.get_or_insert(ORPHANED);
                self.stop(Duration::ZERO);
                self.signals.clear();
                thread::sleep(PAUSE);
            }
            if self.signals.take_terminate() {
                // A supervisor that does not hear this is gone, which shows at the next look.
                drop(self.tell(&FromRunner::Terminated));
                self.stop(LEFTOVER_GRACE);
            }
        }
    }

    fn wait(&mut self, again: Option<Instant>) -> io::Result<()> {
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.connection.as_fd(), self.connection.wants()),
        ];
        let timeout = again.map(|again| {
            let left = again.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.signals.clear();
        Ok(())
    }

    fn hear(&mut self) -> io::Result<Stream> {
        let mut messages = Vec::new();
        let received = self
            .connection
            .send(&[])
            .and_then(|()| self.connection.receive(&mut messages));
        for message in messages {
            match message {
                ToRunner::Run { argv, env, folder } => self.begin(&argv, env, &folder)?,
                ToRunner::Stop { grace_ms } => self.stop(Duration::from_millis(grace_ms)),
                ToRunner::Look => self.tell_processes()?,
                ToRunner::Clean { folders, mounts } => {
                    let cleaned = are_mounted(&mounts).and_then(|()| empty_temporary(&folders));
                    let problem = cleaned.err();
                    let problem = problem.map(|error| error.to_string());
                    self.tell(&FromRunner::Cleaned { problem })?;
                }
                ToRunner::Leave { code } => {
                    self.leave = Some(code);
                    self.stop(Duration::ZERO);
                }
            }
        }
        Ok(received.unwrap_or(Stream::Ended))
    }

    fn begin(&mut self, argv: &[String], env: BTreeMap<String, String>, folder: &Path) -> io::Result<()> {
        let kills_before = memory::kills();
        let (name, arguments) = argv
            .split_first()
            .map_or(("", [].as_slice()), |(name, rest)| (name.as_str(), rest));
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let program = Program {
            name,
            arguments: &arguments,
            env: &environment(env),
            folder,
        };
        refresh(&self.output);
        match program.spawn(&self.output) {
            Ok(pid) => {
                memory::prefer(pid);
                self.running = Some(Running {
                    pid,
                    status: None,
                    ending: None,
                    kills_before,
                });
                Ok(())
            }
            Err(error) => self.tell(&FromRunner::Ended(error.into())),
        }
    }

    fn stop(&mut self, grace: Duration) {
        let kill_at = Instant::now() + grace;
        if let Some(running) = self.running.as_mut() {
            let (_, at) = running.ending.get_or_insert_with(|| (Ending::default(), kill_at));
            *at = kill_at.min(*at);
        }
    }

    /// Takes what ended, and ends what is left of it; when to look again.
    fn look_after(&mut self) -> Option<Instant> {
        let running = &mut self.running;
        let children = reap(|pid, status| {
            if let Some(running) = running.as_mut().filter(|running| running.pid == pid) {
                running.status.get_or_insert(status);
            }
        });
        let running = self.running.as_mut()?;
        if children == Children::Some {
            if running.status.is_some() && running.ending.is_none() {
                running.ending = Some((Ending::default(), Instant::now() + LEFTOVER_GRACE));
            }
            let (ending, kill_at) = running.ending.as_mut()?;
            if let Some(again) = ending.press(*kill_at, Some(running.pid)) {
                return Some(again);
            }
        }
        let status = running.status;
        let was_short = memory::kills() > running.kills_before;
        self.running = None;
        let end = StepEnd {
            code: status.and_then(|status| status.exit_status()),
            signal: status.and_then(|status| status.terminating_signal()),
            reason: (was_short && status.is_none_or(|status| status.exit_status() != Some(0)))
                .then(memory::reason),
        };
        // A supervisor that does not hear this is gone, which shows at the next look.
        drop(self.tell(&FromRunner::Ended(end)));
        None
    }

    fn tell_processes(&mut self) -> io::Result<()> {
        let tree = Tree::read()?;
        self.tell(&FromRunner::Processes {
            count: u32::try_from(tree.pids.len()).unwrap_or(u32::MAX),
            cpu_ms: tree.cpu_ms,
            text: describe(&tree.pids),
        })
    }

    fn tell(&mut self, message: &FromRunner) -> io::Result<()> {
        encode(message)
            .and_then(|frame| self.connection.send(&frame))
            .map_err(io::Error::other)
    }
}

/// The container's own variables but those that tell of the cluster, under those of the step.
fn environment(over: BTreeMap<String, String>) -> BTreeMap<OsString, OsString> {
    let mut env = BTreeMap::from([(OsString::from("PATH"), OsString::from(DEFAULT_PATH))]);
    env.extend(std::env::vars_os().filter(|(name, _)| !name.to_string_lossy().starts_with("KUBERNETES_")));
    env.extend(over.into_iter().map(|(name, value)| (name.into(), value.into())));
    env
}

fn connect(socket: &PathBuf) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            // The supervisor is about to listen.
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// The writing end of the log's pipe, which is the first thing that the supervisor sends.
fn receive_output(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let received = ancillary.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fds.next()
        } else {
            None
        }
    });
    received.ok_or_else(|| io::Error::other("the supervisor sent no output"))
}
