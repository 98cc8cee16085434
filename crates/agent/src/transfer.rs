//! Caches between this pod and an object store. A program of its own moves the bytes, so that this one, which every pod
//! gets, stays small and never calls out. Entry type: [`Transfers`].
//!
//! The URLs go to that program on its standard input: neither its arguments nor its variables show them.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::interrupt::Interrupt;
use crate::protocol::{FetchUrl, SecretText, StoreAccess, Transfer, TransferOrder};

/// The program, beside this one.
const PROGRAM: &str = "pipekeeper-transfer";
const CONNECT_MS: u64 = 10_000;
const STILL_MS: u64 = 30_000;
/// What any transfer may take, and what it gets more for each MiB: slower is no help to anybody.
const LEAST_MS: u64 = 60_000;
const MS_PER_MIB: u64 = 1_000;
/// How often the wish to end early is looked at.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// Bytes of the reason that is told.
const MOST_OF_REASON: u64 = 300;

/// What an attempt may fetch from an object store and keep there.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    store: StoreAccess,
    /// No transfer goes on after it.
    until: Option<Instant>,
}

impl Transfers {
    /// No cache is worth the action: a transfer gets half of the time that is left to that at most.
    pub(crate) fn new(store: StoreAccess, limit: Option<Instant>) -> Self {
        let now = Instant::now();
        let until = limit.map(|limit| now + limit.saturating_duration_since(now) / 2);
        Self { store, until }
    }

    /// Fetches the candidate of a cache; none if that is in no store.
    pub(crate) fn fetch(
        &self,
        cache: &str,
        file: &Path,
        interrupt: &Interrupt,
    ) -> Option<Result<(), String>> {
        let FetchUrl { url, bytes, .. } = self.store.caches.get(cache)?.fetch.as_ref()?;
        let order = self.order(Transfer::Get { most: *bytes }, (url, file), *bytes);
        Some(run(&order, interrupt))
    }

    /// The digest that the candidate of a cache must have; none if it comes from no store.
    pub(crate) fn digest(&self, cache: &str) -> Option<&str> {
        let fetch = self.store.caches.get(cache)?.fetch.as_ref()?;
        Some(&fetch.digest)
    }

    /// Keeps the archive of a cache; none if it goes into no store.
    pub(crate) fn keep(
        &self,
        cache: &str,
        file: &Path,
        bytes: u64,
        interrupt: &Interrupt,
    ) -> Option<Result<(), String>> {
        let url = self.store.caches.get(cache)?.keep.as_ref()?;
        let order = self.order(Transfer::Put, (url, file), bytes);
        Some(run(&order, interrupt))
    }

    fn order(&self, what: Transfer, (url, file): (&SecretText, &Path), bytes: u64) -> TransferOrder {
        TransferOrder {
            what,
            url: url.clone(),
            file: file.to_owned(),
            ca: self.store.ca.clone(),
            connect_ms: CONNECT_MS,
            still_ms: STILL_MS,
            total_ms: self.time_for(bytes),
        }
    }

    fn time_for(&self, bytes: u64) -> u64 {
        let enough = LEAST_MS + (bytes >> 20).saturating_mul(MS_PER_MIB);
        let left = self.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        enough.min(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Runs the program to its end, or ends it; why it did not do it.
fn run(order: &TransferOrder, interrupt: &Interrupt) -> Result<(), String> {
    if order.total_ms == 0 {
        return Err("there is no time left for it".to_owned());
    }
    let mut child = start(order).map_err(|error| format!("cannot start `{PROGRAM}`: {error}"))?;
    let reason = watch(&mut child, interrupt);
    if reason.is_err() {
        // It may have ended by itself.
        drop(child.kill());
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match reason? {
        _ if status.success() => Ok(()),
        reason if reason.is_empty() => Err(format!("`{PROGRAM}` ended with {status}")),
        reason => Err(reason),
    }
}

fn start(order: &TransferOrder) -> io::Result<Child> {
    let own: PathBuf = std::env::current_exe()?;
    let mut child = Command::new(own.with_file_name(PROGRAM))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(to) = child.stdin.take() {
        // One that does not read ends, and says why.
        drop(serde_json::to_writer(to, order));
    }
    Ok(child)
}

/// Reads what it says until it ends.
fn watch(child: &mut Child, interrupt: &Interrupt) -> Result<String, String> {
    let Some(said) = child.stdout.take() else {
        return Ok(String::new());
    };
    loop {
        if interrupt.is_set() {
            return Err("it was told to stop".to_owned());
        }
        let mut fds = [PollFd::from_borrowed_fd(said.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    // It says nothing before its end.
    let mut text = Vec::new();
    let read = said.take(MOST_OF_REASON).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
