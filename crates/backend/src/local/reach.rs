//! Finds out what became of an attempt, and does what that allows. Entry type: [`reach`]; it blocks.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use pipekeeper_agent::protocol::{AttemptSpec, ExitRecord};

use super::{
    LocalOptions,
    folder::{AliveLock, Folder, STOPPED_BEFORE, Standing},
    leftovers,
    spares::{Begun, Spares},
    supervisor,
};

const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);

/// What for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// It shall run.
    Start(Box<AttemptSpec>),
    /// It shall not run, or no longer.
    Stop,
    /// Somebody wants to know; one that was to start and did not is started.
    Observe,
    /// Its stream ended. One that lives is left to whoever is connected to it now.
    Settle,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Reached {
    /// A supervisor, and this is the stream to it.
    Connected(UnixStream),
    /// A supervisor, left alone.
    Alive,
    /// It ended.
    Finished(Box<ExitRecord>),
    /// Nothing, and nothing will come.
    Gone(String),
}

/// Looks at the attempt until it is clear what became of it.
pub(super) fn reach(
    options: &LocalOptions,
    spares: &Spares,
    folder: &Folder,
    purpose: &Purpose,
) -> io::Result<Reached> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match (folder.look()?, purpose) {
            (Standing::Absent, Purpose::Start(spec)) => {
                make_log_folder(spec)?;
                match spares.begin(folder, spec)? {
                    Begun::Connected(stream) => return Ok(Reached::Connected(stream)),
                    Begun::Unavailable => folder.create()?,
                    Begun::Exists => {}
                }
                continue;
            }
            (Standing::Absent, Purpose::Stop) => {
                folder.create()?;
                continue;
            }
            (Standing::Absent, Purpose::Observe | Purpose::Settle) => {
                return Ok(Reached::Gone("nothing is known of it here".to_owned()));
            }
            (Standing::Finished(record), _) => return Ok(Reached::Finished(record)),
            (Standing::Dead(reason), _) => {
                leftovers::kill(&folder.dir().workspace())?;
                return Ok(Reached::Gone(reason));
            }
            (Standing::Unstarted(lock), _) => return start_or_not(options, folder, lock, purpose),
            (Standing::Alive, Purpose::Settle) => return Ok(Reached::Alive),
            // Whoever holds the lock is about to listen, or about to end.
            (Standing::Alive, _) => match folder.connect() {
                Ok(stream) => return Ok(Reached::Connected(stream)),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => {}
            },
        }
        thread::sleep(pause);
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

fn start_or_not(
    options: &LocalOptions,
    folder: &Folder,
    lock: AliveLock,
    purpose: &Purpose,
) -> io::Result<Reached> {
    match purpose {
        Purpose::Start(spec) => {
            make_log_folder(spec)?;
            folder.write_spec(spec)?;
            supervisor::start(options, folder, lock).map(Reached::Connected)
        }
        Purpose::Observe if folder.dir().spec().exists() => {
            supervisor::start(options, folder, lock).map(Reached::Connected)
        }
        Purpose::Stop => {
            folder.void(lock)?;
            Ok(Reached::Gone(STOPPED_BEFORE.to_owned()))
        }
        Purpose::Observe | Purpose::Settle => Ok(Reached::Gone(format!(
            "its supervisor died before it started{}",
            Folder::last_words(lock)
        ))),
    }
}

fn make_log_folder(spec: &AttemptSpec) -> io::Result<()> {
    match spec.log.parent() {
        Some(folder) if !folder.is_dir() => fs::create_dir_all(folder),
        Some(_) | None => Ok(()),
    }
}
