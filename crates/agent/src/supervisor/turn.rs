//! One turn of the loop: wait for anything, then answer it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Begun, Farewell, StopCause, Supervisor, Ticket};
use crate::pod::bulk;
use crate::pod::message::ToRunner;
use crate::process::{Children, Tree, describe, reap};
use crate::protocol::{FromAgent, Orphan, ToAgent};

/// The least time between two reports of the log's size.
const REPORT: Duration = Duration::from_millis(20);
/// After this long without output the silence is reported, and again each time it passes.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// What steps get to end in when the cluster ends their pod, which it does for certain a little later.
const POD_GRACE: Duration = Duration::from_secs(20);
/// Reads of the pipe in one turn.
const READS: usize = 8;

/// What ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The descriptor that was given.
    Given,
    /// Anything else.
    Other,
}

/// Which descriptors are ready.
struct Ready {
    signals: bool,
    output: bool,
    listener: bool,
    connection: bool,
    given: bool,
}

impl Supervisor {
    /// Waits until anything happens, at most until `until`, and answers it.
    pub(super) fn turn(&mut self, given: Option<BorrowedFd<'_>>, until: Option<Instant>) -> Wake {
        let deadline = [until, self.next_deadline()].into_iter().flatten().min();
        let ready = self.wait(given, deadline);
        if ready.signals {
            self.signals.clear();
        }
        if self.signals.take_terminate() {
            if self.crew.is_some() {
                self.end_with_pod();
            } else {
                self.request_stop(StopCause::Cancelled, self.grace());
            }
        }
        if ready.output {
            self.pump(READS);
        }
        if ready.connection {
            for message in self.link.exchange() {
                self.obey(message);
            }
        }
        // A listener that broke leaves the attempt to itself.
        if ready.listener && matches!(self.link.accept(), Ok(true)) {
            self.greet();
        }
        self.look_at_clock();
        self.feed_log();
        if ready.given { Wake::Given } else { Wake::Other }
    }

    fn wait(&self, given: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Ready {
        let (listener, connection) = self.link.fds();
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(self.output.fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(listener, PollFlags::IN),
        ];
        let has_connection = connection.is_some();
        fds.extend(connection.map(|(fd, wants)| PollFd::from_borrowed_fd(fd, wants)));
        fds.extend(given.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 3600,
                tv_nsec: 0,
            })
        });
        let mut ready = match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>(),
            Err(_) => Vec::new(),
        }
        .into_iter();
        let mut next = || ready.next().unwrap_or(false);
        Ready {
            signals: next(),
            output: next(),
            listener: next(),
            connection: has_connection && next(),
            given: given.is_some() && next(),
        }
    }

    fn obey(&mut self, message: ToAgent) {
        match message {
            ToAgent::Go {
                holder,
                secrets,
                mask,
                store,
            } => {
                if holder == self.holder {
                    self.store = store;
                }
                if matches!(self.ticket, Ticket::Awaited) {
                    self.ticket = if holder == self.holder {
                        Ticket::Granted { secrets, mask }
                    } else {
                        Ticket::Refused
                    };
                }
            }
            ToAgent::Exit => {
                if matches!(self.ticket, Ticket::Awaited) {
                    self.ticket = Ticket::Refused;
                }
            }
            ToAgent::Stop { grace_ms } => {
                self.request_stop(StopCause::Cancelled, Duration::from_millis(grace_ms));
            }
            ToAgent::Ping => self.link.send(&FromAgent::Pong),
            ToAgent::ReadLog { from } => match self.log.reader(&self.spec.log, from) {
                Ok(reader) => self.link.read_log(reader),
                Err(error) => self.log.note(&format!("the log cannot be read: {error}")),
            },
            ToAgent::File { name, content } => {
                let is_early = matches!(self.ticket, Ticket::Awaited);
                if is_early && bulk::keep(&self.dir, &name, &content).is_err() {
                    self.link.hang_up();
                }
            }
            ToAgent::Look => self.ask_for_processes(),
            // What is there to fetch is fetched as long as the pod is there.
            ToAgent::PodEnds if self.record.is_none() || self.farewell == Farewell::Hold => {
                self.end_with_pod()
            }
            ToAgent::PodEnds => {}
            ToAgent::Leave => self.bid_farewell(Farewell::Leave),
            ToAgent::Recycle => self.bid_farewell(Farewell::Recycle),
            ToAgent::Hold => self.bid_farewell(Farewell::Hold),
            ToAgent::Begin { .. } | ToAgent::Assign { .. } | ToAgent::Unknown => {}
        }
    }

    fn end_with_pod(&mut self) {
        self.bid_farewell(Farewell::Leave);
        self.request_stop(StopCause::PodEnds, self.grace().min(POD_GRACE));
    }

    /// Nobody may say what comes after a record that is not there.
    fn bid_farewell(&mut self, farewell: Farewell) {
        if self.record.is_some() {
            self.farewell = farewell;
        }
    }

    /// Sends on what a controller reads of the log, and the record behind its last byte.
    fn feed_log(&mut self) {
        let was_behind = !self.link.has_log(&self.log);
        self.link.feed(&self.log);
        if was_behind {
            self.tell_record();
        }
    }

    fn ask_for_processes(&mut self) {
        let container = self.present_container();
        match self.crew.as_mut() {
            Some(crew) => {
                crew.tell(container, &ToRunner::Look);
            }
            None => {
                let text = Tree::read().map(|tree| describe(&tree.pids)).unwrap_or_default();
                let text = self.log.masked(&text);
                self.link.send(&FromAgent::Processes { text });
            }
        }
    }

    /// The container of the step that runs, or ran last.
    fn present_container(&self) -> usize {
        let present = self.steps.len().saturating_sub(1);
        self.spec.steps.get(present).map_or(0, |step| step.container)
    }

    /// Moves output from the pipe to the log, in at most so many reads.
    pub(super) fn pump(&mut self, reads: usize) {
        for _ in 0..reads {
            match rustix::io::read(&self.output.read, self.output.buffer.as_mut_slice()) {
                Ok(count) => {
                    self.log
                        .write(self.output.buffer.get(..count).unwrap_or_default());
                    self.clock.heard_at = Instant::now();
                    self.clock.silent_at = self.clock.heard_at + SILENCE;
                    if count < self.output.buffer.len() {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Takes the statuses of all that ended.
    pub(super) fn reap(&mut self) -> Children {
        let shell = &mut self.shell;
        reap(|pid, status| {
            if let Some(shell) = shell
                .as_mut()
                .filter(|shell| shell.pid == Some(pid) && shell.status.is_none())
            {
                shell.status = Some(status);
            }
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        let report = (self.clock.reported != self.log.len()).then(|| self.clock.reported_at + REPORT);
        let silence = self.shell.as_ref().map(|_| self.clock.silent_at);
        [report, silence, self.time_limit(), self.orphan_limit()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the step's or the attempt's time is over.
    pub(super) fn time_limit(&self) -> Option<Instant> {
        if self.stop.is_some() || self.record.is_some() {
            return None;
        }
        let attempt = match (self.begun, self.spec.timeout_ms) {
            (Begun::At { instant, .. }, Some(ms)) => instant.checked_add(Duration::from_millis(ms)),
            _ => None,
        };
        let step = self.shell.as_ref().and_then(|shell| shell.deadline);
        [attempt, step].into_iter().flatten().min()
    }

    fn orphan_limit(&self) -> Option<Instant> {
        match self.spec.orphan {
            Orphan::StopAfter { ms } if self.stop.is_none() => {
                self.link.alone_since()?.checked_add(Duration::from_millis(ms))
            }
            Orphan::StopAfter { .. } | Orphan::WorkOn => None,
        }
    }

    fn look_at_clock(&mut self) {
        let now = Instant::now();
        self.pass_processes(now);
        if self.clock.reported != self.log.len() && now >= self.clock.reported_at + REPORT {
            self.report_log();
        }
        if self.time_limit().is_some_and(|limit| limit <= now) {
            self.log.note("the time limit is reached");
            self.request_stop(StopCause::TimedOut, self.grace());
        }
        if self.orphan_limit().is_some_and(|limit| limit <= now) {
            self.request_stop(StopCause::Cancelled, self.grace());
        }
        if self.shell.is_some() && self.clock.silent_at <= now {
            self.clock.silent_at = now + SILENCE;
            self.report_silence(now).unwrap_or_default();
        }
    }

    /// Tells what a runner answered.
    fn pass_processes(&mut self, now: Instant) {
        let container = self.present_container();
        let Some(processes) = self.crew.as_mut().and_then(|crew| crew.take_processes(container)) else {
            return;
        };
        let silent_for = now.duration_since(self.clock.heard_at);
        if silent_for >= SILENCE {
            self.link.send(&FromAgent::Silent {
                seconds: silent_for.as_secs(),
                processes: processes.count,
                cpu_ms: processes.cpu_ms,
            });
        }
        let text = self.log.masked(&processes.text);
        self.link.send(&FromAgent::Processes { text });
    }

    fn report_silence(&mut self, now: Instant) -> io::Result<()> {
        if self.crew.is_some() {
            // What the runner answers is passed on when it comes.
            self.ask_for_processes();
            return Ok(());
        }
        let tree = Tree::read()?;
        self.link.send(&FromAgent::Silent {
            seconds: now.duration_since(self.clock.heard_at).as_secs(),
            processes: u32::try_from(tree.pids.len()).unwrap_or(u32::MAX),
            cpu_ms: tree.cpu_ms,
        });
        Ok(())
    }
}
