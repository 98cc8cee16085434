//! The step that waits for a person, and the shell that the person gets beside it.
//!
//! [`hold`] runs in the place of a step: in its container, its folder and its environment. It does nothing but be there
//! until it is ended or its time is over. [`shell`] is started in the same container on a terminal, and takes folder and
//! variables over from the process that holds.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use crate::spawn::find;

/// The argument that a process is known by that holds.
const HOLD: &[u8] = b"hold";
/// The shells that a person may like, best first.
const SHELLS: [&str; 3] = ["bash", "sh", "ash"];
/// What a shell says that does not find a program.
const NOT_FOUND: u8 = 127;
/// How long the process that holds may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits.
pub(crate) fn hold(limit: Duration) -> ExitCode {
    thread::sleep(limit);
    ExitCode::SUCCESS
}

/// Becomes a shell in the place of the process that holds; `term` is what the person's terminal is called.
pub(crate) fn shell(term: &str) -> ExitCode {
    let place = match Place::await_one(Path::new("/proc")) {
        Ok(place) => place,
        Err(error) => return fail(&format!("the step's surroundings are not there: {error}"), 1),
    };
    let mut env = place.env;
    env.insert("TERM".into(), term.into());
    let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let found = SHELLS
        .iter()
        .find_map(|&name| Some((name, find(name, &place.folder, &path)?)));
    let Some((name, file)) = found else {
        let names = SHELLS.join("`, `");
        return fail(
            &format!("this image has no shell: none of `{names}` is on its PATH"),
            NOT_FOUND,
        );
    };
    let error = Command::new(file)
        .arg0(name)
        .env_clear()
        .envs(env)
        .current_dir(&place.folder)
        .exec();
    fail(&format!("cannot start `{name}`: {error}"), 126)
}

fn fail(text: &str, code: u8) -> ExitCode {
    // The terminal is a person's: its lines end where it begins anew.
    drop(write!(io::stderr(), "pipekeeper: {text}\r\n"));
    ExitCode::from(code)
}

/// Where a step is, and what it finds there.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    folder: PathBuf,
    env: BTreeMap<OsString, OsString>,
}

impl Place {
    /// The place of the process that holds, once it does.
    fn await_one(proc: &Path) -> io::Result<Self> {
        let begun = Instant::now();
        loop {
            match Self::find(proc) {
                Ok(Some(place)) => return Ok(place),
                Ok(None) if begun.elapsed() > PATIENCE => return Err(io::ErrorKind::NotFound.into()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Ok(None) | Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    fn find(proc: &Path) -> io::Result<Option<Self>> {
        for entry in fs::read_dir(proc)? {
            let process = entry?.path();
            // It is no process, or gone by now.
            let Ok(words) = fs::read(process.join("cmdline")) else {
                continue;
            };
            if is_holding(&words) {
                return Self::of(&process).map(Some);
            }
        }
        Ok(None)
    }

    fn of(process: &Path) -> io::Result<Self> {
        let text = fs::read(process.join("environ"))?;
        let env = text.split(|byte| *byte == 0).filter_map(|pair| {
            let at = memchr::memchr(b'=', pair)?;
            let (name, value) = pair.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            Some((OsStr::from_bytes(name).into(), OsStr::from_bytes(value).into()))
        });
        Ok(Self {
            env: env.collect(),
            folder: fs::read_link(process.join("cwd"))?,
        })
    }
}

/// Whether these are the words of the program that holds: `…/agent hold SECONDS`.
fn is_holding(words: &[u8]) -> bool {
    let mut words = words.split(|byte| *byte == 0);
    words.next().is_some_and(|program| program.ends_with(b"/agent")) && words.next() == Some(HOLD)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_place_is_that_of_the_process_that_holds() {
        let proc = tempfile::tempdir().unwrap();
        let process = |id: &str, words: &[u8]| {
            let folder = proc.path().join(id);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("cmdline"), words).unwrap();
            fs::write(folder.join("environ"), b"A=1=2\0HOME=/pipe/home\0odd\0").unwrap();
            symlink("/workspace/web", folder.join("cwd")).unwrap();
        };
        process("1", b"/pipe/tools/agent\0step\x002\0");
        process("7", b"sh\0-c\0hold\0");
        assert_eq!(Place::find(proc.path()).unwrap(), None);
        process("9", b"/pipe/tools/agent\0hold\x003600\0");
        let place = Place::find(proc.path()).unwrap().unwrap();
        let env = [("A", "1=2"), ("HOME", "/pipe/home")];
        let expected = Place {
            folder: "/workspace/web".into(),
            env: env.map(|(name, value)| (name.into(), value.into())).into(),
        };
        assert_eq!(place, expected);
    }
}
