//! From the start of the process to the first step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{getpid, set_child_subreaper, setsid};

use super::{Begun, Clock, Equipment, Farewell, OutputPipe, Panicked, Supervisor, Ticket, now_ms, to_ms};
use crate::interrupt::Interrupt;
use crate::link::Link;
use crate::log::LogSink;
use crate::mask::Masker;
use crate::pod::crew::Crew;
use crate::protocol::{AttemptDir, AttemptSpec, FileError, FromAgent, RecordOutcome, StoreAccess};
use crate::signals::Signals;
use crate::spare;
use crate::workspace;

/// How long nobody need come before the ticket.
const PATIENCE: Duration = Duration::from_secs(600);

/// Why a supervisor could not start; nothing of the attempt has happened then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot {what}")]
    Os {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Names what the operating system refused.
pub(crate) fn os(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Os { what, source }
}

/// Opens the lock of an attempt's folder.
pub(crate) fn lock_folder(dir: &AttemptDir) -> Result<File, StartError> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.lock());
    lock.map_err(os("open the lock"))
}

/// A holder that nobody else has.
pub(crate) fn draw_holder() -> Result<String, StartError> {
    let mut holder = [0; 16];
    getrandom::fill(&mut holder)
        .map_err(io::Error::other)
        .map_err(os("get random bytes"))?;
    Ok(hex::encode(holder))
}

/// Takes charge of an attempt; none if another supervisor has it or its record is there already.
pub(crate) fn start(dir: AttemptDir) -> Result<Option<Supervisor>, StartError> {
    // It fails for a group's leader, which then shares its session with whoever started it.
    let _ = setsid();
    set_child_subreaper(Some(getpid()))
        .map_err(io::Error::from)
        .map_err(os("become a subreaper"))?;
    let lock = lock_folder(&dir)?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || dir.read_record()?.is_some() {
        return Ok(None);
    }
    let holder = draw_holder()?;
    let listener = rustix::stdio::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(os("use standard input"))?;
    let listener = UnixListener::from(listener);
    let Some(dir) = spare::wait(dir, &listener).map_err(os("wait for an attempt"))? else {
        return Ok(None);
    };
    let spec = dir.read_spec()?;
    let signals = Signals::catch().map_err(os("catch signals"))?;
    let link = Link::new(listener).map_err(os("listen on standard input"))?;
    let output = OutputPipe::open().map_err(os("make a pipe"))?;
    Supervisor::new(dir, spec, lock, holder, (link, None, output, signals)).map(Some)
}

impl Supervisor {
    /// Takes charge of an attempt in a pod whose runners are all there. `mark` stands before its output in the log of
    /// the container.
    pub(crate) fn in_pod(
        equipment: Equipment,
        spec: AttemptSpec,
        mark: Option<&str>,
    ) -> Result<Self, StartError> {
        let Equipment {
            dir,
            lock,
            holder,
            link,
            crew,
            output,
            signals,
        } = equipment;
        let mut supervisor = Self::new(dir, spec, lock, holder, (link, Some(crew), output, signals))?;
        supervisor.log.copy_to_stdout(mark);
        Ok(supervisor)
    }

    fn new(
        dir: AttemptDir,
        spec: AttemptSpec,
        lock: File,
        holder: String,
        (link, crew, output, signals): (Link, Option<Crew>, OutputPipe, Signals),
    ) -> Result<Self, StartError> {
        let now = Instant::now();
        Ok(Self {
            holder,
            lock,
            signals,
            link,
            crew,
            log: LogSink::open(&spec.log, spec.log_limit).map_err(os("open the log"))?,
            output,
            ticket: Ticket::Awaited,
            store: StoreAccess::default(),
            begun: Begun::No,
            secrets: Vec::new(),
            secret_files: Vec::new(),
            steps: Vec::new(),
            outputs: std::collections::BTreeMap::new(),
            caches: Vec::new(),
            results: super::end::Results::default(),
            shell: None,
            stop: None,
            interrupt: Interrupt::default(),
            clock: Clock {
                reported: 0,
                reported_at: now,
                heard_at: now,
                silent_at: now,
            },
            record: None,
            farewell: Farewell::Awaited,
            dir,
            spec: Arc::new(spec),
        })
    }
}

impl Supervisor {
    /// Waits for the ticket and takes it; the outcome if there will be none.
    pub(super) fn take_ticket(&mut self) -> Result<(), RecordOutcome> {
        let errored = |reason: String| RecordOutcome::Errored { reason };
        match self.dir.read_ticket() {
            Ok(None) => self.greet(),
            Ok(Some(_)) => {
                // Its steps may have run, so the attempt did begin.
                let ms = fs::metadata(self.dir.ticket())
                    .and_then(|file| file.modified())
                    .map_or(0, to_ms);
                self.begun = Begun::At {
                    ms,
                    instant: Instant::now(),
                };
                self.greet();
                return Err(errored("the supervisor died while the attempt ran".to_owned()));
            }
            Err(error) => return Err(errored(crate::error_text(&error))),
        }
        let (secrets, mask) = loop {
            // A stop that came with the ticket, in whatever order, wins.
            if let Some(outcome) = self.stopped() {
                return Err(outcome);
            }
            match std::mem::replace(&mut self.ticket, Ticket::Awaited) {
                Ticket::Awaited => {}
                Ticket::Granted { secrets, mask } => break (secrets, mask),
                Ticket::Taken | Ticket::Refused => return Err(RecordOutcome::Refused),
            }
            let patience = self.link.alone_since().map(|since| since + PATIENCE);
            if patience.is_some_and(|patience| patience <= Instant::now()) {
                return Err(errored("no controller came to give the ticket".to_owned()));
            }
            self.turn(None, patience);
        };
        let made = File::options()
            .write(true)
            .create_new(true)
            .open(self.dir.ticket());
        made.and_then(|mut file| file.write_all(self.holder.as_bytes()))
            .map_err(|error| errored(format!("cannot take the ticket: {error}")))?;
        self.ticket = Ticket::Taken;
        let values = secrets.iter().map(|secret| &secret.value).chain(&mask);
        self.log.mask(Masker::new(values.map(|value| value.reveal())));
        self.secrets = secrets;
        let ms = now_ms();
        self.begun = Begun::At {
            ms,
            instant: Instant::now(),
        };
        self.link.send(&FromAgent::Started { at_ms: ms });
        Ok(())
    }

    /// Makes everything ready for the first step, or says why not.
    pub(super) fn prepare(&mut self) -> Result<(), String> {
        workspace::make_folders(&self.dir).map_err(|error| crate::error_text(&error))?;
        if workspace::has_content(&self.spec) {
            let (dir, spec, transfers) = (self.dir.clone(), Arc::clone(&self.spec), self.transfers());
            let filled = self.beside(move |interrupt| workspace::fill(&dir, &spec, &transfers, interrupt));
            let prepared = filled
                .map_err(|Panicked| "filling the workspace went wrong".to_owned())?
                .map_err(|error| crate::error_text(&error))?;
            self.caches = prepared.caches;
            for note in &prepared.notes {
                self.log.note(note);
            }
        }
        let memory = self.spec.pod.as_ref().and_then(|pod| pod.secrets.as_deref());
        for (number, secret) in self.secrets.iter().enumerate() {
            let written = workspace::write_secret(&self.dir, memory, number, secret);
            let files = written.map_err(|error| format!("secret file: {}", crate::error_text(&error)))?;
            self.secret_files.extend(files);
        }
        Ok(())
    }
}
