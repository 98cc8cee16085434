//! One attempt from its folder to its record.
//!
//! A single thread polls signals, controllers and the steps' output; only long work on files has a thread beside it.
//! Entry functions: [`start`] and [`Supervisor::run`].

mod begin;
mod end;
mod held;
mod hosted;
mod recycle;
mod step;
mod turn;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitStatus};

pub(crate) use begin::{StartError, draw_holder, lock_folder, os, start};

use crate::cache::CacheState;
use crate::interrupt::Interrupt;
use crate::link::Link;
use crate::log::LogSink;
use crate::pod::crew::Crew;
use crate::protocol::{
    AttemptDir, AttemptSpec, ExitRecord, FromAgent, RecordOutcome, SecretText, SecretValue, StepRecord,
    StoreAccess,
};
use crate::signals::Signals;
use crate::transfer::Transfers;

/// The supervisor of one attempt.
pub(crate) struct Supervisor {
    dir: AttemptDir,
    spec: Arc<AttemptSpec>,
    holder: String,
    /// Locked until this process ends.
    lock: File,
    signals: Signals,
    link: Link,
    /// The runners of a pod; none where steps are our own processes.
    crew: Option<Crew>,
    log: LogSink,
    output: OutputPipe,
    ticket: Ticket,
    /// Where its caches are in an object store, as was said last.
    store: StoreAccess,
    begun: Begun,
    secrets: Vec<SecretValue>,
    /// Files below the folder that hold secrets.
    secret_files: Vec<String>,
    steps: Vec<StepRecord>,
    outputs: BTreeMap<String, String>,
    caches: Vec<CacheState>,
    results: end::Results,
    shell: Option<Shell>,
    stop: Option<Stop>,
    interrupt: Interrupt,
    clock: Clock,
    /// What became of the attempt, once that is on disk.
    record: Option<Box<ExitRecord>>,
    /// What a controller that fetched all there is asks for.
    farewell: Farewell,
}

/// What a pod's supervisor has before its attempt, and after it for the next.
pub(crate) struct Equipment {
    pub(crate) dir: AttemptDir,
    pub(crate) lock: File,
    pub(crate) holder: String,
    pub(crate) link: Link,
    pub(crate) crew: Crew,
    pub(crate) output: OutputPipe,
    pub(crate) signals: Signals,
}

/// What comes after the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// Not all is fetched yet.
    Awaited,
    /// The end.
    Leave,
    /// A further attempt.
    Recycle,
    /// A person who looks into it.
    Hold,
}

/// Whom a pod may stay for once its attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// Nobody.
    Nobody,
    /// Whoever brings a further attempt.
    Another,
    /// A person who looks into the step of this index, which failed.
    Person(usize),
}

/// Where the ticket is.
enum Ticket {
    Awaited,
    Granted {
        secrets: Vec<SecretValue>,
        mask: Vec<SecretText>,
    },
    Taken,
    Refused,
}

/// Since when user code may run.
#[derive(Clone, Copy)]
enum Begun {
    No,
    At { ms: u64, instant: Instant },
}

/// The process of the step that runs.
struct Shell {
    /// None if it runs in another container.
    pid: Option<Pid>,
    status: Option<WaitStatus>,
    deadline: Option<Instant>,
}

/// The end that was asked for.
#[derive(Clone, Copy)]
struct Stop {
    cause: StopCause,
    kill_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopCause {
    Cancelled,
    TimedOut,
    /// The cluster ends the pod, for reasons of its own: what becomes of the attempt is not told here.
    PodEnds,
}

/// What was last said and heard, and when.
struct Clock {
    /// The log's size as last reported.
    reported: u64,
    reported_at: Instant,
    heard_at: Instant,
    silent_at: Instant,
}

/// The pipe that all steps write to. Its writing end stays open here, so a step that closes its own changes nothing.
pub(crate) struct OutputPipe {
    read: OwnedFd,
    write: OwnedFd,
    buffer: Vec<u8>,
}

/// Work that ended without a result.
struct Panicked;

impl Supervisor {
    /// Runs the attempt, and cleans up after the record is out; what serves a further attempt in this pod, if one may
    /// come.
    pub(crate) fn run(mut self) -> Option<Equipment> {
        let outcome = self.attempt();
        if self.stop.is_some_and(|stop| stop.cause == StopCause::PodEnds) {
            self.part();
            return None;
        }
        let succeeded = outcome == RecordOutcome::Succeeded;
        self.publish(outcome);
        if self.crew.is_none() {
            self.clean_up(succeeded);
            return None;
        }
        match self.linger() {
            Farewell::Awaited | Farewell::Leave | Farewell::Hold => None,
            Farewell::Recycle => self.recycle(),
        }
    }

    fn attempt(&mut self) -> RecordOutcome {
        if let Err(outcome) = self.take_ticket() {
            return outcome;
        }
        let outcome = match self.prepare() {
            Ok(()) => self.run_steps(),
            Err(reason) => {
                self.log.note(&reason);
                RecordOutcome::Errored { reason }
            }
        };
        let outcome = self.stopped().unwrap_or(outcome);
        self.keep(outcome)
    }

    fn run_steps(&mut self) -> RecordOutcome {
        let spec = Arc::clone(&self.spec);
        for (index, step) in spec.steps.iter().enumerate() {
            if let Err(failed) = self.run_step(index, step) {
                return failed;
            }
            if self.stop.is_some() {
                break;
            }
        }
        RecordOutcome::Succeeded
    }

    /// The outcome that a stop stands for, if there was one.
    fn stopped(&self) -> Option<RecordOutcome> {
        let step = self.shell.as_ref().and_then(|_| self.steps.len().checked_sub(1));
        self.stop.map(|stop| match stop.cause {
            StopCause::Cancelled => RecordOutcome::Cancelled,
            StopCause::TimedOut => RecordOutcome::TimedOut { step },
            StopCause::PodEnds => RecordOutcome::Errored {
                reason: "its pod was told to end".to_owned(),
            },
        })
    }

    /// Does long work beside the loop.
    fn beside<T: Send>(&mut self, work: impl FnOnce(&Interrupt) -> T + Send) -> Result<T, Panicked> {
        let (done, working) = pipe_with(PipeFlags::CLOEXEC).map_err(|_| Panicked)?;
        let interrupt = self.interrupt.clone();
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                let _closed_at_the_end = working;
                work(&interrupt)
            });
            while self.turn(Some(done.as_fd()), None) == turn::Wake::Other {}
            worker.join().map_err(|_| Panicked)
        })
    }

    fn request_stop(&mut self, cause: StopCause, grace: Duration) {
        let kill_at = Instant::now() + grace;
        self.interrupt.set();
        match self.stop.as_mut() {
            Some(stop) => stop.kill_at = stop.kill_at.min(kill_at),
            None => self.stop = Some(Stop { cause, kill_at }),
        }
    }

    /// Says what a controller that just came must know.
    fn greet(&mut self) {
        self.link.send(&FromAgent::CheckedIn {
            version: crate::protocol::PROTOCOL_VERSION,
            attempt: self.spec.attempt.clone(),
            holder: self.holder.clone(),
            nonce: self.spec.nonce.clone(),
            pid: std::process::id(),
        });
        if let Begun::At { ms, .. } = self.begun {
            self.link.send(&FromAgent::Started { at_ms: ms });
        }
        for (index, step) in self.steps.iter().enumerate() {
            let (at_ms, log_start) = (step.started_ms, step.log_start);
            self.link.send(&FromAgent::StepStarted {
                index,
                at_ms,
                log_start,
            });
        }
        self.report_log();
        self.tell_record();
    }

    /// Tells how it ended, if it did; who reads the log gets all of it first.
    fn tell_record(&mut self) {
        if let Some(record) = &self.record
            && self.link.has_log(&self.log)
        {
            let record = record.clone();
            self.link.send(&FromAgent::Finished { record });
        }
    }

    fn report_log(&mut self) {
        self.clock.reported = self.log.len();
        self.clock.reported_at = Instant::now();
        self.link.send(&FromAgent::LogGrew {
            bytes: self.log.len(),
        });
    }

    /// What it may fetch from an object store and keep there, as far as there is time.
    fn transfers(&self) -> Transfers {
        Transfers::new(self.store.clone(), self.time_limit())
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.spec.grace_ms)
    }

    fn secret_paths(&self) -> impl Iterator<Item = PathBuf> {
        self.secret_files.iter().map(|file| self.dir.path().join(file))
    }
}

impl OutputPipe {
    pub(crate) fn open() -> std::io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // A smaller pipe is slower, no more.
        let _ = rustix::pipe::fcntl_setpipe_size(&read, 1 << 20);
        let flags = rustix::fs::fcntl_getfl(&read)?;
        rustix::fs::fcntl_setfl(&read, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self {
            read,
            write,
            buffer: vec![0; 256 << 10],
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// The end that steps write to.
    pub(crate) fn writer(&self) -> &OwnedFd {
        &self.write
    }
}

fn now_ms() -> u64 {
    to_ms(SystemTime::now())
}

fn to_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
